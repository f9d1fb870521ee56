"""A feed: who may follow it, how it ends, and what is known of it."""

from __future__ import annotations

import socket
import threading
from typing import Any

import gevent
import gevent.socket
import pytest
from structlog.testing import LogCapture

from maze.core import Position
from maze.errors import JournalUnusableError
from maze.feed import following
from maze.feed.feed_port import EdgeConnection, FeedPort
from maze.feed.messages import ALIVE, SNAPSHOT, encode_error
from maze.feed.reader import FeedReader
from maze.journal.journal import Bounds, NoSnapshotError, Snapshot
from maze.journal.snapshot_frames import BEGIN, CHUNK, END
from maze.net.connection import Connection
from maze.net.frames import Frame, encode_frame
from maze.net.peer import UNIX_PEER, Peer
from maze.net.time_slice import yield_to_event_loop
from maze.pipeline.stats import NO_SEQUENCE

from .peers import PATIENCE, until
from .roles import Roles, logged
from .running import shrink_buffers

LINE = b"%018d|B\n"


# The token.


def test_an_edge_with_a_wrong_token_is_refused(roles: Roles, log: LogCapture) -> None:
    roles.ingest(feed_token="the-token-of-this-ingest")
    with pytest.raises(JournalUnusableError) as error:
        roles.edge(feed_token="another-one-----")
    assert str(error.value) == (
        f"the feed {roles.feed}: the token is wrong: set MAZE_FEED_TOKEN to that of the ingest"
    )
    (refused,) = logged(log, "edge_refused")
    assert refused["reason"] == "the token is wrong: set MAZE_FEED_TOKEN to that of the ingest"
    assert roles.edge(feed_token="the-token-of-this-ingest").server.state == "ready"


def test_what_is_no_edge_is_refused(roles: Roles, log: LogCapture) -> None:
    roles.ingest()
    with gevent.socket.socket(gevent.socket.AF_UNIX) as sock:
        sock.connect(roles.feed.host.removeprefix("unix:"))
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        received = sock.makefile("rb").read()
    assert b"this is the feed of a Follower Maze ingest" in received
    assert len(logged(log, "edge_refused")) == 1


def test_a_connection_without_a_word_is_no_edge_that_is_refused(
    roles: Roles, log: LogCapture
) -> None:
    """A second ingest looks in this way whether somebody listens on the Unix socket."""
    ingest = roles.ingest()
    with gevent.socket.socket(gevent.socket.AF_UNIX) as sock:
        sock.connect(roles.feed.host.removeprefix("unix:"))
        until(lambda: ingest.server.feed.serving.greenlets, "the connection")
    until(lambda: not ingest.server.feed.serving.greenlets, "the ingest to notice the end")
    assert not logged(log, "edge_refused")


