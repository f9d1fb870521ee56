"""TLS on both ports: who is admitted, as whom, and that nothing else changes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from gevent import ssl
from structlog.testing import LogCapture

from maze.listener import tls as maze_tls
from maze.net.connection import SEND_BYTES
from maze.pipeline import implementation as twin
from maze.pipeline import router
from maze.pipeline.outbox import Outbox
from maze.pipeline.session import Session

from .certificates import Authority, Wire
from .peers import Client, Peer, Source, broadcasts, joined, messages, until
from .running import Maze, shrink_buffers
from .tls_ports import VERSIONS, await_rejected, connect, rejected


@pytest.fixture
def wire(authority: Authority) -> Wire:
    """Use TLS on both ports."""
    return Wire(authority)


# Nothing changes but the encryption.


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_events_are_delivered(maze: Maze, authority: Authority, version: ssl.TLSVersion) -> None:
    client = maze.client(7, tls=authority.context(version=version))
    stream = joined(messages(1, 20_001, 7))
    maze.source().send(stream)
    client.expect(stream)
    assert client.sock.version() == version.name.replace("_", ".")  # type: ignore[attr-defined]


def test_tls_on_only_one_of_the_ports(authority: Authority) -> None:
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


def test_data_after_the_id_in_the_same_record_is_discarded(maze: Maze) -> None:
    client = maze.client(b"7\n" + b"more" * 1_000)
    until(lambda: maze.server.sessions.discarded_bytes == 4_000, "the rest to be discarded")
    maze.source().send(b"1|B\n")
    client.expect(b"1|B\n")


def test_a_client_that_leaves_right_after_its_id_is_noticed(maze: Maze) -> None:
    client = maze.stranger()
    client.send(b"7\n")
    client.half_close()
    client.expect_closed()
    until(lambda: dict(maze.server.sessions.closed) == {"left": 1}, "the session to end")


@pytest.mark.parametrize(
    ("leave", "reason"),
    [(Client.close, "left"), (Client.half_close, "left"), (Client.reset, "reset")],
    ids=["close", "close_notify", "reset"],
)
def test_a_client_that_leaves_does_not_affect_the_others(
    maze: Maze, leave: Callable[[Client], None], reason: str
) -> None:
    one, two = maze.clients(1, 2)
    source = maze.source()
    source.send(b"1|B\n")
    one.expect(b"1|B\n")
    leave(one)
    maze.await_sessions(1)
    assert dict(maze.server.sessions.closed) == {reason: 1}
    source.send(b"2|B\n")
    two.expect(b"1|B\n2|B\n")


def test_a_drain_ends_with_close_notify(maze: Maze) -> None:
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

    def spy(sessions: list[Session], limit: int) -> list[Outbox]:
        before = [session.sent_bytes for session in sessions]
        full = twin.flush_all(sessions, limit)
        for session, sent_bytes in zip(sessions, before, strict=True):
            flushed.append(session.sent_bytes - sent_bytes)
        return full

    monkeypatch.setattr(router, "flush_all", spy)
    maze = start()
    client, source = maze.client(1), maze.source()
    stream = joined(messages(1, 30_001, 1))
    source.send(joined(messages(2, 30_001, 1)))  # all wait for the first event
    until(lambda: maze.server.intake.reorder.waiting == 29_999, "the events to wait")
    source.send(joined(messages(1, 2, 1)))
    client.expect(stream)
    assert 0 < max(flushed) <= SEND_BYTES


def test_encrypted_bytes_that_are_not_sent_count_as_held(
    start: Callable[..., Maze], monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_buffers(monkeypatch)
    maze = start(client_buffer=32 * 1024)
    client = maze.client(1, small_buffers=True)
    stream = joined(messages(1, 20_001, 1))
    maze.source().send_in_background(stream)
    session = maze.session(1)
    until(lambda: session.held_bytes > 32 * 1024, "the queue to be full")
    waiting = session.connection.unsent_bytes
    assert 0 < waiting <= maze_tls.MAX_UNSENT_BYTES
    assert maze.server.router.queued_memory.bytes == session.held_bytes + waiting
    client.expect(stream)
    until(lambda: not maze.server.router.queued_memory.bytes, "all memory to be freed")


def test_a_manipulated_record_ends_the_session(maze: Maze) -> None:
    client, other = maze.client(1), maze.client(2)
    os.write(client.sock.fileno(), b"\x17\x03\x03\x00\x20" + b"x" * 32)
    maze.await_sessions(1)
    assert dict(maze.server.sessions.closed) == {"reset": 1}
    maze.source().send(b"1|B\n")
    other.expect(b"1|B\n")


# The source.


def test_all_events_of_a_source_that_ends_with_close_notify_are_delivered(
    maze: Maze, log: LogCapture
) -> None:
    client, source = maze.client(1), maze.source()
    stream = joined(broadcasts(1, 50_001))
    source.send(stream)
    source.half_close()
    client.expect(stream)
    source.expect_closed()
    ended_by = source.ended_by
    assert isinstance(ended_by, ssl.SSLZeroReturnError), "the server did not send close_notify"
    until(lambda: _events(log, "source_disconnected"), "the source to disconnect")
    assert not _events(log, "source_cut_off")


@pytest.mark.parametrize("cut", [Source.close, Source.reset], ids=["close", "reset"])
def test_events_of_a_source_that_is_cut_off_are_delivered(
    maze: Maze, log: LogCapture, cut: Callable[[Source], None]
) -> None:
    client, source = maze.client(1), maze.source()
    stream = joined(broadcasts(1, 1_001))
    source.send(stream + b"1001|")
    client.expect(stream)
    cut(source)
    until(lambda: _events(log, "source_disconnected"), "the source to disconnect")
    (line,) = _events(log, "source_cut_off")
    if cut is Source.close:
        assert "close_notify" in line["error"]
    assert maze.rejects() == {"half_line": 1}
    maze.source().send(b"1|B\n")
    client.expect(b"1|B\n")


def _events(log: LogCapture, name: str) -> list[Any]:
    return [entry for entry in log.entries if entry["event"] == name]


# Peers that are rejected.


@pytest.mark.parametrize("port", ["client", "source"])
@pytest.mark.parametrize("said", [b"7\n", b"1|B\n", b"GET / HTTP/1.1\r\n\r\n", b"\x80\x00"])
def test_plain_text_is_one_log_line(maze: Maze, log: LogCapture, port: str, said: bytes) -> None:
    peer = connect(maze, port, None)
    peer.send(said)
    peer.expect_closed()
    await_rejected(maze, port, "plain_text")
    (line,) = rejected(log)
    assert (line["log_level"], line["reason"]) == ("warning", "plain_text")
    assert line["received"] == said.decode("latin-1").encode("unicode_escape").decode()
    assert port in line


@pytest.mark.filterwarnings("ignore:.*TLSv1_1 is deprecated")
@pytest.mark.parametrize("port", ["client", "source"])
def test_tls_1_1_is_refused(maze: Maze, log: LogCapture, authority: Authority, port: str) -> None:
    with pytest.raises(OSError, match="alert protocol version"):
        connect(maze, port, authority.context(version=ssl.TLSVersion.TLSv1_1))
    await_rejected(maze, port, "tls_failed")
    (line,) = rejected(log)
    assert line["detail"] == "unsupported protocol"


@pytest.mark.parametrize("port", ["client", "source"])
@pytest.mark.parametrize("leave", [Peer.close, Peer.reset, Peer.half_close])
@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01"])
def test_peer_that_leaves_during_the_handshake_is_counted(
    maze: Maze, port: str, leave: Callable[[Peer], None], said: bytes
) -> None:
    peer = connect(maze, port, None)
    peer.send(said)
    leave(peer)
    await_rejected(maze, port, "left")


def test_300_stalled_handshakes_delay_nobody(start: Callable[..., Maze], log: LogCapture) -> None:
    maze = start(handshake_timeout=4.0)
    stalled = [connect(maze, "client", None) for _ in range(300)]
    for peer in stalled[::2]:
        peer.send(b"\x16\x03\x01\x02\x00")  # the header of a record, and no more
    client = maze.client(1)
    stream = joined(broadcasts(1, 10_001))
    maze.source().send(stream)
    client.expect(stream)
    assert not maze.server.clients.access.rejects.counts, (
        "a handshake timed out before the stream was delivered"
    )
    await_rejected(maze, "client", "timeout", 300)
    assert len(rejected(log)) <= 3
    for peer in stalled:
        peer.expect_closed()
        peer.close()
    assert len(maze.sessions) == 1


def test_stalled_handshakes_on_the_source_port_are_bounded(
    start: Callable[..., Maze], log: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maze.pipeline.source.MAX_SOURCE_HANDSHAKES", 3)
    maze = start(handshake_timeout=0.3)
    stalled = [connect(maze, "source", None) for _ in range(5)]
    await_rejected(maze, "source", "busy", 2)
    for peer in stalled:
        peer.expect_closed()
    source, client = maze.source(), maze.client(1)
    source.send(b"1|B\n")
    client.expect(b"1|B\n")
    assert maze.server.source.refused == 5
