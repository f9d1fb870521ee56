"""An ingest and edges: what clients get, whichever edge they are at."""

from __future__ import annotations

import random

import pytest

from maze.core import Position
from maze.feed import arrived, following
from maze.journal.journal import Batch

from .peers import until
from .roles import Roles, append
from .running import shrink_buffers
from .test_journal import give_up_gaps, some_events
from .test_model import CONNECTED, Stream, expected_of
from .test_positions import read_position

USERS = 4
LINE = b"%018d|B\n"


# What clients get.


@pytest.mark.parametrize("seed", range(4))
def test_clients_of_two_edges_get_exactly_their_events(roles: Roles, seed: int) -> None:
    stream = Stream(seed, count=2_000)
    ingest = roles.ingest()
    edges = [roles.edge(), roles.edge()]
    clients = [edge.clients(*CONNECTED) for edge in edges]
    source = ingest.source()
    sent = stream.sent()
    at = 0
    while at < len(sent):
        size = stream.pick.choice([1, 7, 100, 5_000, 60_000])
        source.send(sent[at : at + size])
        at += size
    marker = b"%d|B\n" % (len(stream.lines) + 1)
    source.send(marker)
    for same in clients:
        for client, expected in zip(same, expected_of(stream.lines), strict=True):
            client.expect(expected)
            client.expect_nothing_before(marker)


@pytest.mark.parametrize("seed", range(6))
def test_whoever_comes_back_at_another_edge_gets_what_it_has_missed(
    roles: Roles, seed: int
) -> None:
    """The clients at the first edge stay, while the ingest restarts twice.

    Those that come back at the second edge are served from memory, or from the journal. Numbers
    are missing or malformed, follows change nothing, and the ingest alone bounds the graph.
    """
    chooser = random.Random(seed)
    kept = chooser.choice([0, 10, 100])
    streams = [b""] * USERS
    ends: list[tuple[int, list[int]]] = []  # a number, and how long each stream was there
    number = 1
    first = second = None
    staying = []
    for _ in range(3):
        ingest = roles.ingest(max_follows=7)
        if first is None:
            first, second = roles.edge(), roles.edge(resume_events=kept)
            staying = first.clients(*range(USERS))
        assert second
        source = ingest.source()
        for _ in range(3):
            ends.append((number, list(map(len, streams))))
            lines = some_events(chooser, number, 60)
            missing = set(chooser.sample(range(60), 2))
            number += 60
            source.send(b"".join(line for at, line in enumerate(lines) if at not in missing))
            source.send(b"%d|X\n" % number)
            number += 1
            last = b"%d|B\n" % number
            source.send(last)
            number += 1
            give_up_gaps(ingest)
            for user, client in enumerate(staying):
                while not streams[user].endswith(last):
                    streams[user] += client.read_line()
            second.await_position(ingest.position)
            for user in range(USERS):
                then, lengths = chooser.choice(ends)
                client = second.resumed(user, Position(ingest.position.epoch, then))
                client.expect(streams[user][lengths[user] :])
                client.close()
                second.await_sessions(0)
    assert second
    assert second.server.router.resumes.outcomes == {"resumed": 9 * USERS}


def test_a_client_goes_on_at_another_edge(roles: Roles) -> None:
    ingest = roles.ingest()
    first, second = roles.edge(), roles.edge()
    source = ingest.source()
    source.send(b"1|F|7|3\n2|S|3\n")
    client = first.client(b"7|\n")
    until(lambda: first.position.next == 3, "the first edge to route the events")
    before = read_position(client)[1]
    source.send(b"3|S|3\n")
    client.read_line()
    client.close()
    source.send(b"4|U|7|3\n5|S|3\n6|P|1|7\n")
    second.await_position(Position(before.epoch, 7))
    client = second.resumed(7, Position(before.epoch, 4))
    source.send(b"7|B\n")
    client.expect(b"6|P|1|7\n7|B\n")


def test_an_edge_that_starts_late_has_the_graph_and_what_was_sent(roles: Roles) -> None:
    ingest = roles.ingest()
    source = ingest.source()
    source.send(b"1|F|7|3\n2|F|8|3\n3|U|8|3\n")
    ingest.await_routed(3)
    edge = roles.edge()
    assert edge.position == ingest.position
    seven, eight = edge.clients(7, 8)
    source.send(b"4|S|3\n5|B\n")
    seven.expect(b"4|S|3\n5|B\n")
    eight.expect(b"5|B\n")
    edge.resumed(3, Position(edge.position.epoch, 1)).expect(b"1|F|7|3\n2|F|8|3\n5|B\n")


