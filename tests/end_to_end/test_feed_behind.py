"""An edge that needs what is no longer kept begins again with the newest snapshot."""

from __future__ import annotations

import socket as system
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gevent.socket import wait_read
from structlog.testing import LogCapture

from maze.core import Position
from maze.journal.journal import Batch
from maze.journal.reader import SQLiteReader
from maze.pipeline.router import Router

from .peers import PATIENCE, Client, joined, until
from .roles import Edge, Roles, append, logged
from .running import shrink_buffers
from .test_positions import read_position


class Behind:
    """An edge with clients that has lost its ingest; what it needs is removed from the journal.

    The journal ends at ``end``; its newest snapshot, which is of an empty graph, is there as well.
    """

    def __init__(self, roles: Roles, **settings: Any) -> None:
        self.roles = roles
        ingest = roles.ingest()
        self.edge = roles.edge(**settings)
        self.plain, self.asking = self.edge.client(7), self.edge.client(b"7|\n")
        self.start = read_position(self.asking)[1]
        ingest.source().send(b"1|F|7|3\n2|S|3\n")
        for client in (self.plain, self.asking):
            client.expect(b"2|S|3\n")
        self.epoch = self.edge.position.epoch
        roles.stop_ingest()
        until(lambda: self.edge.server.trouble, "the edge to lose its feed")
        self.end = self.at(9)

    def at(self, number: int) -> Position:
        return Position(self.epoch, number)

    def trim(self) -> None:
        batches = [Batch(self.epoch, 3, 5, b""), Batch(self.epoch, 5, 9, b"")]
        append(self.roles, batches, self.at(5))

    def await_rebuilt(self) -> None:
        self.edge.await_position(self.end)
        until(lambda: not self.edge.server.trouble, "the edge to be ready")


def test_an_edge_behind_what_is_kept_rebuilds(roles: Roles, log: LogCapture) -> None:
    behind = Behind(roles)
    edge, asking = behind.edge, behind.asking
    behind.trim()
    ingest = roles.ingest()
    behind.plain.expect_closed()
    assert read_position(asking) == ("!", behind.end)
    behind.await_rebuilt()
    ingest.source().send(b"9|S|3\n10|F|7|4\n11|S|4\n")
    asking.expect(b"11|S|4\n")  # the follow of 3 is not in the snapshot
    assert not edge.server.failed
    (began,) = logged(log, "feed_behind")
    assert began["error"] == f"what follows {behind.epoch}-3 is no longer kept"
    assert (began["position"], began["sessions"]) == (f"{behind.epoch}-3", 2)
    (ended,) = logged(log, "feed_rebuilt")
    assert (ended["position"], ended["sessions_told"]) == (str(behind.end), 1)
    (closed,) = logged(log, "session_closed")
    assert closed["reason"] == "behind"


def test_clients_can_resume_once_an_edge_is_rebuilt(roles: Roles) -> None:
    behind = Behind(roles)
    behind.trim()
    ingest = roles.ingest()
    behind.await_rebuilt()
    ingest.source().send(b"9|B\n10|F|7|4\n11|S|4\n")
    behind.edge.await_position(behind.at(12))
    behind.edge.resumed(7, behind.end).expect(b"9|B\n11|S|4\n")
    old = behind.edge.client(b"7|%d-%d\n" % behind.start)
    assert read_position(old) == ("!", behind.at(12))


def test_an_edge_can_be_behind_again(roles: Roles, log: LogCapture) -> None:
    behind = Behind(roles)
    behind.trim()
    roles.ingest()
    assert read_position(behind.asking) == ("!", behind.end)
    behind.await_rebuilt()
    roles.stop_ingest()
    until(lambda: behind.edge.server.trouble, "the edge to lose its feed")
    append(
        roles, [Batch(behind.epoch, 9, 15, b""), Batch(behind.epoch, 15, 20, b"")], behind.at(15)
    )
    ingest = roles.ingest()
    assert read_position(behind.asking) == ("!", behind.at(20))
    ingest.source().send(b"20|B\n")
    behind.asking.expect(b"20|B\n")
    assert len(logged(log, "feed_rebuilt")) == 2


def test_an_edge_behind_another_epoch_rebuilds(roles: Roles) -> None:
    behind = Behind(roles)
    epoch = behind.epoch
    later = [Batch(epoch, 3, 5, b""), Batch(epoch + 7, 1, 1, b""), Batch(epoch + 7, 1, 9, b"")]
    append(roles, later, Position(epoch + 7, 1))
    ingest = roles.ingest()
    assert read_position(behind.asking) == ("!", Position(epoch + 7, 9))
    ingest.source().send(b"9|B\n")
    behind.asking.expect(b"9|B\n")


