"""An ingest and edges: what clients get, whichever edge they are at, and whatever happens to it."""

from __future__ import annotations

import json
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.socket
import pytest
from structlog.testing import LogCapture

from maze.admin import Admin
from maze.core import Position
from maze.errors import JournalUnusableError
from maze.feed import arrived, following
from maze.feed.feed_port import Edge as PortEdge
from maze.feed.feed_port import FeedPort
from maze.feed.following import Following
from maze.feed.messages import SNAPSHOT
from maze.feed.reader import FeedReader
from maze.journal.frames import CHUNK, Frame, encode_frame
from maze.journal.journal import Batch, Bounds, Snapshot
from maze.journal.sqlite import SQLiteJournal
from maze.net.peer import UNIX_PEER, Peer
from maze.net.time_slice import yield_to_event_loop
from maze.pipeline.stats import NO_SEQUENCE
from maze.settings.option_types import FREE_PORT

from .peers import until
from .roles import Roles
from .running import shrink_buffers
from .test_journal import give_up_gaps, some_events
from .test_model import CONNECTED, Stream, expected_of
from .test_positions import read_position

USERS = 4
LINE = b"%018d|B\n"


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let edges notice soon that their ingest is back, and ingests that an edge has left."""
    monkeypatch.setattr(following, "MAX_RETRY_SECONDS", following.MIN_RETRY_SECONDS)
    monkeypatch.setattr(following, "WAIT_SECONDS", 0.1)


@pytest.fixture
def roles(bounded: None, log: LogCapture, tmp_path: Path) -> Iterator[Roles]:
    running = Roles(tmp_path)
    yield running
    running.close()


def logged(log: LogCapture, event: str) -> list[Any]:
    return [entry for entry in log.entries if entry["event"] == event]


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


def append(roles: Roles, batches: list[Batch], kept_from: Position | None = None) -> None:
    """Append batches to the journal of an ingest that is stopped; trim it up to a position."""
    journal = SQLiteJournal(roles.journal, Position(1, 1), synchronous="OFF")
    fence = journal.lease()
    journal.append(batches, fence)
    if kept_from:
        bounds = Bounds(10, 10, 10)
        for _ in range(2):
            journal.put_snapshot(journal.position(), bounds, [], fence)
        journal.trim(kept_from, fence)
        assert journal.kept_from() >= kept_from
    journal.close()


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


# The ingest goes, and comes back.


def test_an_ingest_that_restarts_is_followed_again(roles: Roles, log: LogCapture) -> None:
    ingest = roles.ingest()
    edges = [roles.edge(), roles.edge()]
    clients = [edge.client(7) for edge in edges]
    ingest.source().send(b"1|B\n")
    for client in clients:
        client.expect(b"1|B\n")
    for number in range(2, 5):
        roles.stop_ingest()
        for edge in edges:
            until(lambda e=edge: e.server.trouble, "the edge to lose its feed")  # type: ignore[misc]
        ingest = roles.ingest()
        ingest.await_edges(2)
        ingest.source().send(b"%d|B\n" % number)
        for client in clients:
            client.expect(b"%d|B\n" % number)
    for edge in edges:
        assert len(edge.sessions) == 1
        assert edge.server.trouble is None
    assert len(logged(log, "feed_unavailable")) == len(logged(log, "feed_available")) == 6


def test_an_edge_that_has_lost_its_feed_is_not_ready(roles: Roles) -> None:
    roles.ingest()
    edge = roles.edge(admin_port=FREE_PORT)
    admin = Admin(edge.server)
    admin.start()
    try:
        assert ask(admin, "/readyz")[0] == 200
        roles.stop_ingest()
        until(lambda: edge.server.trouble, "the edge to lose its feed")
        status, because = ask(admin, "/readyz")
        assert status == 503
        assert because == edge.server.trouble
        assert because.startswith(f"the feed {roles.feed}: ")
        roles.ingest()
        until(lambda: not edge.server.trouble, "the feed to be back")
        assert ask(admin, "/readyz")[0] == 200
    finally:
        admin.stop()


def ask(admin: Admin, path: str) -> tuple[int, str]:
    """Return the status of an answer, and its reason."""
    host, port = admin.address
    with gevent.socket.create_connection((host, port)) as sock:
        sock.sendall(f"GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n".encode())
        with sock.makefile("rb") as file:
            status = int(file.readline().split()[1])
            body = json.loads(file.read().partition(b"\r\n\r\n")[2])
    return status, body.get("because", "")


def test_an_edge_that_starts_before_its_ingest_waits_for_it(roles: Roles, log: LogCapture) -> None:
    edge = roles.edge_that_waits()
    until(lambda: edge.server.trouble, "the edge to find no ingest")
    assert edge.server.state == "replaying"
    ingest = roles.ingest()
    client = edge.started().client(7)
    ingest.source().send(b"1|B\n")
    client.expect(b"1|B\n")
    assert edge.server.trouble is None
    (back,) = logged(log, "feed_available")
    assert back["position"] == str(Position(ingest.position.epoch, 1))


def test_a_client_resumes_from_the_journal_of_an_ingest_that_has_restarted(roles: Roles) -> None:
    ingest = roles.ingest()
    edge = roles.edge(resume_events=0)
    ingest.source().send(b"1|F|7|3\n2|S|3\n")
    edge.await_position(Position(edge.position.epoch, 3))
    start = Position(edge.position.epoch, 1)
    edge.resumed(7, start).expect(b"2|S|3\n")
    ingest = roles.ingest()
    ingest.await_edges(1)
    edge.resumed(7, start).expect(b"2|S|3\n")


def test_an_edge_behind_what_is_kept_ends(roles: Roles, log: LogCapture) -> None:
    roles.ingest()
    edge = roles.edge()
    epoch = edge.position.epoch
    roles.stop_ingest()
    until(lambda: edge.server.trouble, "the edge to lose its feed")
    append(roles, [Batch(epoch, 1, 5, b""), Batch(epoch, 5, 9, b"")], Position(epoch, 5))
    roles.ingest()
    until(lambda: edge.server.state == "stopped", "the edge to end")
    assert edge.server.failed
    (failed,) = logged(log, "feed_failed")
    assert failed["error"] == f"what follows {epoch}-1 is no longer kept"
    assert failed["position"] == f"{epoch}-1"
    assert roles.edge().position == Position(epoch, 9)


def test_an_edge_that_has_what_the_journal_lacks_ends(roles: Roles, log: LogCapture) -> None:
    """A batch that begins below what the edge has is not delivered again."""
    ingest = roles.ingest()
    edge = roles.edge()
    client = edge.client(7)
    ingest.source().send(b"1|B\n2|B\n")
    client.expect(b"1|B\n2|B\n")
    epoch = edge.position.epoch
    roles.stop_ingest()
    until(lambda: edge.server.trouble, "the edge to lose its feed")
    for file in Path(roles.journal).parent.glob("journal*"):
        file.unlink()
    journal = SQLiteJournal(roles.journal, Position(epoch, 1), synchronous="OFF")
    journal.append([Batch(epoch, 1, 4, b"1|B\n2|B\n3|B\n")], journal.lease())
    journal.close()
    roles.ingest()
    until(lambda: edge.server.state == "stopped", "the edge to end")
    (failed,) = logged(log, "feed_failed")
    assert failed["error"] == f"the batch {epoch}-4 does not follow {epoch}-3"
    client.expect_closed()


def test_an_edge_ends_if_it_cannot_use_what_arrives(
    roles: Roles, log: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest = roles.ingest()
    edge = roles.edge()

    def fail(*_: object) -> None:
        raise ValueError("cannot")

    monkeypatch.setattr(Following, "_arrive", fail)
    ingest.source().send(b"1|B\n")
    until(lambda: edge.server.state == "stopped", "the edge to end")
    (failed,) = logged(log, "feed_failed")
    assert failed["exc_info"]


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
        until(lambda: ingest.server.feed._greenlets, "the connection")
    until(lambda: not ingest.server.feed._greenlets, "the ingest to notice the end")
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
    frames = iter(port._answer(PortEdge("edge", Peer(UNIX_PEER)), Frame(SNAPSHOT, b"")))
    next(frames)
    assert encoded.count(CHUNK) <= 1
    assert len(list(frames)) == 21  # the chunks, and the end


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
