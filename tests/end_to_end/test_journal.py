"""A server with a journal: what it delivered outlives it."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import LogCapture

from maze.core import Position
from maze.errors import JournalUnusableError
from maze.journal.journal import JournalError
from maze.journal.snapshots import STOPPED, SnapshotTaker

from .peers import PATIENCE, Client, until
from .running import Maze, shrink_buffers
from .test_positions import read_position

USERS = 4


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "journal")


@pytest.fixture
def start(path: str) -> Iterator[Callable[..., Maze]]:
    """Start servers with the journal, one after the other."""
    running: list[Maze] = []

    def run(**settings: Any) -> Maze:
        for maze in running:
            maze.close()
        running[:] = [Maze(journal=path, **settings)]
        return running[0]

    yield run
    for maze in running:
        maze.close()


def present(maze: Maze) -> Position:
    return maze.server.router.position


def resumed(maze: Maze, user: int, position: Position) -> Client:
    client = maze.client(b"%d|%d-%d\n" % (user, *position))
    assert read_position(client) == ("=", position)
    return client


def test_sequence_graph_and_epoch_outlive_the_server(start: Callable[..., Maze]) -> None:
    maze = start()
    maze.source().send(b"1|F|7|3\n2|F|8|3\n4|U|8|3\n3|S|3\n")
    maze.await_routed(4)
    before = present(maze)
    assert before.next == 5
    maze = start()
    assert present(maze) == before
    seven, eight = maze.clients(7, 8)
    maze.source().send(b"4|B\n5|S|3\n6|B\n")
    seven.expect(b"5|S|3\n6|B\n")
    eight.expect(b"6|B\n")
    assert maze.rejects() == {"stale": 1}


@pytest.mark.parametrize("kept", [0, 3, 1_000])
def test_a_client_that_was_away_during_a_restart_misses_nothing(
    start: Callable[..., Maze], kept: int
) -> None:
    maze = start(resume_events=kept)
    client = maze.client(b"7|\n")
    _, position = read_position(client)
    source = maze.source()
    source.send(b"1|F|7|3\n2|F|7|3\n3|S|3\n4|P|1|7\n5|U|7|3\n6|S|3\n7|B\n")
    maze.await_routed(7)
    maze = start(resume_events=kept)
    maze.source().send(b"8|S|3\n9|F|7|3\n10|S|3\n")
    maze.await_routed(3)
    client = resumed(maze, 7, position)
    client.expect(b"3|S|3\n4|P|1|7\n7|B\n10|S|3\n")


def test_a_client_that_falls_behind_what_is_in_memory_is_served_from_the_journal(
    start: Callable[..., Maze], monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_buffers(monkeypatch)
    maze = start(client_buffer=64 * 1024, resume_events=40_001)
    source = maze.source()
    source.send(b"1|F|7|3\n2|F|7|4\n3|F|7|3\n")
    lines = [b"%018d|S|%018d\n" % (number, 3 + number % 3) for number in range(4, 40_001)]
    source.send(b"".join(lines))
    maze.await_routed(40_000)
    epoch = present(maze).epoch
    client = maze.client(b"7|%d-4\n" % epoch, small_buffers=True)
    session = maze.session(7)
    full = maze.server.router.resumes.turns.full
    until(lambda: session in full, "the replay to wait for the client")
    source.send(b"40001|U|7|3\n")
    source.send(b"".join(b"%d|S|3\n" % number for number in range(40_002, 80_001)))
    source.send(b"80001|B\n")
    maze.await_routed(80_001)
    assert maze.server.router.recent.kept_from > 40_000
    assert read_position(client) == ("=", Position(epoch, 4))
    client.expect(b"".join(line for line in lines if not line.endswith(b"5\n")))
    client.expect(b"80001|B\n")
    assert maze.server.router.resumes.outcomes == {"resumed": 1}


def test_without_its_source_the_stream_goes_on_where_it_was(start: Callable[..., Maze]) -> None:
    maze = start()
    for number in range(1, 4):
        source = maze.source()
        source.send(b"%d|B\n" % number)
        maze.await_routed(number)
        source.half_close()
        source.expect_closed()
    assert present(maze).next == 4


def test_a_reset_begins_an_epoch_that_outlives_the_server(start: Callable[..., Maze]) -> None:
    maze = start(on_source_disconnect="reset")
    client = maze.client(b"7|\n")
    _, first = read_position(client)
    source = maze.source()
    source.send(b"1|F|7|3\n")
    maze.await_routed(1)
    source.half_close()
    source.expect_closed()
    mark, second = read_position(client)
    assert (mark, second.next) == ("=", 1)
    assert second.epoch > first.epoch
    source = maze.source()
    source.send(b"1|S|3\n2|B\n")
    client.expect(b"2|B\n")
    maze = start()
    assert present(maze) == Position(second.epoch, 3)
    assert not maze.server.router.fanout.graph.follows
    late = maze.client(b"7|%d-1\n" % first.epoch)
    assert read_position(late) == ("!", present(maze))


def test_sources_are_told_what_is_durable(start: Callable[..., Maze]) -> None:
    maze = start(source_acks=True)
    source = maze.source()
    epoch = present(maze).epoch
    assert source.sock.recv(100) == b"A|%d|1\n" % epoch
    source.send(b"2|B\n1|B\n4|B\n")
    assert source.sock.recv(100) == b"A|%d|3\n" % epoch
    source.half_close()
    source.expect_closed()
    maze = start(source_acks=True)
    source = maze.source()
    assert source.sock.recv(100) == b"A|%d|3\n" % epoch


def test_a_source_that_ends_is_told_of_its_last_event(start: Callable[..., Maze]) -> None:
    maze = start(source_acks=True)
    source = maze.source()
    source.send(b"1|B\n3|B\n2|B\n")
    source.half_close()
    told = source.read_until_closed()
    assert told.endswith(b"A|%d|4\n" % present(maze).epoch)


def test_after_a_stop_the_file_alone_has_everything(start: Callable[..., Maze], path: str) -> None:
    maze = start()
    maze.source().send(b"1|B\n2|B\n")
    maze.await_routed(2)
    maze.server.stop()
    assert not Path(path + "-wal").exists()
    Path(path + ".lock").unlink()
    assert present(start()).next == 3


def test_a_second_server_on_the_file_is_refused(start: Callable[..., Maze], path: str) -> None:
    start()
    with pytest.raises(JournalUnusableError, match="another process has it open"):
        Maze(journal=path)


def test_the_bounds_of_a_follow_are_those_at_its_time(start: Callable[..., Maze]) -> None:
    maze = start(max_follows=1)
    maze.source().send(b"1|F|7|3\n2|F|8|3\n")
    maze.await_routed(2)
    maze = start(max_follows=10)
    assert maze.server.router.fanout.graph.follows == 1
    maze.source().send(b"3|F|8|3\n")
    maze.await_routed(1)
    maze = start(max_follows=1)
    assert maze.server.router.fanout.graph.follows == 2


def give_up_gaps(maze: Maze) -> None:
    """Wait until events wait behind a gap, and route them."""
    intake = maze.server.intake
    until(lambda: intake.reorder.waiting > 0, "events to wait")
    intake._ordering.give_up_gaps("-")
    maze.server.router.wake()


def some_events(chooser: random.Random, first: int, count: int) -> list[bytes]:
    """Return events of few users, with many follows that change nothing, and with gaps."""
    lines = []
    for number in range(first, first + count):
        kind = chooser.choice("FFFUUUSSSPB")
        users = [b"%d" % chooser.randrange(USERS) for _ in range({"B": 0, "S": 1}.get(kind, 2))]
        lines.append(b"|".join([b"%d" % number, kind.encode(), *users]) + b"\n")
    return lines


@pytest.mark.parametrize("seed", range(6))
def test_whoever_comes_back_gets_what_was_delivered_to_who_stayed(
    start: Callable[..., Maze], seed: int
) -> None:
    chooser = random.Random(seed)
    kept = chooser.choice([0, 10, 100])
    streams = [b""] * USERS
    ends: list[tuple[int, list[int]]] = []  # a number, and how long each stream was there
    epoch, number = 0, 1
    for life in range(3):
        maze = start(resume_events=kept, max_follows=7)
        staying = maze.clients(*range(USERS))
        source = maze.source()
        for _ in range(4):
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
            give_up_gaps(maze)
            for user, client in enumerate(staying):
                while not streams[user].endswith(last):
                    streams[user] += client.read_line()
            epoch = present(maze).epoch
            for user in range(USERS):
                then, lengths = chooser.choice(ends)
                client = resumed(maze, user, Position(epoch, then))
                client.expect(streams[user][lengths[user] :])
                client.close()
                maze.await_sessions(USERS)
        assert life < 3


def test_a_stop_during_a_snapshot_is_no_error(
    start: Callable[..., Maze], log: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()

    def begin(taker: SnapshotTaker, *_: Any) -> None:
        begun.set()
        taker._answers.get(timeout=PATIENCE)  # until it is stopped
        raise JournalError(STOPPED)

    monkeypatch.setattr(SnapshotTaker, "_store", begin)
    maze = start(snapshot_events=1)
    maze.source().send(b"1|B\n")
    until(begun.is_set, "the snapshot to begin")
    maze.server.stop()
    journaling = maze.server.intake.journaling
    assert journaling
    until(lambda: journaling._taker is None, "the snapshot to end")
    assert not [line for line in log.entries if line["event"].startswith("snapshot")]