# While it is rebuilt.


class Slow:
    """A journal whose snapshot, or what follows a position, is read once ``release`` is called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: Position | None) -> None:
        self._may_read = threading.Event()
        self._is_asked = threading.Event()
        method = "read" if after else "get_snapshot"
        read = getattr(SQLiteReader, method)

        def slow(reader: SQLiteReader, *arguments: Any) -> Any:
            if after is None or arguments[0] == after:
                self._is_asked.set()
                assert self._may_read.wait(PATIENCE)
            return read(reader, *arguments)

        monkeypatch.setattr(SQLiteReader, method, slow)

    def await_asked(self) -> None:
        until(self._is_asked.is_set, "the edge to ask")

    def release(self) -> None:
        self._may_read.set()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Slow]:
    return lambda after=None: Slow(monkeypatch, after)


class Rebuilding(Behind):
    """An edge that is rebuilt, and waits for the snapshot until ``release`` is called."""

    def __init__(self, roles: Roles, slow: Callable[..., Slow]) -> None:
        super().__init__(roles)
        self.trim()
        self.ingest = roles.ingest()
        snapshot = slow()
        snapshot.await_asked()
        self.release = snapshot.release


@pytest.fixture
def rebuilding(roles: Roles, slow: Callable[..., Slow]) -> Iterator[Rebuilding]:
    rebuilding = Rebuilding(roles, slow)
    yield rebuilding
    rebuilding.release()


def test_clients_that_ask_and_connect_while_an_edge_is_rebuilt_wait(
    rebuilding: Rebuilding,
) -> None:
    """Their first line says from where they get events."""
    behind, edge, ingest = rebuilding, rebuilding.edge, rebuilding.ingest
    assert edge.server.trouble == f"what follows {behind.epoch}-3 is no longer kept"
    assert ingest.server._journal.needed_from is None  # nothing has to be kept for it
    asking = edge.client(b"8|\n")
    resuming, old = edge.client(b"8|%d-9\n" % behind.epoch), edge.client(b"8|%d-1\n" % behind.epoch)
    leaving = edge.client(b"9|\n")
    leaving.close()
    edge.await_sessions(4)
    assert not any(session.pushed_bytes for session in edge.sessions if session.user == 8)
    source = ingest.source()
    source.send(b"9|B\n")
    until(lambda: ingest.durable == behind.at(10), "the event to be written")
    rebuilding.release()
    assert read_position(asking) == ("=", behind.at(10))
    assert read_position(resuming) == ("=", behind.end)
    assert read_position(old) == ("!", behind.at(10))
    resuming.expect(b"9|B\n")
    source.send(b"10|B\n")
    for client in (asking, resuming, old):
        client.expect(b"10|B\n")


def test_a_plain_client_that_connects_while_an_edge_is_rebuilt_is_closed(
    rebuilding: Rebuilding, log: LogCapture
) -> None:
    """It would miss what is written meanwhile, and cannot be told."""
    behind = rebuilding
    behind.plain.expect_closed()
    plain = behind.edge.stranger()
    plain.send(b"8\n")
    plain.expect_closed()
    closed = logged(log, "session_closed")
    assert [(entry["user"], entry["reason"]) for entry in closed] == [(7, "behind"), (8, "behind")]
    assert not logged(log, "session_failed")
    rebuilding.release()
    behind.await_rebuilt()
    plain = behind.edge.client(8)
    behind.ingest.source().send(b"9|B\n")
    plain.expect(b"9|B\n")


def test_a_plain_client_whose_id_has_arrived_when_a_rebuild_ends_is_closed(
    roles: Roles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it would miss was written before the edge read its id."""
    behind = Behind(roles)
    behind.trim()
    arrived: list[system.socket] = []
    end_rebuild = Router.end_rebuild

    def end(router: Router) -> int:
        # This socket blocks: the event loop does not run, so the edge cannot accept it yet.
        client = system.create_connection(behind.edge.client_address)
        client.sendall(b"8\n")
        client.setblocking(False)
        arrived.append(client)
        return end_rebuild(router)

    monkeypatch.setattr(Router, "end_rebuild", end)
    roles.ingest()
    behind.await_rebuilt()
    with arrived[0] as client:
        wait_read(client.fileno(), timeout=PATIENCE)
        assert client.recv(1) == b""


def test_clients_that_leave_while_an_edge_is_rebuilt(
    rebuilding: Rebuilding, log: LogCapture
) -> None:
    rebuilding.asking.close()
    rebuilding.edge.await_sessions(0)
    rebuilding.release()
    rebuilding.await_rebuilt()
    assert logged(log, "feed_rebuilt")[0]["sessions_told"] == 0


