"""Ordering: any order of sending, duplicates, gaps, and where the sequence begins."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from structlog.testing import LogCapture

from .peers import Client, broadcasts, joined, until
from .running import Maze


def _await_waiting(maze: Maze, waiting: int) -> None:
    """Wait until ``waiting`` events are held behind a gap."""
    until(lambda: maze.server.intake.reorder.waiting == waiting, f"{waiting} events to wait")


@pytest.mark.parametrize("seed", range(3))
def test_order_is_that_of_the_numbers_however_they_are_sent(maze: Maze, seed: int) -> None:
    (client,) = maze.clients(1)
    lines = broadcasts(1, 5_001)
    shuffled = random.Random(seed).sample(lines, len(lines))
    maze.source().send(joined(shuffled))
    client.expect(joined(lines))


def test_order_of_a_stream_sent_backwards_line_by_line(maze: Maze) -> None:
    (client,) = maze.clients(1)
    source = maze.source()
    lines = broadcasts(1, 101)
    for line in reversed(lines):
        source.send(line)
    client.expect(joined(lines))


def test_order_is_kept_in_a_sliding_window(start: Callable[..., Maze]) -> None:
    maze = start(reorder_limit=200)
    (client,) = maze.clients(1)
    lines = broadcasts(1, 20_001)
    pick = random.Random(4)
    batches = [lines[start : start + 100] for start in range(0, len(lines), 100)]
    maze.source().send(joined(joined(pick.sample(batch, len(batch))) for batch in batches))
    client.expect(joined(lines))
    assert maze.rejects() == {}


def test_status_update_goes_to_the_followers_at_its_number(maze: Maze) -> None:
    (client,) = maze.clients(1)
    maze.source().send(b"4|S|2\n3|U|1|2\n5|B\n2|S|2\n1|F|1|2\n")
    client.expect(b"2|S|2\n5|B\n")


def test_nothing_is_routed_before_its_turn(maze: Maze) -> None:
    (client,) = maze.clients(1)
    source = maze.source()
    source.send(b"3|B\n2|B\n")
    _await_waiting(maze, 2)
    assert maze.server.router.stats.routed_events == 0
    source.send(b"1|P|9|1\n")
    client.expect(b"1|P|9|1\n2|B\n3|B\n")


def test_duplicate_of_a_buffered_event_is_dropped_and_counted(maze: Maze) -> None:
    (client,) = maze.clients(1)
    source = maze.source()
    source.send(b"2|B\n2|B\n")
    source.send(b"3|B\n2|B\n1|B\n")
    client.expect(b"1|B\n2|B\n3|B\n")
    assert maze.rejects() == {"duplicate": 2}


def test_conflict_is_won_by_the_first_and_counted(maze: Maze) -> None:
    (client,) = maze.clients(1)
    source = maze.source()
    source.send(b"2|P|9|1\n")
    _await_waiting(maze, 1)
    source.send(b"2|P|8|1\n2|P|9|1\r\n")
    source.send(b"1|B\n3|B\n")
    client.expect(b"1|B\n2|P|9|1\n3|B\n")
    assert maze.rejects() == {"conflict": 2}


def test_stale_event_is_dropped_and_counted(maze: Maze) -> None:
    (client,) = maze.clients(1)
    source = maze.source()
    source.send(b"1|B\n2|B\n")
    client.expect(b"1|B\n2|B\n")
    source.send(b"2|B\n1|P|9|1\n3|B\n")
    client.expect_nothing_before(b"3|B\n")
    assert maze.rejects() == {"stale": 2}


def test_stale_event_does_not_change_the_graph(maze: Maze) -> None:
    (client,) = maze.clients(1)
    source = maze.source()
    source.send(b"1|B\n")
    client.expect(b"1|B\n")
    source.send(b"1|F|1|2\n2|S|2\n3|B\n")
    client.expect_nothing_before(b"3|B\n")


def test_number_below_the_first_is_stale(maze: Maze) -> None:
    (client,) = maze.clients(1)
    maze.source().send(b"0|B\n1|B\n")
    client.expect_nothing_before(b"1|B\n")
    assert maze.rejects() == {"stale": 1}


@pytest.mark.parametrize("first", [0, 1000, 2**63 - 3])
def test_first_sequence_sets_where_the_stream_begins(
    start: Callable[..., Maze], first: int
) -> None:
    maze = start(first_sequence=first)
    (client,) = maze.clients(1)
    lines = broadcasts(first, first + 3)
    maze.source().send(joined(reversed(lines)))
    client.expect(joined(lines))


def test_gap_is_skipped_once_the_buffer_is_full(start: Callable[..., Maze]) -> None:
    maze = start(reorder_limit=10)
    (client,) = maze.clients(1)
    source = maze.source()
    source.send(joined(broadcasts(4, 14)))
    _await_waiting(maze, 10)
    assert maze.server.router.stats.routed_events == 0
    source.send(b"14|B\n")
    client.expect(joined(broadcasts(4, 15)))
    assert maze.rejects() == {"skipped": 3}
    source.send(b"2|B\n15|B\n")
    client.expect_nothing_before(b"15|B\n")
    assert maze.rejects() == {"skipped": 3, "stale": 1}


def test_gap_that_is_skipped_is_logged_with_its_range(
    start: Callable[..., Maze], log: LogCapture
) -> None:
    maze = start(reorder_limit=10)
    (client,) = maze.clients(1)
    maze.source().send(b"1|B\n" + joined(broadcasts(5, 16)))
    client.expect(b"1|B\n" + joined(broadcasts(5, 16)))
    (line,) = (entry for entry in log.entries if entry["event"] == "numbers_skipped")
    assert (line["first"], line["last"]) == (2, 4)


def test_higher_gap_stays_open_when_a_lower_one_is_skipped(start: Callable[..., Maze]) -> None:
    maze = start(reorder_limit=10)
    (client,) = maze.clients(1)
    source = maze.source()
    source.send(joined(broadcasts(2, 10)) + joined(broadcasts(11, 14)))
    client.expect(joined(broadcasts(2, 10)))
    source.send(b"10|B\n")
    client.expect(joined(broadcasts(10, 14)))
    assert maze.rejects() == {"skipped": 1}


def test_gap_that_fills_in_time_loses_nothing(start: Callable[..., Maze]) -> None:
    maze = start(reorder_limit=10)
    (client,) = maze.clients(1)
    source = maze.source()
    source.send(joined(broadcasts(2, 12)))
    _await_waiting(maze, 10)
    source.send(b"1|B\n")
    client.expect(joined(broadcasts(1, 12)))
    assert maze.rejects() == {}


def test_gap_wider_than_the_receive_buffers_does_not_pause_reading(
    start: Callable[..., Maze],
) -> None:
    maze = start(reorder_limit=200_000)
    client = maze.client(1)
    inbox = client.read_in_background()
    lines = broadcasts(1, 150_001)
    maze.source().send(joined(lines[1:]) + lines[0])
    expected = joined(lines)
    until(lambda: inbox.size >= len(expected), "everything to arrive")
    assert inbox.so_far() == expected


def test_gap_closes_the_source_with_the_fail_policy(
    start: Callable[..., Maze], log: LogCapture
) -> None:
    maze = start(reorder_limit=10, gap_policy="fail")
    (client,) = maze.clients(1)
    source = maze.source()
    source.send(b"1|B\n" + joined(broadcasts(3, 14)))
    source.expect_closed()
    _expect_closed_for(log, "gap")
    maze.await_sources(0)
    assert dict(maze.server.source.closed) == {"gap": 1}
    _expect_fresh_stream(maze, client, b"1|B\n" + joined(broadcasts(3, 14)))


def _expect_closed_for(log: LogCapture, reason: str) -> None:
    (line,) = (entry for entry in log.entries if entry["event"] == "source_closed")
    assert line["reason"] == reason
    assert line["log_level"] == "error"


def _expect_fresh_stream(maze: Maze, client: Client, before: bytes) -> None:
    client.expect(before)
    maze.source().send(b"1|P|2|1\n")
    client.expect(b"1|P|2|1\n")


def test_two_gaps_are_both_given_up_when_the_source_leaves(maze: Maze) -> None:
    (client,) = maze.clients(1)
    source = maze.source()
    source.send(b"2|B\n1|B\n9|B\n5|B\n6|P|9|1\n")
    source.close()
    client.expect(b"1|B\n2|B\n5|B\n6|P|9|1\n9|B\n")
    maze.await_sources(0)
    assert maze.rejects() == {"skipped": 4}
