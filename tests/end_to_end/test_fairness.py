"""Fairness: no source, client or disconnection keeps the server from serving the others."""

from __future__ import annotations

import socket as system
import struct
from collections.abc import Callable
from itertools import pairwise
from unittest.mock import ANY

import gevent
import pytest

from maze.core import Decoder, reorder
from maze.core.graph import AT_ONCE
from maze.net import time_slice
from maze.net.time_slice import yield_to_event_loop
from maze.pipeline import ordering
from maze.pipeline import registry as sessions
from maze.pipeline.session import CloseReason, Session

from .peers import PATIENCE, Client, Source, broadcasts, joined, messages, patience, until
from .running import Maze, shrink_buffers

pytestmark = pytest.mark.realtime


def test_a_source_yields_after_its_time_slice_whatever_it_sends(
    maze: Maze, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time_slice, "TIME_SLICE_SECONDS", 0.0)  # every chunk exceeds its slice
    decoder = Decoder()
    others: list[str] = []
    for chunk in (b"1|B\n", b"x\n" * 1_000, b"1|B\n" * 1_000, b"2|B\n" + b"x\n" * 1_000):
        runs, _ = decoder.feed(chunk)
        gevent.spawn(others.append, chunk[:3].decode())
        maze.server.intake.submit(runs, "a test")
        assert others.pop() == chunk[:3].decode()
        assert not others


def test_others_run_between_the_runs_and_the_gaps_of_one_chunk(
    start: Callable[..., Maze], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time_slice, "TIME_SLICE_SECONDS", 0.0)
    monkeypatch.setattr(ordering, "STEP_RUNS", 1)
    monkeypatch.setattr(reorder, "STEP_GAPS", 1)
    maze = start(reorder_limit=2)
    waiting: list[tuple[int, int]] = []

    def look() -> None:
        buffer = maze.server.intake.reorder
        while buffer.missing_sequence < 9:
            waiting.append((buffer.missing_sequence, buffer.waiting))
            gevent.sleep(0)

    looking = gevent.spawn(look)
    runs, _ = Decoder().feed(b"2|B\n4|B\n6|B\n8|B\n10|B\n12|B\n")
    maze.server.intake.submit(runs, "a test")
    looking.join(PATIENCE)
    seen = list(dict.fromkeys(waiting))
    assert seen == [(1, 1), (1, 2), (1, 3), (1, 4), (1, 5), (3, 5), (5, 4), (7, 3)]


def test_others_run_while_events_behind_a_filled_gap_become_ready(
    start: Callable[..., Maze], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time_slice, "TIME_SLICE_SECONDS", 0.0)
    maze = start(reorder_limit=100)
    client, buffer = maze.client(1), maze.server.intake.reorder
    monkeypatch.setattr(buffer, "_step", 1)
    monkeypatch.setattr(maze.server.router, "_deliver", lambda: gevent.sleep(0))
    held: list[int] = []

    def look() -> None:
        while buffer.waiting:
            held.append(buffer.waiting)
            gevent.sleep(0)

    numbers = range(2, 42, 2)
    runs, _ = Decoder().feed(joined(b"%d|B\n" % number for number in numbers))
    maze.server.intake.submit(runs, "a test")
    looking = gevent.spawn(look)
    runs, _ = Decoder().feed(joined(b"%d|B\n" % number for number in reversed(range(1, 41, 2))))
    maze.server.intake.submit(runs, "a test")
    looking.join(PATIENCE)
    assert (buffer.ready, buffer.waiting) == (40, 0)
    assert len(set(held)) >= 10
    monkeypatch.undo()
    client.expect(joined(broadcasts(1, 41)))


def test_events_that_become_ready_after_their_source_closed_are_routed(
    start: Callable[..., Maze], monkeypatch: pytest.MonkeyPatch
) -> None:
    maze = start()
    client, buffer = maze.client(1), maze.server.intake.reorder
    monkeypatch.setattr(buffer, "_step", 1)
    runs, _ = Decoder().feed(joined(b"%d|B\n" % number for number in [*range(2, 30, 2)]))
    buffer.add(*runs)
    runs, _ = Decoder().feed(joined(b"%d|B\n" % number for number in [*range(3, 30, 2)]))
    buffer.add(*reversed(runs))
    runs, _ = Decoder().feed(b"1|B\n")
    buffer.add(*runs)
    assert buffer.waiting == 27
    maze.server.router.wake()
    client.expect(joined(broadcasts(1, 30)))