def test_a_large_snapshot_is_encoded_while_it_is_sent(
    roles: Roles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Encoding all of it first would hold up the event loop, and take as much memory again."""
    port = roles.ingest().server.feed
    snapshot = Snapshot(Position(1, 1), Bounds(1, 1, 1), [b"chunk"] * 20)
    monkeypatch.setattr(port._reader, "get_snapshot", lambda report: snapshot)
    encoded: list[bytes] = []

    def noted(kind: bytes, content: bytes) -> bytes:
        encoded.append(kind)
        return encode_frame(kind, content)

    monkeypatch.setattr("maze.feed.messages.encode_frame", noted)
    frames = port._answer(connection_of(), Frame(SNAPSHOT, b""))
    next(frames)
    assert encoded.count(CHUNK) <= 1
    assert len(list(frames)) == 21  # the chunks, and the end


def test_an_ingest_that_reads_its_disk_for_long_says_that_it_is_there(
    roles: Roles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edge counts an ingest as gone that has not answered for five seconds."""
    monkeypatch.setattr("maze.feed.feed_port.ALIVE_SECONDS", 0.01)
    port = roles.ingest().server.feed
    read = threading.Event()

    def get_snapshot(report: object) -> Snapshot:
        assert read.wait(PATIENCE)
        return Snapshot(Position(1, 1), Bounds(1, 1, 1), [])

    monkeypatch.setattr(port._reader, "get_snapshot", get_snapshot)
    frames = port._answer(connection_of(), Frame(SNAPSHOT, b""))
    try:
        assert [next(frames) for _ in range(3)] == 3 * [encode_frame(ALIVE, b"")]
    finally:
        read.set()
    kinds = [frame[:1] for frame in frames if frame[:1] != ALIVE]
    assert kinds == [BEGIN, END]


def test_an_error_of_a_read_that_took_long_is_told(
    roles: Roles, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = roles.ingest().server.feed

    def get_snapshot(report: object) -> Snapshot:
        raise NoSnapshotError

    monkeypatch.setattr(port._reader, "get_snapshot", get_snapshot)
    frames = list(port._answer(connection_of(), Frame(SNAPSHOT, b"")))
    assert frames == [encode_error(NoSnapshotError())]


def test_an_edge_that_leaves_while_it_waits_for_events_is_noticed_at_once(
    roles: Roles, monkeypatch: pytest.MonkeyPatch, log: LogCapture
) -> None:
    """Otherwise it would hold up the ingest until the end of its wait."""
    monkeypatch.setattr(following, "WAIT_SECONDS", 10 * PATIENCE)
    ingest = roles.ingest()
    edge = roles.edge()
    ingest.await_edges(1)
    assert ingest.server._journal.needed_from == edge.position
    edge.following.close()
    ingest.await_edges(0)
    assert ingest.server._journal.needed_from is None
    (left,) = logged(log, "edge_disconnected")
    assert left["reason"] == "left"


def connection_of() -> EdgeConnection:
    with gevent.socket.socket() as sock:
        return EdgeConnection("edge", Peer(UNIX_PEER), Connection(sock))


# Stopping.


def test_a_drain_of_the_ingest_waits_for_its_edges(
    roles: Roles, log: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_buffers(monkeypatch)
    ingest = roles.ingest(drain_timeout=30.0)
    slow = roles.edge(client_buffer=64 * 1024, hold_timeout=60.0, stall_timeout=60.0)
    quick = roles.edge()
    client = slow.client(7, small_buffers=True)
    lines = b"".join(LINE % number for number in range(1, 30_001))
    ingest.source().send(lines)
    quick.await_position(Position(quick.position.epoch, 30_001))
    reads = count_reads(monkeypatch)
    draining = gevent.spawn(ingest.server.drain)
    until(quick.following.ended.is_set, "the edge to hear of the end")
    reads.clear()
    for _ in range(300):
        yield_to_event_loop()
    assert len(reads) <= 4  # neither asks again and again
    assert not draining.ready()
    client.expect(lines)
    draining.get(timeout=20)
    assert slow.position == quick.position == ingest.position
    assert not logged(log, "edges_behind")
    assert not logged(log, "events_not_routed")


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return a list that grows with each request for batches."""
    reads: list[object] = []
    read = FeedPort._read

    def counted(*arguments: Any) -> Any:
        reads.append(arguments)
        return read(*arguments)

    monkeypatch.setattr(FeedPort, "_read", counted)
    return reads


def test_a_drain_of_the_ingest_does_not_wait_for_ever(
    roles: Roles, log: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_buffers(monkeypatch)
    ingest = roles.ingest(drain_timeout=0.1)
    slow = roles.edge(client_buffer=64 * 1024, hold_timeout=60.0, stall_timeout=60.0)
    client = slow.client(7, small_buffers=True)
    lines = b"".join(LINE % number for number in range(1, 100_001))
    ingest.source().send(lines)
    until(lambda: ingest.position.next == 100_001, "the ingest to route everything")
    ingest.server.drain()
    (behind,) = logged(log, "edges_behind")
    assert len(behind["edges"]) == 1
    roles.ingest()
    client.expect(lines)


def test_an_edge_that_drains_sends_what_has_arrived(roles: Roles, log: LogCapture) -> None:
    ingest = roles.ingest()
    leaving, staying = roles.edge(), roles.edge()
    clients = [leaving.client(7), staying.client(8)]
    source = ingest.source()
    source.send(b"1|B\n")
    for client in clients:
        client.expect(b"1|B\n")
    leaving.server.drain()
    clients[0].expect_closed()
    assert leaving.server.state == "stopped"
    assert not leaving.server.failed
    ingest.await_edges(1)
    assert len(logged(log, "edge_disconnected")) == 1
    source.send(b"2|B\n")
    clients[1].expect(b"2|B\n")


def test_the_status_of_a_feed(roles: Roles) -> None:
    ingest = roles.ingest()
    edge = roles.edge()
    ingest.source().send(b"1|B\n2|B\n")
    edge.await_position(Position(edge.position.epoch, 3))
    ingest.await_edges(1)
    until(lambda: ingest.server.feed.edges[0].routed == ingest.position, "the edge to say so")
    (shown,) = ingest.server.feed.edges_status()
    assert (shown["position"], shown["lag_events"]) == (str(ingest.position), 0)
    shown = edge.server.feed_status()
    assert shown["position"] == str(ingest.position)
    assert (shown["lag_events"], shown["trouble"]) == (0, None)


def test_a_batch_without_events_is_no_sample_of_the_latency(
    roles: Roles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next event, which may come an hour later, would end the sample."""
    monkeypatch.setattr("maze.pipeline.stats.SAMPLE_SECONDS", 0.0)
    ingest = roles.ingest(on_source_disconnect="reset")
    edge = roles.edge()
    source = ingest.source()
    source.send(b"1|B\n")
    edge.await_routed(1)
    source.half_close()
    source.expect_closed()
    edge.await_position(ingest.position)
    latency = edge.server.router.stats.latency
    assert latency.sampled == NO_SEQUENCE


def test_what_blocks_is_read_in_native_threads(
    roles: Roles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader blocks its thread in all of its life, unless its sockets are gevent's."""
    called: set[tuple[Any, bool]] = set()
    loop = threading.get_ident()
    for name in ("_send", "_connect", "_answer"):
        monkeypatch.setattr(FeedReader, name, noting(called, loop, getattr(FeedReader, name)))
    ingest = roles.ingest()
    edge = roles.edge(resume_events=0)
    ingest.source().send(b"1|B\n2|B\n")
    edge.await_position(Position(edge.position.epoch, 3))
    edge.resumed(7, Position(edge.position.epoch, 1)).expect(b"1|B\n2|B\n")
    ingest = roles.ingest()
    ingest.await_edges(1)
    edge.resumed(7, Position(edge.position.epoch, 1)).expect(b"1|B\n2|B\n")
    assert called == {(socket, False), (gevent.socket, True)}


def noting(called: set[tuple[Any, bool]], loop: int, method: Any) -> Any:
    """Note with which sockets a reader's method was called, and whether in the loop's thread."""

    def noted(reader: FeedReader, *arguments: Any) -> Any:
        called.add((reader._sockets, threading.get_ident() == loop))
        return method(reader, *arguments)

    return noted