def test_an_ingest_that_goes_while_an_edge_is_rebuilt(
    roles: Roles, rebuilding: Rebuilding, log: LogCapture
) -> None:
    edge, asking = rebuilding.edge, rebuilding.asking
    losses = edge.following.losses
    roles.stop_ingest()
    until(lambda: edge.following.losses > losses, "the edge to lose its feed")
    rebuilding.release()
    ingest = roles.ingest()
    assert read_position(asking) == ("!", rebuilding.end)
    ingest.source().send(b"9|B\n")
    asking.expect(b"9|B\n")
    assert len(logged(log, "feed_behind")) == len(logged(log, "feed_rebuilt")) == 1


def test_an_edge_that_stops_while_it_is_rebuilt(rebuilding: Rebuilding) -> None:
    try:
        rebuilding.edge.server.drain()
    finally:
        rebuilding.release()
    rebuilding.asking.expect_closed()
    assert not rebuilding.edge.server.failed


# What an edge is busy with.


@pytest.mark.parametrize("id_line", [b"7\n", b"7|\n"])
def test_an_edge_that_waits_for_a_slow_client_drops_what_has_arrived(
    roles: Roles,
    slow: Callable[..., Slow],
    monkeypatch: pytest.MonkeyPatch,
    log: LogCapture,
    id_line: bytes,
) -> None:
    """The client reads while the edge is rebuilt; nothing is left then for the router to route."""
    shrink_buffers(monkeypatch)
    ingest = roles.ingest()
    edge = roles.edge(client_buffer=8 * 1024, hold_timeout=60.0, stall_timeout=60.0)
    client = edge.client(id_line, small_buffers=True)
    lines = [b"%04000d|B\n" % number for number in range(1, 2_001)]
    ingest.source().send(joined(lines))
    router = edge.server.router
    until(lambda: ingest.durable.next == 2_001, "everything to be written")
    until(lambda: router.slow_clients.router_waits and router.unrouted_events, "the edge to wait")
    roles.stop_ingest()
    until(lambda: edge.server.trouble, "the edge to lose its feed")
    epoch = edge.position.epoch
    append(roles, [Batch(epoch, 2_001, 3_000, b"")], Position(epoch, 2_001))
    append(roles, [Batch(epoch, 3_000, 4_000, b"")])
    ingest = roles.ingest()
    reading = slow(Position(epoch, 3_000))
    reading.await_asked()
    assert not router.unrouted_events
    received = client.read_in_background()
    until(lambda: not router.slow_clients.router_waits, "the client to read")
    reading.release()
    edge.await_position(Position(epoch, 4_000))
    assert not edge.server.failed
    if id_line == b"7\n":
        got = received.all()
    else:
        ingest.source().send(b"4000|B\n")
        until(lambda: received.so_far().endswith(b"4000|B\n"), "the next event")
        start, got = received.so_far().split(b"\n", 1)
        assert start.startswith(b"=|")
        got, told = got.split(b"!", 1)
        assert told == b"|%d-4000\n4000|B\n" % epoch
    assert joined(lines).startswith(got)
    assert not logged(log, "router_failed")


@pytest.mark.parametrize("has_answer", [True, False])
def test_a_client_that_resumes_while_an_edge_falls_behind(
    roles: Roles, monkeypatch: pytest.MonkeyPatch, has_answer: bool
) -> None:
    """If it has had no answer, its position counts once the edge is rebuilt."""
    behind = Behind(roles, resume_events=0)
    edge = behind.edge
    router = edge.server.router
    if not has_answer:
        client = edge.client(b"7|%d-9\n" % behind.epoch)  # ahead of this edge
        until(lambda: router.resumes._held, "the client to wait")
    else:
        client = resuming_from_the_journal(edge, behind.start)
    behind.trim()
    roles.ingest()
    if has_answer:
        assert read_position(client) == ("=", behind.start)
    assert read_position(client) == ("!" if has_answer else "=", behind.end)
    behind.await_rebuilt()
    assert len(router.resumes) == 0


def resuming_from_the_journal(edge: Edge, position: Position) -> Client:
    """Return a client that has an answer, and waits for a journal that cannot be read."""
    client = edge.client(b"7|%d-%d\n" % position)
    session = edge.sessions[-1]
    router = edge.server.router
    until(lambda: session in router.resumes._replays, "the client to resume")
    router.resumes._queue(session, b"=|%d-%d\n" % position)
    router._flush([session])
    return client
