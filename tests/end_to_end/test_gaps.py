"""Gaps that do not fill: the warning, what ``gap-timeout`` gives up, and what outlives it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from structlog.testing import LogCapture

from maze.core import Position

from .peers import PATIENCE, Client, broadcasts, joined, until
from .roles import Roles, logged
from .running import ROOT, Maze
from .test_positions import read_position

SOON = 0.1
"""The shortest warning and timeout, in seconds."""


def present(maze: Maze) -> Position:
    return maze.server.router.position


def resumed(maze: Maze, position: Position) -> Client:
    client = maze.client(b"7|%d-%d\n" % position)
    assert read_position(client) == ("=", position)
    return client


def test_a_stream_that_waits_says_so_once(start: Callable[..., Maze], log: LogCapture) -> None:
    maze = start(gap_warning=SOON)
    source = maze.source()
    source.send(b"542533|B\n542532|B\n")
    until(lambda: logged(log, "gap"), "the warning")
    watch = maze.server.intake._gaps
    checks = watch._seconds
    until(lambda: watch._seconds > checks + 2 * SOON, "more checks")
    (line,) = logged(log, "gap")
    assert (line["missing"], line["waiting_events"]) == (1, 2)
    assert line["waited_seconds"] >= SOON
    assert line["hint"].endswith("start the server with --first-sequence 542532")


def test_a_stream_that_has_begun_gets_no_hint(start: Callable[..., Maze], log: LogCapture) -> None:
    maze = start(gap_warning=SOON)
    maze.source().send(b"1|B\n3|B\n")
    until(lambda: logged(log, "gap"), "the warning")
    assert "hint" not in logged(log, "gap")[0]


def test_a_stream_from_below_the_first_number_says_so_once(
    start: Callable[..., Maze], log: LogCapture
) -> None:
    maze = start()
    (client,) = maze.clients(1)
    source = maze.source()
    source.send(joined(broadcasts(0, 3)))
    client.expect(b"1|B\n2|B\n")
    source.send(b"0|B\n3|B\n")
    client.expect(b"3|B\n")
    (line,) = logged(log, "below_first_sequence")
    assert (line["log_level"], line["sequence"], line["first_sequence"]) == ("warning", 0, 1)
    assert line["hint"].endswith("start the server with --first-sequence 0")
    assert maze.rejects() == {"stale": 2}


def test_a_stream_from_below_the_first_number_of_a_journal_is_told_to_reset_it(
    start: Callable[..., Maze], log: LogCapture, tmp_path: Path
) -> None:
    """The option alone changes nothing: the journal knows where the stream is."""
    path = tmp_path / "journal"
    maze = start(journal=str(path))
    maze.source().send(b"0|B\n")
    until(lambda: logged(log, "below_first_sequence"), "the warning")
    (line,) = logged(log, "below_first_sequence")
    reset = f"run python -m maze.journal reset {path} --first-sequence 0"
    assert line["hint"].endswith(
        f"stop the server, {reset}, and start the server with --first-sequence 0"
    )


def test_events_go_on_behind_numbers_that_are_given_up(
    start: Callable[..., Maze], log: LogCapture
) -> None:
    maze = start(gap_timeout=SOON)
    (client,) = maze.clients(1)
    source = maze.source()
    source.send(b"1|B\n4|B\n6|B\n")
    client.expect(b"1|B\n4|B\n6|B\n")
    (line,) = logged(log, "numbers_skipped")
    assert (line["first"], line["last"], line["numbers"]) == (2, 5, 3)
    assert maze.rejects() == {"skipped": 3}
    source.send(b"2|B\n7|B\n")
    client.expect_nothing_before(b"7|B\n")
    assert maze.rejects() == {"skipped": 3, "stale": 1}


def test_no_time_counts_while_a_source_waits_for_clients_to_register(
    start: Callable[..., Maze],
) -> None:
    """What is missing may lie unread in the source's socket."""
    maze = start(gap_warning=SOON, gap_timeout=60.0)
    (client,) = maze.clients(1)
    source = maze.source()
    source.send(b"1|B\n3|B\n")
    client.expect(b"1|B\n")
    watch, registration = maze.server.intake._gaps, maze.server.registration
    registration._no_batch_waits.clear()
    source.send(b"2|B\n")
    until(lambda: watch._holds, "the source to wait")
    until(lambda: watch._checked_at > watch._held_since, "a check meanwhile")
    checked_at, seconds = watch._checked_at, watch._seconds
    until(lambda: watch._checked_at > checked_at + 3 * SOON, "more checks")
    assert watch._seconds == seconds
    registration._no_batch_waits.set()
    client.expect(b"2|B\n3|B\n")
    assert watch._holds == 0
    assert maze.rejects() == {}


