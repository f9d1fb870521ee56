"""Stopping a server in this process: the drain, its timeout, and a router that fails."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import gevent
import pytest
from gevent.event import Event
from structlog.testing import LogCapture

from maze.net import time_slice
from maze.net.connection import Connection
from maze.pipeline import registry as sessions_module
from maze.pipeline import slow_clients
from maze.pipeline.session import CloseReason, Session
from maze.pipeline.slow_clients import DRAIN_STEPS

from .peers import Client, broadcasts, joined, messages, until
from .running import Maze, shrink_buffers

pytestmark = [
    pytest.mark.realtime,
    pytest.mark.parametrize("wire", ["plain", "tls"], indirect=True),
]


def _refuses(connect: Callable[[], Client]) -> bool:
    try:
        connect().close()
    except OSError:
        return True
    return False


def test_drain_flushes_every_session_and_closes(maze: Maze) -> None:
    clients = maze.clients(1, 2, 3)
    lines = joined(broadcasts(1, 1_001))
    maze.source().send(lines)
    maze.await_routed(1_000)
    draining = gevent.spawn(maze.server.drain)
    for client in clients:
        client.expect(lines)
        client.expect_closed()
    draining.get(timeout=5)
    maze.server.wait()
    assert not maze.server.failed
    assert dict(maze.server.sessions.closed) == {"finished": 3}


def test_drain_accepts_no_more_connections(maze: Maze) -> None:
    maze.server.drain()
    assert _refuses(lambda: Client(maze.client_address))
    assert _refuses(lambda: Client(maze.source_address))


def test_drain_does_not_route_events_behind_a_gap(maze: Maze) -> None:
    (client,) = maze.clients(1)
    source = maze.source()
    source.send(b"1|B\n3|B\n")
    client.expect(b"1|B\n")
    until(lambda: maze.server.intake.reorder.waiting == 1, "the third event to wait")
    maze.server.drain()
    client.expect_closed()
    source.expect_closed()
    assert maze.rejects() == {}


def test_drain_ends_handshakes_and_sources(start: Callable[..., Maze], log: LogCapture) -> None:
    # Only the drain ends the handshake of a client that sends nothing.
    maze = start(handshake_timeout=3600)
    stranger, source = maze.stranger(), maze.source()
    source.send(b"1|B\n1|B\nhalf a li")
    maze.await_routed(1)
    until(lambda: maze.server.clients._handshakes, "the stranger's handshake to begin")
    maze.server.drain()
    stranger.expect_closed()
    source.expect_closed()
    assert dict(maze.server.source.closed) == {"stopped": 1}
    (line,) = (entry for entry in log.entries if entry["event"] == "source_disconnected")
    assert (line["reason"], line["routed_events"], line["duplicate"]) == ("stopped", 1, 1)


def test_drain_routes_events_that_wait_for_a_slow_client(
    start: Callable[..., Maze], monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_buffers(monkeypatch)
    maze = start(client_buffer=32 * 1024, reorder_limit=2_000)
    slow, fast = maze.client(1, small_buffers=True), maze.client(2).read_in_background()
    # Every other line is a broadcast, so the fast client shows how far the slow one has come.
    count = 60_000
    lines = messages(1, count, 1)
    for index in range(1, count - 1, 2):
        lines[index] = b"%018d|B\n" % (index + 1)
    stream = joined(lines)
    sending = maze.source(small_buffers=True).send_in_background(stream)
    until(lambda: maze.server.intake.reorder.ready >= 2_000, "events to pile up")
    draining = gevent.spawn(maze.server.drain)
    received = slow.read_in_background().all()
    draining.get(timeout=5)
    sending.join(5)
    assert stream.startswith(received)
    assert received.endswith(b"\n")
    assert len(received) < len(stream)
    last = int(received.splitlines()[-1].split(b"|")[0])
    told = [line for line in lines[:last] if line.endswith(b"B\n")]
    assert fast.all() == joined(told)
    assert set(maze.server.sessions.closed) == {"finished"}


def test_client_that_does_not_read_only_delays_a_drain(
    start: Callable[..., Maze], monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_buffers(monkeypatch)
    maze = start(client_buffer=32 * 1024, reorder_limit=20_000, drain_timeout=6)
    maze.client(1, small_buffers=True)
    fast = maze.client(2).read_in_background()
    # Far more than one queue holds: the fast client's is full again and again, though it reads.
    # It is also more than the kernel can still buffer for the first client: timers fill the
    # last part of its buffers, so a session that seems full may progress without a reader.
    lines = [b"%0100d|B\n" % number for number in range(1, 100_001)]
    maze.source(small_buffers=True).send_in_background(joined(lines))
    until(lambda: maze.session(1).held_bytes > 32 * 1024, "the first client to be full")
    until(lambda: maze.server.intake.reorder.ready >= 19_000, "events to pile up")
    given_up: list[float] = []
    close = Session.close

    def spy(session: Session, reason: CloseReason) -> None:
        if reason == CloseReason.STOPPED:
            given_up.append(time.monotonic() - begin)
        close(session, reason)

    monkeypatch.setattr(Session, "close", spy)
    begin = time.monotonic()
    maze.server.drain()
    assert time.monotonic() - begin < 6.5
    # The client has half of the clients' time, which is 4.5 s; a busy machine may be late by almost
    # the other half.
    assert 2.25 <= given_up[0] < 4.4
    assert fast.all() == joined(lines[: maze.server.intake.reorder.missing_sequence - 1])
    assert dict(maze.server.sessions.closed) == {"finished": 1, "stopped": 1}
    assert not maze.sessions
    assert not maze.server.failed


def test_slow_client_has_the_whole_drain_if_it_blocks_nobody(
    start: Callable[..., Maze], monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_buffers(monkeypatch)
    maze = start(client_buffer=32 * 1024, reorder_limit=2_000, drain_timeout=0.4)
    client = maze.client(1, small_buffers=True)
    maze.source(small_buffers=True).send_in_background(joined(broadcasts(1, 300_001)))
    until(lambda: maze.server.intake.reorder.ready >= 2_000, "events to pile up")
    until(lambda: maze.session(1).held_bytes > 32 * 1024, "the client to be full")
    given_up: list[Session] = []
    monkeypatch.setattr(maze.server.router.slow_clients, "_drop", given_up.append)
    maze.server.drain()
    assert given_up == []
    assert dict(maze.server.sessions.closed) == {"stopped": 1}
    client.read_until_closed()


class NeverIdle:
    """The event of a router that always has work, on a clock that only waits move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._now = 0.0
        monkeypatch.setattr(slow_clients, "monotonic", lambda: self._now)

    def wait(self, timeout: float) -> bool:
        gevent.sleep(0)
        self._now += timeout
        return False


