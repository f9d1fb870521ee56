"""Why a connection is not let in: one list of reasons for both ports, counted and logged."""

from collections import Counter
from enum import StrEnum

import structlog

from maze.log.text import escaped
from maze.net.peer import Peer

log = structlog.get_logger()


class HandshakeReason(StrEnum):
    """Why a client or a source was not let in."""

    BAD_USER = "bad_user"
    """the line is not a user id"""
    TOO_LONG = "too_long"
    """the line is longer than the limit"""
    HTTP = "http"
    """the line is an HTTP request line"""
    TIMEOUT = "timeout"
    """the line, or what TLS needs before it, did not come in time"""
    LEFT = "left"
    """the peer left before it had sent its line, or all that TLS needs before it"""
    ADDRESS = "address"
    """the peer's address is in none of the ranges that are let in"""
    BUSY = "busy"
    """as many as the port takes at a time are in their handshake"""
    PLAIN_TEXT = "plain_text"
    """the port speaks TLS, the peer does not"""
    TLS_FAILED = "tls_failed"
    """the peer's TLS version, ciphers or certificate will not do"""
    OTHER_USER = "other_user"
    """the client's certificate names another user than the client"""
    NOT_A_SOURCE = "not_a_source"
    """the right authority signed the certificate, but it does not name a source"""
    FAILED = "failed"
    """by a fault of the server, whose traceback is in the log"""


class HandshakeError(Exception):
    """A peer is not let in; carries the reason, what it sent, and what more there is to say."""

    def __init__(self, reason: HandshakeReason, received: bytes = b"", detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.received = received
        self.detail = detail


class HandshakeRejects:
    """Counts who was not let in on one port, and logs it."""

    def __init__(self, port: str) -> None:
        self.counts: Counter[HandshakeReason] = Counter()
        self._port = port

    def record(self, error: HandshakeError, peer: Peer) -> None:
        """Count and log one peer that was not let in."""
        self.counts[error.reason] += 1
        details: dict[str, object] = {"reason": error.reason.value, self._port: peer}
        if error.detail:
            details["detail"] = error.detail
        else:
            details["received"] = escaped(error.received)
        write = log.debug if error.reason is HandshakeReason.LEFT else log.warning
        write("handshake_rejected", **details)

    def fail(self, peer: Peer) -> None:
        """Count a peer that an exception, which is being handled, cost its connection."""
        self.counts[HandshakeReason.FAILED] += 1
        log.exception("handshake_failed", **{self._port: peer})
