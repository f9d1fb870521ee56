"""Sources that connect, leave, return, replace each other, or exceed ``max-sources``."""

from __future__ import annotations

import random
from collections.abc import Callable

import gevent
import pytest
from structlog.testing import LogCapture

from .peers import Source, broadcasts, joined, messages, until
from .running import Maze

pytestmark = pytest.mark.parametrize("wire", ["plain", "tls"], indirect=True)


def _await_disconnections(log: LogCapture, count: int) -> None:
    def disconnections() -> int:
        return sum(entry["event"] == "source_disconnected" for entry in log.entries)

    until(lambda: disconnections() == count, f"{count} sources to leave")


def test_reset_new_source_starts_again_from_the_first_number(maze: Maze, log: LogCapture) -> None:
    (client,) = maze.clients(1)
    for turn in (1, 2, 3):
        source = maze.source()
        source.send(b"2|B\n1|P|9|1\n3|B\n")
        client.expect(b"1|P|9|1\n2|B\n3|B\n")
        source.close()
        _await_disconnections(log, turn)
    assert len(maze.sessions) == 1
    assert maze.rejects() == {}


def test_the_log_counts_what_each_source_sent(maze: Maze, log: LogCapture) -> None:
    for turn, stream in enumerate((b"1|B\n1|B\nx\n3|B\n4|", b"1|B\n"), start=1):
        source = maze.source()
        source.send(stream)
        source.half_close()
        _await_disconnections(log, turn)
    first, second = (entry for entry in log.entries if entry["event"] == "source_disconnected")
    about = {"event", "log_level", "source"}
    assert {key: first[key] for key in first.keys() - about} == {
        "reason": "left",
        "routed_events": 2,
        "duplicate": 1,
        "bad_sequence": 1,
        "skipped": 1,
        "half_line": 1,
    }
    assert {key: second[key] for key in second.keys() - about} == {
        "reason": "left",
        "routed_events": 1,
    }
    assert dict(maze.server.source.closed) == {"left": 2}


def test_reset_clears_the_graph_and_keeps_the_clients(maze: Maze, log: LogCapture) -> None:
    follower, followed = maze.clients(1, 2)
    source = maze.source()
    source.send(b"1|F|1|2\n2|S|2\n")
    follower.expect(b"2|S|2\n")
    source.close()
    _await_disconnections(log, 1)
    source = maze.source()
    source.send(b"1|S|2\n2|B\n3|F|1|2\n4|S|2\n")
    follower.expect(b"2|B\n4|S|2\n")
    followed.expect(b"1|F|1|2\n2|B\n3|F|1|2\n")


def test_reset_first_delivers_the_events_behind_a_gap(maze: Maze, log: LogCapture) -> None:
    (client,) = maze.clients(1)
    source = maze.source()
    source.send(b"9|B\n1|B\n7|F|1|1\n8|S|1\n5|B\n3|B")
    source.close()
    client.expect(b"1|B\n5|B\n7|F|1|1\n8|S|1\n9|B\n")
    _await_disconnections(log, 1)
    assert maze.rejects() == {"skipped": 4, "half_line": 1}
    maze.source().send(b"1|S|1\n2|B\n")
    client.expect_nothing_before(b"2|B\n")


def test_reset_after_a_source_that_was_cut_off(maze: Maze, log: LogCapture) -> None:
    (client,) = maze.clients(1)
    source = maze.source()
    source.send(b"1|B\n3|B\n")
    client.expect(b"1|B\n")
    source.reset()
    client.expect(b"3|B\n")
    _await_disconnections(log, 1)
    maze.source().send(b"1|P|9|1\n")
    client.expect(b"1|P|9|1\n")


def test_keep_keeps_sequence_and_graph(start: Callable[..., Maze], log: LogCapture) -> None:
    maze = start(on_source_disconnect="keep")
    follower, followed = maze.clients(1, 2)
    source = maze.source()
    source.send(b"1|F|1|2\n2|B\n")
    follower.expect(b"2|B\n")
    source.close()
    _await_disconnections(log, 1)
    maze.source().send(b"1|B\n2|P|9|1\n3|S|2\n4|B\n")
    follower.expect(b"3|S|2\n4|B\n")
    followed.expect(b"1|F|1|2\n2|B\n4|B\n")
    assert maze.rejects() == {"stale": 2}


def test_keep_holds_buffered_events_until_the_source_returns(
    start: Callable[..., Maze], log: LogCapture
) -> None:
    maze = start(on_source_disconnect="keep")
    (client,) = maze.clients(1)
    source = maze.source()
    source.send(b"1|B\n4|B\n3|B\n2|")
    source.close()
    client.expect(b"1|B\n")
    _await_disconnections(log, 1)
    assert maze.rejects() == {"half_line": 1}
    source = maze.source()
    source.send(b"5|B\n3|B\n")
    until(lambda: maze.rejects().get("duplicate") == 1, "the duplicate to be counted")
    source.send(b"2|P|9|1\n")
    client.expect(b"2|P|9|1\n3|B\n4|B\n5|B\n")


