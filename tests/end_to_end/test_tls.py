"""TLS on both ports: who is let in, as whom, and that nothing else changes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gevent import ssl
from structlog.testing import LogCapture

from maze import tls as maze_tls
from maze.outbox import SEND_BYTES
from maze.session import Session

from .certificates import Authority, Certificate, Wire
from .commands import Command
from .peers import Client, Peer, Source, broadcasts, joined, messages, until
from .running import Maze, shrink_buffers

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture
def wire(authority: Authority) -> Wire:
    """Both ports speak TLS."""
    return Wire(authority)


@pytest.fixture
def other_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other authority"))


def _rejected(log: LogCapture) -> list[Any]:
    return [entry for entry in log.entries if entry["event"] == "handshake_rejected"]


def _await_rejected(maze: Maze, port: str, reason: str, count: int = 1) -> None:
    part = maze.server.clients if port == "client" else maze.server.source
    counts = part.gate.rejects.counts
    until(lambda: dict(counts) == {reason: count}, f"{count} rejected as {reason}")


def _connect(maze: Maze, port: str, tls: ssl.SSLContext | None) -> Peer:
    """A connection, agreed on or not: who is refused by TLS 1.3 finds out later."""
    address = maze.client_address if port == "client" else maze.source_address
    return (Client if port == "client" else Source)(address, tls=tls)


# What it changes: nothing.


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_events_go_through(maze: Maze, authority: Authority, version: ssl.TLSVersion) -> None:
    client = maze.client(7, tls=authority.context(version=version))
    stream = joined(messages(1, 20_001, 7))
    maze.source().send(stream)
    client.expect(stream)
    assert client.sock.version() == version.name.replace("_", ".")  # type: ignore[attr-defined]


def test_only_one_of_the_ports_may_speak_it(authority: Authority) -> None:
    server = authority.server
    half = Maze(client_tls_cert=server.cert, client_tls_key=server.key)
    try:
        client = Client(half.client_address, tls=authority.context())
        client.send(b"1\n")
        half.await_sessions(1)
        half.source().send(b"1|B\n")
        client.expect(b"1|B\n")
        client.close()
    finally:
        half.close()


def test_a_client_that_says_all_in_one_record_is_served(maze: Maze) -> None:
    client = maze.client(b"7\n" + b"more" * 1_000)
    until(lambda: maze.server.clients.discarded_bytes == 4_000, "the rest to be discarded")
    maze.source().send(b"1|B\n")
    client.expect(b"1|B\n")


def test_a_client_that_says_its_id_and_leaves_at_once_has_left(maze: Maze) -> None:
    client = maze.stranger()
    client.send(b"7\n")
    client.half_close()
    client.expect_closed()
    until(lambda: dict(maze.server.clients.sessions_closed) == {"left": 1}, "it to have left")


@pytest.mark.parametrize(
    ("leave", "reason"),
    [(Client.close, "left"), (Client.half_close, "left"), (Client.reset, "reset")],
    ids=["close", "close_notify", "reset"],
)
def test_a_client_that_goes_is_noticed_by_nobody_else(
    maze: Maze, leave: Callable[[Client], None], reason: str
) -> None:
    one, two = maze.clients(1, 2)
    source = maze.source()
    source.send(b"1|B\n")
    one.expect(b"1|B\n")
    leave(one)
    maze.await_sessions(1)
    assert dict(maze.server.clients.sessions_closed) == {reason: 1}
    source.send(b"2|B\n")
    two.expect(b"1|B\n2|B\n")


def test_the_end_of_a_drain_is_told_in_terms_of_tls(maze: Maze) -> None:
    client = maze.client(1)
    maze.source().send(b"1|B\n")
    client.expect(b"1|B\n")
    maze.server.drain()
    client.expect_closed()
    assert client.ended_by is None


def test_a_large_batch_is_left_to_the_writer(
    start: Callable[..., Maze], monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[int] = []
    flush = Session.flush

    def spy(session: Session) -> None:
        before = session.sent_bytes
        flush(session)
        flushed.append(session.sent_bytes - before)

    monkeypatch.setattr(Session, "flush", spy)
    maze = start()
    client, source = maze.client(1), maze.source()
    stream = joined(messages(1, 30_001, 1))
    source.send(joined(messages(2, 30_001, 1)))  # all wait for the first
    until(lambda: maze.server.router.reorder.waiting == 29_999, "the events to wait")
    source.send(joined(messages(1, 2, 1)))
    client.expect(stream)
    assert 0 < max(flushed) <= SEND_BYTES


def test_what_is_encrypted_and_waits_is_counted_as_held(
    start: Callable[..., Maze], monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_buffers(monkeypatch)
    maze = start(client_buffer=32 * 1024)
    client = maze.client(1, small_buffers=True)
    stream = joined(messages(1, 20_001, 1))
    maze.source().send_in_background(stream)
    session = maze.session(1)
    until(lambda: session.queued_bytes > 32 * 1024, "the queue to be full")
    waiting = session._tls.unsent_bytes  # type: ignore[attr-defined]
    assert 0 < waiting <= maze_tls.MOST_UNSENT_BYTES
    assert maze.server.router.held.bytes == session.queued_bytes + waiting
    client.expect(stream)
    until(lambda: not maze.server.router.held.bytes, "all to be freed")


def test_a_record_that_was_tampered_with_ends_the_session(maze: Maze) -> None:
    client, other = maze.client(1), maze.client(2)
    os.write(client.sock.fileno(), b"\x17\x03\x03\x00\x20" + b"x" * 32)
    maze.await_sessions(1)
    assert dict(maze.server.clients.sessions_closed) == {"reset": 1}
    maze.source().send(b"1|B\n")
    other.expect(b"1|B\n")


# The source.


def test_a_source_that_ends_properly_has_all_delivered(maze: Maze, log: LogCapture) -> None:
    client, source = maze.client(1), maze.source()
    stream = joined(broadcasts(1, 50_001))
    source.send(stream)
    source.half_close()
    client.expect(stream)
    source.expect_closed()
    ended_by = source.ended_by
    assert isinstance(ended_by, ssl.SSLZeroReturnError), "the server's end is one of TLS's, too"
    until(lambda: _events(log, "source_disconnected"), "the source to be gone")
    assert not _events(log, "source_cut_off")


@pytest.mark.parametrize("cut", [Source.close, Source.reset], ids=["close", "reset"])
def test_a_source_that_is_cut_off_has_delivered_what_came(
    maze: Maze, log: LogCapture, cut: Callable[[Source], None]
) -> None:
    client, source = maze.client(1), maze.source()
    stream = joined(broadcasts(1, 1_001))
    source.send(stream + b"1001|")
    client.expect(stream)
    cut(source)
    until(lambda: _events(log, "source_disconnected"), "the source to be gone")
    (line,) = _events(log, "source_cut_off")
    if cut is Source.close:
        assert "close_notify" in line["error"]
    assert maze.rejects() == {"half_line": 1}
    maze.source().send(b"1|B\n")
    client.expect(b"1|B\n")


def _events(log: LogCapture, name: str) -> list[Any]:
    return [entry for entry in log.entries if entry["event"] == name]


# Who is not let in.


@pytest.mark.parametrize("port", ["client", "source"])
@pytest.mark.parametrize("said", [b"7\n", b"1|B\n", b"GET / HTTP/1.1\r\n\r\n", b"\x80\x00"])
def test_plain_text_is_one_line_of_the_log(
    maze: Maze, log: LogCapture, port: str, said: bytes
) -> None:
    peer = _connect(maze, port, None)
    peer.send(said)
    peer.expect_closed()
    _await_rejected(maze, port, "plain_text")
    (line,) = _rejected(log)
    assert (line["log_level"], line["reason"]) == ("warning", "plain_text")
    assert line["received"] == said.decode("latin-1").encode("unicode_escape").decode()
    assert port in line


@pytest.mark.filterwarnings("ignore:.*TLSv1_1 is deprecated")
@pytest.mark.parametrize("port", ["client", "source"])
def test_tls_1_1_is_refused(maze: Maze, log: LogCapture, authority: Authority, port: str) -> None:
    with pytest.raises(OSError, match="alert protocol version"):
        _connect(maze, port, authority.context(version=ssl.TLSVersion.TLSv1_1))
    _await_rejected(maze, port, "tls_failed")
    (line,) = _rejected(log)
    assert line["detail"] == "unsupported protocol"


@pytest.mark.parametrize("port", ["client", "source"])
@pytest.mark.parametrize("leave", [Peer.close, Peer.reset, Peer.half_close])
@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01"])
def test_who_leaves_before_tls_is_agreed_on_is_counted(
    maze: Maze, port: str, leave: Callable[[Peer], None], said: bytes
) -> None:
    peer = _connect(maze, port, None)
    peer.send(said)
    leave(peer)
    _await_rejected(maze, port, "left")


def test_300_stalled_handshakes_hold_nobody_up(start: Callable[..., Maze], log: LogCapture) -> None:
    maze = start(handshake_timeout=4.0)
    stalled = [_connect(maze, "client", None) for _ in range(300)]
    for peer in stalled[::2]:
        peer.send(b"\x16\x03\x01\x02\x00")  # the head of a record, whose rest never comes
    client = maze.client(1)
    stream = joined(broadcasts(1, 10_001))
    maze.source().send(stream)
    client.expect(stream)
    assert not maze.server.clients.handshake_rejects, "all of that was before the first timeout"
    _await_rejected(maze, "client", "timeout", 300)
    assert len(_rejected(log)) <= 3
    for peer in stalled:
        peer.expect_closed()
        peer.close()
    assert len(maze.sessions) == 1


def test_stalled_handshakes_on_the_source_port_are_bounded(
    start: Callable[..., Maze], log: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maze.source.MOST_OPENING", 3)
    maze = start(handshake_timeout=0.3)
    stalled = [_connect(maze, "source", None) for _ in range(5)]
    _await_rejected(maze, "source", "busy", 2)
    for peer in stalled:
        peer.expect_closed()
    source, client = maze.source(), maze.client(1)
    source.send(b"1|B\n")
    client.expect(b"1|B\n")
    assert maze.server.source.refused == 5


# Mutual TLS.


@pytest.fixture
def mutual(start: Callable[..., Maze], authority: Authority) -> Callable[..., Maze]:
    """Start a server that wants certificates on both ports."""

    def start_one(**settings: Any) -> Maze:
        return start(source_tls_ca=authority.cert, client_tls_ca=authority.cert, **settings)

    return start_one


@pytest.fixture
def bad_certificates(
    authority: Authority, other_authority: Authority
) -> dict[str, Certificate | None]:
    return {
        "none": None,
        "another authority's": other_authority.issue("7"),
        "expired": authority.issue("7", expired=True),
    }


@pytest.mark.parametrize("port", ["client", "source"])
@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
@pytest.mark.parametrize(
    ("which", "detail"),
    [
        ("none", "peer did not return a certificate"),
        ("another authority's", "certificate signature failure|unable to get local issuer"),
        ("expired", "certificate has expired"),
    ],
)
def test_a_certificate_that_does_not_hold_is_refused(
    mutual: Callable[..., Maze],
    log: LogCapture,
    authority: Authority,
    bad_certificates: dict[str, Certificate | None],
    port: str,
    version: ssl.TLSVersion,
    which: str,
    detail: str,
) -> None:
    maze = mutual()
    context = authority.context(bad_certificates[which], version)
    try:
        _connect(maze, port, context).expect_closed()
    except OSError:  # TLS 1.2 says so at once
        assert version is ssl.TLSVersion.TLSv1_2
    _await_rejected(maze, port, "tls_failed")
    (line,) = _rejected(log)
    assert any(each in line["detail"] for each in detail.split("|")), line["detail"]
    assert not maze.sessions


def test_a_certificate_of_the_authority_is_let_in(
    mutual: Callable[..., Maze], authority: Authority
) -> None:
    maze = mutual()
    context = authority.context(authority.issue())
    client = maze.client(1, tls=context)
    source = _connect(maze, "source", context)
    source.send(b"1|B\n")
    client.expect(b"1|B\n")


# Identity.

NAMED = [
    (["7"], b"7"),
    (["007"], b"7"),
    (["7"], b"0007"),
    (["", "maze:user:7"], b"7"),
    (["somebody", "https://example.test/", "maze:user:007"], b"7"),
    (["8", "maze:user:7"], b"8"),
    (["8", "maze:user:7", "maze:user:9"], b"9"),
]
OTHERS = [
    (["8"], b"7"),
    ([""], b"7"),
    (["", "maze:user:8"], b"7"),
    (["", "maze:users:7"], b"7"),
    (["", "maze:user:7/admin"], b"7"),
    (["somebody"], b"0"),
    (["-7"], b"7"),
    (["\u0667"], b"7"),
    (["17"], b"7"),
]


@pytest.mark.parametrize(("names", "says"), NAMED, ids=repr)
def test_a_client_may_be_whom_its_certificate_names(
    mutual: Callable[..., Maze], authority: Authority, names: list[str], says: bytes
) -> None:
    maze = mutual(client_identity="certificate")
    client = maze.client(says + b"\n", tls=authority.context(authority.issue(*names)))
    source = _connect(maze, "source", authority.context(authority.issue()))
    source.send(b"1|P|1|%d\n" % int(says))
    client.expect(b"1|P|1|%d\n" % int(says))


@pytest.mark.parametrize(("names", "says"), OTHERS, ids=repr)
def test_a_client_may_be_nobody_else(
    mutual: Callable[..., Maze],
    log: LogCapture,
    authority: Authority,
    names: list[str],
    says: bytes,
) -> None:
    maze = mutual(client_identity="certificate")
    client = _connect(maze, "client", authority.context(authority.issue(*names)))
    client.send(says + b"\n")
    client.expect_closed()
    _await_rejected(maze, "client", "other_user")
    (line,) = _rejected(log)
    assert line["detail"].startswith(f"says {says.decode()}, its certificate ")
    assert not maze.server.clients.sessions_closed


# Against a peer that somebody else wrote, and that can do what Python's cannot.


@pytest.fixture
def s_client(maze: Maze, authority: Authority) -> Iterator[Callable[..., Command]]:
    """Start ``openssl s_client`` as user 7."""
    openssl = shutil.which("openssl")
    if not openssl:
        pytest.skip("there is no openssl command")
    running: list[Command] = []

    def start_one(*arguments: str) -> Command:
        host, port = maze.client_address
        command = [openssl, "s_client", "-connect", f"{host}:{port}", "-CAfile", authority.cert]
        running.append(Command([*command, "-verify_return_error", *arguments]))
        running[-1].say(b"7\n")
        maze.await_sessions(1)
        return running[-1]

    yield start_one
    for command in running:
        command.close()


@pytest.mark.parametrize(
    "arguments",
    [
        ["-tls1_2"],
        ["-tls1_3"],
        ["-tls1_2", "-maxfraglen", "512"],
        ["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"],
    ],
    ids=" ".join,
)
def test_openssl_is_served(
    maze: Maze, s_client: Callable[..., Command], arguments: list[str]
) -> None:
    client = s_client("-quiet", *arguments)
    stream = joined(messages(1, 20_001, 7))
    maze.source().send_in_background(stream)
    client.expect(stream)


def test_key_updates_under_load_do_no_harm(
    maze: Maze, s_client: Callable[..., Command], tmp_path: Path
) -> None:
    said = tmp_path / "messages"
    client = s_client("-tls1_3", "-msg", "-msgfile", str(said))
    source = maze.source()
    for turn in range(20):
        client.say(b"K\n")  # s_client's word for: let both of us change our keys
        stream = joined(messages(1 + turn * 100, 101 + turn * 100, 7))
        source.send(stream)
        client.expect_end_with(stream)
    client.end_input()
    maze.await_sessions(0)
    client.status()
    updates = [line for line in said.read_text().splitlines() if "KeyUpdate" in line]
    assert any(line.startswith("<<<") for line in updates), "the server has changed its keys, too"


def test_a_peer_that_makes_tls_answer_is_answered(
    maze: Maze, s_client: Callable[..., Command], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[bytes] = []
    writev = os.writev

    def refuse_once(descriptor: int, parts: Any) -> int:
        if not refused:
            refused.append(b"".join(parts))
            raise BlockingIOError
        return writev(descriptor, parts)

    client = s_client("-tls1_2", "-msg")
    session = maze.session(7)
    monkeypatch.setattr("maze.tls.os.writev", refuse_once)
    client.say(b"R\n")  # s_client's word for: let us begin anew, which the server answers
    until(lambda: refused, "the answer")
    until(lambda: not maze.sessions or not session.writing, "the writer to have sent it")
    assert session._tls.unsent_bytes == 0  # type: ignore[attr-defined]


def test_a_peer_that_makes_tls_answer_and_does_not_read_is_closed(
    maze: Maze, s_client: Callable[..., Command], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = s_client("-tls1_2")
    monkeypatch.setattr(maze_tls, "MOST_UNSENT_BYTES", -1)  # as if it did not
    client.say(b"R\n")
    maze.await_sessions(0)
    assert dict(maze.server.clients.sessions_closed) == {"reset": 1}