def test_pauses_of_the_sources_are_not_counted_twice(start: Callable[..., Maze]) -> None:
    """The router says again and again that the sources pause, or that they may read."""
    maze = start()
    watch, intake = maze.server.intake._gaps, maze.server.intake
    intake._settings = replace(intake._settings, reorder_bytes=0)
    for _ in range(3):
        intake.pace(router_waits=False)
    assert watch._holds == 1
    intake._settings = maze.server.settings
    for _ in range(3):
        intake.pace(router_waits=False)
    assert watch._holds == 0


def test_a_drain_gives_nothing_up(start: Callable[..., Maze]) -> None:
    """What is missing may be unread; the source sends it again after the restart."""
    maze = start(gap_timeout=60.0)
    maze.source().send(b"2|B\n")
    watch = maze.server.intake._gaps
    until(lambda: watch._watching, "the gap to be watched")
    greenlet = watch._watching
    assert greenlet
    maze.server.drain()
    greenlet.join(PATIENCE)
    assert greenlet.dead
    assert maze.rejects() == {}


def test_the_next_stream_does_not_lose_what_the_former_would(start: Callable[..., Maze]) -> None:
    maze = start(gap_timeout=SOON)
    (client,) = maze.clients(1)
    for _ in range(3):
        source = maze.source()
        source.send(b"1000|B\n")
        source.half_close()
        source.expect_closed()
        client.expect(b"1000|B\n")
        source = maze.source()
        source.send(b"2|B\n1|B\n")
        client.expect(b"1|B\n2|B\n")
        source.half_close()
        source.expect_closed()


def check(path: Path) -> None:
    """Assert that the journal, which no server has open, has no faults."""
    command = [sys.executable, "-m", "maze.journal", "check", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_given_up_outlives_the_server(start: Callable[..., Maze], tmp_path: Path) -> None:
    path = tmp_path / "journal"
    options: dict[str, Any] = {"journal": str(path), "gap_timeout": SOON, "source_acks": True}
    maze = start(**options)
    epoch = present(maze).epoch
    (client,) = maze.clients(7)
    source = maze.source()
    assert source.sock.recv(100) == b"A|%d|1\n" % epoch
    source.send(b"1|F|7|3\n4|S|3\n5|B\n9|P|1|7\n")
    client.expect(b"4|S|3\n5|B\n9|P|1|7\n")
    told = b""
    while not told.endswith(b"A|%d|10\n" % epoch):
        told += source.sock.recv(100)
    assert present(maze) == (epoch, 10)
    maze.close()
    check(path)
    maze = start(**options)
    assert present(maze) == (epoch, 10)
    missed = {1: b"4|S|3\n5|B\n9|P|1|7\n", 3: b"4|S|3\n5|B\n9|P|1|7\n", 7: b"9|P|1|7\n", 10: b""}
    clients = [
        (resumed(maze, Position(epoch, following)), lines) for following, lines in missed.items()
    ]
    source = maze.source()
    assert source.sock.recv(100) == b"A|%d|10\n" % epoch
    source.send(b"2|B\n8|B\n10|S|3\n")
    for client, lines in clients:
        client.expect(lines + b"10|S|3\n")
    assert maze.rejects() == {"stale": 2}


def test_edges_go_on_behind_numbers_that_are_given_up(roles: Roles) -> None:
    ingest, edge = roles.ingest(gap_timeout=SOON), roles.edge()
    (client,) = edge.clients(7)
    source = ingest.source()
    source.send(b"1|F|7|3\n4|S|3\n")
    client.expect(b"4|S|3\n")
    edge.await_position(ingest.position)
    assert edge.position.next == 5
    later = roles.edge()
    resuming = later.resumed(7, Position(ingest.position.epoch, 2))
    resuming.expect(b"4|S|3\n")
    source.send(b"3|B\n7|B\n")
    for each in (client, resuming):
        each.expect(b"7|B\n")