def test_a_reset_crosses_the_feed(roles: Roles) -> None:
    ingest = roles.ingest(on_source_disconnect="reset")
    edges = [roles.edge(), roles.edge()]
    clients = [edge.client(b"7|\n") for edge in edges]
    firsts = [read_position(client)[1] for client in clients]
    source = ingest.source()
    source.send(b"1|F|7|3\n2|S|3\n3|X\n")
    for client in clients:
        client.expect(b"2|S|3\n")
    source.half_close()
    source.expect_closed()
    source = ingest.source()
    for edge, client, first in zip(edges, clients, firsts, strict=True):
        mark, second = read_position(client)
        assert (mark, second) == ("=", ingest.position)
        assert second.epoch > first.epoch
        assert second.next == 1
        assert not edge.server.router.fanout.graph.follows
    source.send(b"1|S|3\n2|B\n")
    for edge, client, first in zip(edges, clients, firsts, strict=True):
        client.expect(b"2|B\n")
        late = edge.client(b"7|%d-%d\n" % first)
        assert read_position(late) == ("!", edge.position)


@pytest.mark.parametrize("lines", [b"1|B\n2|X\n", b"1|X\n", b"1|X\n2|X\n"])
def test_numbers_without_events_move_the_position(roles: Roles, lines: bytes) -> None:
    """Also those of the first batch, which changes the bounds of the graph."""
    ingest = roles.ingest()
    edge = roles.edge()
    source = ingest.source()
    for count, line in enumerate(lines.splitlines(keepends=True), 1):
        source.send(line)  # so that each is a batch of its own
        until(lambda end=count: ingest.durable.next > end, "the commit")  # type: ignore[misc]
    edge.await_position(Position(edge.position.epoch, 1 + lines.count(b"\n")))


def test_numbers_that_were_given_up_after_a_reset_move_the_position(roles: Roles) -> None:
    """An edge that was away gets the reset and the numbers after it together."""
    ingest = roles.ingest(on_source_disconnect="reset")
    edge = roles.edge()
    roles.stop_ingest()
    until(lambda: edge.server.trouble, "the edge to lose its feed")
    epoch = edge.position.epoch + 1
    append(roles, [Batch(epoch, 1, 1, b""), Batch(epoch, 1, 5, b"")])
    ingest = roles.ingest()
    assert ingest.position == Position(epoch, 5)
    edge.await_position(ingest.position)
    ingest.source().send(b"5|B\n")
    edge.await_position(Position(epoch, 6))


def test_the_ingest_s_bounds_of_the_graph_apply_at_the_edge(roles: Roles) -> None:
    ingest = roles.ingest(max_follows=1)
    edge = roles.edge(max_follows=5)
    ingest.source().send(b"1|F|7|3\n2|F|8|3\n")
    edge.await_position(Position(edge.position.epoch, 3))
    assert edge.server.router.fanout.graph.follows == 1
    ingest = roles.ingest(max_follows=2)
    source = ingest.source()
    source.send(b"3|F|8|3\n4|F|9|3\n")
    edge.await_position(Position(edge.position.epoch, 5))
    late = roles.edge()
    for each in (edge, late):
        graph = each.server.router.fanout.graph
        assert graph.follows == ingest.server.router.fanout.graph.follows == 2
    eight, nine = late.clients(8, 9)
    source.send(b"5|S|3\n6|B\n")
    eight.expect(b"5|S|3\n6|B\n")
    nine.expect(b"6|B\n")


# Slow clients.


def test_a_slow_client_holds_up_only_its_own_edge(
    roles: Roles, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_buffers(monkeypatch)
    ingest = roles.ingest()
    slow = roles.edge(client_buffer=64 * 1024, hold_timeout=60.0, stall_timeout=60.0)
    quick = roles.edge()
    reader = quick.client(8).read_in_background()
    client = slow.client(7, small_buffers=True)
    beside = slow.client(9).read_in_background()
    lines = b"".join(LINE % number for number in range(1, 120_001))
    ingest.source().send_in_background(lines)
    until(lambda: reader.size == len(lines), "the client of the other edge to get everything")
    assert reader.so_far() == lines
    until(lambda: slow.following.ready.is_full, "the edge to ask for no more")
    assert slow.following.ready.events <= arrived.MAX_EVENTS + following.READ_BYTES // len(LINE % 1)
    assert ingest.position.next == 120_001
    assert slow.position.next < 60_000
    client.expect(lines)
    until(lambda: beside.size == len(lines), "its other client to get everything")
    assert beside.so_far() == lines


def test_an_edge_asks_for_no_more_than_its_memory_may_hold(
    roles: Roles, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_buffers(monkeypatch)
    ingest = roles.ingest()
    edge = roles.edge(
        client_buffer=8 * 1024, hold_timeout=60.0, stall_timeout=60.0, reorder_bytes=2**20
    )
    client = edge.client(7, small_buffers=True)
    lines = [b"%04000d|B\n" % number for number in range(1, 5_001)]
    ingest.source().send_in_background(b"".join(lines))
    until(lambda: ingest.durable.next == 5_001, "everything to be written")
    until(lambda: edge.following.ready.is_full, "the edge to ask for no more")
    assert edge.following.ready.events < 1_000
    client.expect(b"".join(lines))
