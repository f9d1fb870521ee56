"""Private messages and follows whose users are not connected, in the reject file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .peers import until
from .running import Maze

STREAM = b"1|P|9|1\n2|P|9|2\r\n3|F|9|2\n4|S|2\n5|U|9|2\n6|X|1\n7|F|1|2\n8|B\n"
"""Of these, number 6 is malformed, and 2, 3 and 7 are for user 2."""

Start = Callable[..., Maze]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a server with a reject file."""
    running: list[Maze] = []

    def start_one(**settings: Any) -> Maze:
        running.append(Maze(rejects=str(tmp_path / "rejects.jsonl"), **settings))
        return running[-1]

    yield start_one
    for maze in running:
        maze.close()


def rows(maze: Maze, count: int) -> list[tuple[str, int, bytes, str]]:
    """Wait for so many rows; return reason, number, line and source of each."""
    file = maze.server.rejects.file
    assert file
    until(lambda: file.written >= count, f"{count} rows")
    assert maze.server.settings.rejects
    lines = Path(maze.server.settings.rejects).read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert {row["count"] for row in found} <= {1}
    return [
        (row["reason"], row["sequence"], row["line"].encode("latin-1"), row["source"])
        for row in found
    ]


def test_events_of_users_who_are_not_connected_are_recorded(start: Start) -> None:
    maze = start(rejects_undelivered=True)
    client = maze.client(1)
    maze.source().send(STREAM)
    client.expect(b"1|P|9|1\n8|B\n")
    assert sorted(row[:3] for row in rows(maze, 4)) == [
        ("bad_type", 6, b"6|X|1\n"),
        ("not_connected", 2, b"2|P|9|2\r\n"),
        ("not_connected", 3, b"3|F|9|2\n"),
        ("not_connected", 7, b"7|F|1|2\n"),
    ]
    assert {row[3] for row in rows(maze, 4) if row[0] == "not_connected"} == {"-"}
    assert maze.rejects() == {"bad_type": 1}  # an undelivered event is no reject


def test_by_default_they_are_only_counted(start: Start) -> None:
    maze = start()
    client = maze.client(1)
    maze.source().send(STREAM)
    client.expect(b"1|P|9|1\n8|B\n")
    assert [row[0] for row in rows(maze, 1)] == ["bad_type"]
    assert maze.server.router.fanout.undelivered_counts() == {b"F": 2, b"P": 1}


def test_a_session_that_ends_before_it_is_sent_an_event_was_connected(start: Start) -> None:
    maze = start(rejects_undelivered=True)
    staying, leaving = maze.clients(1, 2)
    source = maze.source()
    source.send(b"1|P|9|2\n2|B\n")
    staying.expect(b"2|B\n")
    leaving.close()
    maze.await_sessions(1)
    source.send(b"3|P|9|2\n4|B\n")
    staying.expect(b"4|B\n")
    assert [row[:2] for row in rows(maze, 1)] == [("not_connected", 3)]


def test_an_event_that_a_client_gets_when_it_comes_back_was_undelivered(start: Start) -> None:
    maze = start(rejects_undelivered=True)
    staying = maze.client(1)
    source = maze.source()
    source.send(b"1|P|9|2\n2|B\n")
    staying.expect(b"2|B\n")
    epoch = maze.server.router.position.epoch
    maze.client(b"2|%d-1\n" % epoch).expect(b"=|%d-1\n1|P|9|2\n2|B\n" % epoch)
    assert [row[:2] for row in rows(maze, 1)] == [("not_connected", 1)]
    assert maze.server.router.fanout.undelivered_counts()[b"P"] == 1


def test_events_that_a_restart_reads_from_the_journal_are_not_counted_again(
    start: Start, tmp_path: Path
) -> None:
    journal = str(tmp_path / "journal")
    maze = start(rejects_undelivered=True, journal=journal)
    client = maze.client(1)
    maze.source().send(STREAM)
    client.expect(b"1|P|9|1\n8|B\n")
    maze.close()
    again = start(rejects_undelivered=True, journal=journal)
    assert again.server.router.position.next == 9
    assert again.server.router.fanout.undelivered_counts() == {b"F": 0, b"P": 0}