def _reset(sock: system.socket) -> None:
    sock.setsockopt(system.SOL_SOCKET, system.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


FOLLOWS = AT_ONCE + 50


def _follows(maze: Maze, *users: int) -> Source:
    """Return a source whose events make each user follow users 1,000 to 1,000 + FOLLOWS - 1."""
    source, pairs = maze.source(), [(user, 1_000 + k) for user in users for k in range(FOLLOWS)]
    source.send(joined(b"%d|F|%d|%d\n" % (n, *pair) for n, pair in enumerate(pairs, start=1)))
    maze.await_routed(len(pairs))
    return source


@pytest.fixture
def _small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make background work do one step in each turn of the event loop."""
    monkeypatch.setattr(time_slice, "TIME_SLICE_SECONDS", 0.0)
    monkeypatch.setattr(sessions, "STEP_AUDIENCES", 1)


def test_a_user_who_enters_many_audiences_misses_nothing(
    maze: Maze, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, graph = _follows(maze, 7, 8), maze.server.router.fanout.graph
    monkeypatch.setattr(maze.server.sessions._settling, "begin", lambda: None)
    first = maze.server.intake.reorder.next_sequence
    one, seven, tablet, eight = maze.clients(1, 7, 7, 8)
    assert graph.entering == 2
    lines = [b"%d|S|%d\n" % (first + k, 1_000 + k) for k in range(FOLLOWS)]
    for line in lines:
        source.send(line)
        maze.await_routed(first)
        graph.settle(1)
        first += 1
    source.send(b"%d|P|7|1\n" % first)
    one.expect(b"%d|P|7|1\n" % first)
    for client in (seven, tablet, eight):
        client.expect(joined(lines))
    assert graph.entering == 0


@pytest.mark.usefixtures("_small_slices")
def test_others_run_while_a_user_with_many_follows_enters_and_leaves(
    maze: Maze, monkeypatch: pytest.MonkeyPatch
) -> None:
    _follows(maze, 7)
    settling = maze.server.sessions._settling
    settle = settling.step
    turns = [0]  # steps made in each turn

    def watch() -> None:
        while True:
            yield_to_event_loop()
            turns.append(0)

    def step() -> bool:
        turns[-1] += 1
        return settle()

    monkeypatch.setattr(settling, "step", step)
    watching = gevent.spawn(watch)
    client = maze.client(7)
    until(lambda: sum(turns) == FOLLOWS - AT_ONCE, "all audiences to be entered")
    client.close()
    until(lambda: sum(turns) == 2 * (FOLLOWS - AT_ONCE), "all audiences to be left")
    watching.kill()
    assert max(turns) <= 3, "one a turn, but for the grain of the clock"


@pytest.mark.usefixtures("_small_slices")
def test_a_reset_cancels_the_audiences_to_enter_and_leave(maze: Maze) -> None:
    source = _follows(maze, 7, 8)
    seven, eight = maze.clients(7, 8)
    eight.close()
    maze.await_sessions(1)
    source.close()
    maze.await_sources(0)
    maze.source().send(b"1|S|1000\n2|F|7|1001\n3|S|1001\n")
    seven.expect(b"3|S|1001\n")
    assert maze.server.router.fanout.graph.listeners == 1


@pytest.mark.usefixtures("_small_slices")
@pytest.mark.parametrize("end", [system.socket.close, _reset], ids=["close", "reset"])
def test_clients_that_leave_at_once_are_closed_a_few_per_turn(
    maze: Maze, end: Callable[[system.socket], None]
) -> None:
    leaving = [system.create_connection(maze.client_address) for _ in range(50)]
    for client in leaving:  # blocking, so that the server does not run meanwhile
        client.sendall(b"7\n")
    maze.await_sessions(50)
    for client in leaving:
        end(client)
    counts = [50]
    while counts[-1]:
        yield_to_event_loop()
        counts.append(len(maze.sessions))
        assert len(counts) < 10_000
    at_once = max(before - after for before, after in pairwise(counts))
    assert at_once <= 3, "one a turn, but for the grain of the clock"


ODD_CHUNKS = {
    "line feeds": b"\n" * 262_144,
    "junk": b"x\n" * 131_072,
    "malformed": joined(b"%d|X\n" % number for number in range(2, 40_000)),
    "duplicates": b"9|B\n" * 65_536,
    "isolated": joined(b"%d|B\n" % number for number in range(2, 70_000, 2)),
}


@pytest.mark.parametrize("chunk", ODD_CHUNKS.values(), ids=ODD_CHUNKS)
def test_one_chunk_of_unusual_lines_is_handled_and_the_stream_goes_on(
    maze: Maze, chunk: bytes
) -> None:
    """How long the chunk blocks the event loop is checked by the runs with gevent's monitor."""
    client, source = maze.client(1), maze.source()
    source.send(chunk)
    source.send(b"1|B\n1000000|P|7|1\n")
    source.half_close()
    valid = [] if b"B" not in chunk else sorted({*chunk.splitlines(True)}, key=_number)
    client.expect(joined([b"1|B\n", *valid, b"1000000|P|7|1\n"]))
    source.expect_closed()
    rejects = maze.rejects()
    rejects.pop("skipped", None)
    lines = chunk.count(b"\n")
    assert sum(rejects.values()) == lines - len(valid)


def _number(line: bytes) -> int:
    return int(line.partition(b"|")[0])


def test_sockets_are_polled_while_a_source_always_has_data(
    maze: Maze, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time_slice, "TIME_SLICE_SECONDS", 0.0)
    ours, theirs = gevent.socket.socketpair()
    reading = gevent.spawn(theirs.recv, 1)
    gevent.sleep(0)  # it waits for the socket
    ours.send(b"x")
    for _ in range(3):
        maze.server.intake.submit([], "a test")
    assert reading.ready()
    ours.close()
    theirs.close()


def test_sockets_are_polled_while_slow_clients_are_disconnected(
    start: Callable[..., Maze], monkeypatch: pytest.MonkeyPatch
) -> None:
    maze = start(slow_client="disconnect")
    maze.clients(1, 2, 3)
    monkeypatch.setattr(time_slice, "TIME_SLICE_SECONDS", 0.0)
    ours, theirs = gevent.socket.socketpair()
    reading = gevent.spawn(theirs.recv, 1)
    gevent.sleep(0)  # it waits for the socket
    closed: list[bool] = []

    def close(_: Session, __: CloseReason) -> None:
        closed.append(reading.ready())
        ours.send(b"x")

    monkeypatch.setattr(Session, "close", close)
    maze.server.router.slow_clients._full = dict.fromkeys(maze.sessions)
    maze.server.router.slow_clients.make_room()
    assert closed == [False, ANY, True]
    maze.server.router.slow_clients._full = {}
    ours.close()
    theirs.close()


def test_contiguous_events_are_routed_if_a_gap_closes_the_source(
    start: Callable[..., Maze],
) -> None:
    maze = start(gap_policy="fail", on_source_disconnect="keep", reorder_limit=5)
    client = maze.client(1)
    source = maze.source()
    source.send(joined(broadcasts(1, 4)) + joined(broadcasts(5, 20)))
    source.expect_closed()
    client.expect(joined(broadcasts(1, 4)))


def test_a_client_that_keeps_sending_receives_everything_in_a_drain(
    start: Callable[..., Maze], monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_buffers(monkeypatch)
    maze = start()
    client = maze.client(1, small_buffers=True)
    lines = joined(messages(1, 3_001, 1))
    maze.source().send(lines)
    maze.await_routed(3_000)
    draining = gevent.spawn(maze.server.drain)
    talking = gevent.spawn(_keep_sending, client)
    assert client.read(len(lines)) == lines
    client.expect_closed()
    talking.join()
    draining.get(timeout=5)
    assert dict(maze.server.sessions.closed) == {"finished": 1}


def _keep_sending(client: Client) -> None:
    try:
        while True:
            client.send(b"hello")
            gevent.sleep(0)
    except OSError:  # the server has closed the connection
        pass


def test_a_drain_logs_how_many_events_it_could_not_route(
    start: Callable[..., Maze], log: object
) -> None:
    maze = start()
    (client,) = maze.clients(1)
    maze.source().send(b"1|B\n3|B\n4|B\n")
    client.expect(b"1|B\n")
    until(lambda: maze.server.intake.reorder.waiting == 2, "two events to wait")
    maze.server.drain()
    (line,) = (line for line in log.entries if line["event"] == "events_not_routed")  # type: ignore[attr-defined]
    assert (line["ready_events"], line["waiting_events"]) == (0, 2)


def test_connections_accepted_before_a_drain_and_served_after_it_are_closed(
    start: Callable[..., Maze],
) -> None:
    # Only the drain closes a connection that sends nothing.
    server = start(handshake_timeout=3600).server
    server.drain()
    ends = []
    for port in (server.clients, server.source):
        ours, theirs = gevent.socket.socketpair()
        ends.append(ours)
        with patience("a connection that is served too late to be closed"):
            port.handle(theirs, ("127.0.0.1", 1))
        theirs.close()
    assert [end.recv(1) for end in ends] == [b"", b""]
    assert not server.clients.access.rejects.counts
    assert not server.sessions
    assert not server.source.sources


def test_an_error_in_access_control_closes_that_source_only(
    maze: Maze, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("provoked by a test")

    with monkeypatch.context() as patch:
        patch.setattr(maze.server.source.access, "authorize", broken)
        maze.source().expect_closed()
    assert not maze.server.failed
    assert dict(maze.server.source.access.rejects.counts) == {"failed": 1}
    client = maze.client(1)
    maze.source().send(b"1|B\n")
    client.expect(b"1|B\n")


def test_the_fullest_are_disconnected_first_until_the_sum_is_within_its_bound(
    start: Callable[..., Maze], monkeypatch: pytest.MonkeyPatch
) -> None:
    maze = start(total_buffer=1024)
    maze.clients(1, 2, 3)
    closed: list[int] = []

    def close(session: Session, _: CloseReason) -> None:
        closed.append(session.user)
        session.discard()

    monkeypatch.setattr(Session, "close", close)
    for user, size in ((1, 600), (2, 900), (3, 700)):
        session = maze.session(user)
        session.writing = True
        _push(maze, user, size)
    maze.server.router.slow_clients._drop_fullest()
    assert closed == [2, 3]
    maze.session(1).discard()


def _push(maze: Maze, user: int, size: int) -> None:
    runs, _ = Decoder().feed(b"1|P|1|%0*d\n" % (size - 7, user))
    ((session, payload),) = maze.server.router.fanout.route(runs)[0]
    assert session is maze.session(user)
    maze.session(user).push(payload)
