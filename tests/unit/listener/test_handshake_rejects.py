"""Counting and logging of rejected handshakes."""

from structlog.testing import capture_logs

from maze.listener.handshake_rejects import HandshakeError, HandshakeReason, HandshakeRejects
from maze.log.processors import RateLimit
from maze.net.peer import Peer


def test_every_reject_is_counted_and_one_a_second_is_logged() -> None:
    now = 1000.0
    rejects = HandshakeRejects("client")
    with capture_logs([RateLimit(clock=lambda: now)]) as lines:
        for _ in range(3):
            rejects.record(HandshakeError(HandshakeReason.BAD_USER, b"x\n"), Peer(("here", 1)))
        rejects.record(
            HandshakeError(HandshakeReason.ADDRESS, detail="not allowed"), Peer(("there", 2))
        )
        now += 1
        rejects.record(HandshakeError(HandshakeReason.BAD_USER, b"y\n"), Peer(("here", 3)))
    assert rejects.counts == {HandshakeReason.BAD_USER: 4, HandshakeReason.ADDRESS: 1}
    about = {"event": "handshake_rejected", "log_level": "warning"}
    assert lines == [
        about | {"reason": "bad_user", "client": "here:1", "received": "x\\n"},
        about | {"reason": "address", "client": "there:2", "detail": "not allowed"},
        about | {"reason": "bad_user", "client": "here:3", "received": "y\\n", "suppressed": 2},
    ]