def test_all_events_of_a_half_closed_source_are_delivered(maze: Maze) -> None:
    inbox = maze.client(1).read_in_background()
    lines = broadcasts(1, 50_001)
    source = maze.source()
    source.send_in_background(joined(reversed(lines))).join()
    source.half_close()
    source.expect_closed()
    expected = joined(lines)
    until(lambda: inbox.size >= len(expected), "everything to arrive")
    assert inbox.so_far() == expected


def test_all_events_of_a_closed_source_are_delivered(maze: Maze) -> None:
    inbox = maze.client(1).read_in_background()
    lines = broadcasts(1, 50_001)
    source = maze.source()
    source.send(joined(lines))
    source.close()
    expected = joined(lines)
    until(lambda: inbox.size >= len(expected), "everything to arrive")
    assert inbox.so_far() == expected


def test_empty_source_leaves_no_trace(maze: Maze, log: LogCapture) -> None:
    (client,) = maze.clients(1)
    for turn in range(1, 6):
        maze.source().close()
        _await_disconnections(log, turn)
    maze.source().send(b"1|B\n")
    client.expect(b"1|B\n")


def test_second_source_is_refused_at_once_and_the_first_goes_on(
    maze: Maze, log: LogCapture
) -> None:
    (client,) = maze.clients(1)
    first = maze.source()
    first.send(b"1|B\n")
    client.expect(b"1|B\n")
    second = maze.source()
    second.read_until_closed()
    assert maze.server.source.refused == 1
    assert [e["event"] for e in log.entries].count("source_refused") == 1
    first.send(b"2|B\n")
    client.expect(b"2|B\n")


def test_second_source_is_refused_whatever_it_has_sent(maze: Maze) -> None:
    (client,) = maze.clients(1)
    first = maze.source()
    first.send(b"1|B\n")
    client.expect(b"1|B\n")
    second = maze.source()
    second.send(b"2|P|9|1\n")
    second.read_until_closed()
    first.send(b"2|B\n")
    client.expect_nothing_before(b"2|B\n")


def test_source_replaced_immediately_is_not_refused(maze: Maze) -> None:
    (client,) = maze.clients(1)
    for turn in range(20):
        source = maze.source()
        lines = messages(1, 200 + turn, 1)
        source.send(joined(lines))
        source.close()
        client.expect(joined(lines))
    assert maze.server.source.refused == 0


def test_redundant_sources_feed_one_sequence(start: Callable[..., Maze], log: LogCapture) -> None:
    maze = start(max_sources=2)
    inbox = maze.client(1).read_in_background()
    sources = [maze.source(), maze.source()]
    maze.await_sources(2)
    lines = broadcasts(1, 5_001)
    sending = [
        source.send_in_background(joined(random.Random(seed).sample(lines, len(lines))))
        for seed, source in enumerate(sources)
    ]
    gevent.joinall(sending)
    expected = joined(lines)
    until(lambda: inbox.size >= len(expected), "everything to arrive")
    for source in sources:
        source.close()
    _await_disconnections(log, 2)
    assert inbox.so_far() == expected
    rejects = maze.rejects()
    assert rejects.get("duplicate", 0) + rejects.get("stale", 0) == 5_000
    assert set(rejects) <= {"duplicate", "stale"}


def test_redundant_source_that_leaves_does_not_reset(
    start: Callable[..., Maze], log: LogCapture
) -> None:
    maze = start(max_sources=2)
    follower, followed = maze.clients(1, 2)
    one, two = maze.source(), maze.source()
    maze.await_sources(2)
    one.send(b"1|F|1|2\n3|B\n")
    followed.expect(b"1|F|1|2\n")
    one.close()
    _await_disconnections(log, 1)
    two.send(b"1|F|1|2\n2|S|2\n")
    follower.expect(b"2|S|2\n3|B\n")
    two.close()
    _await_disconnections(log, 2)
    maze.source().send(b"1|S|2\n2|B\n")
    follower.expect_nothing_before(b"2|B\n")


def test_third_of_two_sources_is_refused(start: Callable[..., Maze]) -> None:
    maze = start(max_sources=2)
    one, _two = maze.source(), maze.source()
    maze.await_sources(2)
    third: Source = maze.source()
    third.read_until_closed()
    assert maze.server.source.refused == 1
    one.close()
    maze.await_sources(1)
    maze.source()
    maze.await_sources(2)