@pytest.mark.parametrize(("part", "stays"), [(1.0, True), (0.9, False)])
def test_drain_disconnects_clients_too_slow_for_a_full_buffer(
    start: Callable[..., Maze], monkeypatch: pytest.MonkeyPatch, part: float, stays: bool
) -> None:
    buffer = 32 * 1024
    maze = start(client_buffer=buffer)
    maze.clients(1, 2)
    router, slow = maze.server.router, maze.session(1)
    taken = itertools.count(0, int(part * buffer / DRAIN_STEPS))  # more at each check
    given_up: set[Session] = set()

    def note(session: Session, _: CloseReason) -> None:
        given_up.add(session)

    monkeypatch.setattr(Session, "taken_bytes", lambda _: next(taken))
    monkeypatch.setattr(Session, "close", note)
    router.slow_clients._full = {slow: None}  # as if the router waited for that session
    router.slow_clients.drain(cast(Event, NeverIdle(monkeypatch)), 0.2)
    assert given_up == (set() if stays else {slow})
    router.slow_clients._full = {}


def test_session_may_end_while_the_drain_disconnects_others(
    start: Callable[..., Maze], monkeypatch: pytest.MonkeyPatch
) -> None:
    maze = start(client_buffer=32 * 1024)
    maze.clients(1, 2, 3)
    router, close = maze.server.router, Session.close
    first, second, _ = maze.sessions

    def close_while_another_leaves(session: Session, reason: CloseReason) -> None:
        gevent.spawn(close, second, CloseReason.RESET)
        close(session, reason)

    monkeypatch.setattr(time_slice, "TIME_SLICE_SECONDS", 0.0)  # yield after each
    monkeypatch.setattr(Session, "close", close_while_another_leaves)
    router.slow_clients._full = {first: None, second: None}  # as if the router waited for both
    router.slow_clients.drain(cast(Event, NeverIdle(monkeypatch)), 0.2)
    assert dict(maze.server.sessions.closed) == {"stopped": 1, "reset": 1}


def test_taken_bytes_are_those_that_the_client_s_system_has_acknowledged(
    maze: Maze, monkeypatch: pytest.MonkeyPatch
) -> None:
    (client,) = maze.clients(1)
    maze.source().send(b"1|B\n")
    client.expect(b"1|B\n")
    session = maze.session(1)
    until(lambda: session.taken_bytes() == 4, "the event to be acknowledged")
    monkeypatch.setattr(Connection, "unacknowledged_bytes", lambda _: 3)
    assert session.taken_bytes() == 1


def test_session_may_end_while_the_drain_closes_the_others(
    maze: Maze, monkeypatch: pytest.MonkeyPatch
) -> None:
    maze.clients(1, 2, 3)
    for session in maze.sessions:
        session.writing = True  # so that nothing is sent
    maze.source().send(b"1|B\n")
    until(lambda: all(session.queued_bytes for session in maze.sessions), "the event to wait")
    last, close = maze.sessions[-1], Session.close

    def close_while_another_leaves(session: Session, reason: CloseReason) -> None:
        gevent.spawn(close, last, CloseReason.RESET)
        close(session, reason)

    monkeypatch.setattr(sessions_module, "CLOSED_AT_ONCE", 1)
    monkeypatch.setattr(Session, "close_when_sent", lambda _: None)
    monkeypatch.setattr(Session, "close", close_while_another_leaves)
    maze.server.sessions.close(0)
    assert dict(maze.server.sessions.closed) == {"stopped": 2, "reset": 1}


def test_stop_closes_everything_at_once(maze: Maze) -> None:
    client, source, stranger = maze.client(1), maze.source(), maze.stranger()
    maze.await_sources(1)
    maze.server.stop()
    maze.server.wait()
    for peer in (client, source, stranger):
        peer.expect_closed()
    assert not maze.sessions


@pytest.mark.parametrize("error", [ValueError, MemoryError, KeyError])
def test_router_that_fails_stops_the_server(
    maze: Maze, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(*_: object) -> None:
        raise error("provoked by a test")

    client, source = maze.client(1), maze.source()
    source.send(b"1|B\n")
    client.expect(b"1|B\n")
    graph = maze.server.router.fanout.graph
    failing = SimpleNamespace(route=fail, graph=graph)
    monkeypatch.setattr(maze.server.router.batches, "_fanout", failing)
    source.send(b"2|B\n")
    maze.server.wait()
    assert maze.server.failed
    client.expect_closed()
    source.expect_closed()
    assert _refuses(lambda: Client(maze.client_address))
