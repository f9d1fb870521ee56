"""Taking a snapshot: the child, its frames, and how it ends when something is wrong."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from maze.core import FollowGraph, Position
from maze.journal.journal import Batch, Bounds, Snapshot
from maze.journal.marks import Marks
from maze.journal.snapshot_frames import (
    begin_content,
    parse_begin,
)
from maze.journal.snapshots import STOPPED, SnapshotTaker
from maze.journal.sqlite import SQLiteJournal
from maze.journal.state import GraphState, graph_chunks

from .files import START, change

BOUNDS = Bounds(10, 20, 30)
PATIENCE = 60


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "journal")


@pytest.fixture
def journal(path: str) -> Iterator[SQLiteJournal]:
    with closing(SQLiteJournal(path, START, synchronous="OFF")) as opened:
        yield opened


def at_once(work: Callable[[], Any], on_done: Callable[[Exception | None], None]) -> None:
    """Stands in for the thread that writes the journal."""
    try:
        work()
    except Exception as error:
        on_done(error)
    else:
        on_done(None)


def taker(path: str, journal: SQLiteJournal, code: str | None = None, **more: Any) -> SnapshotTaker:
    """Return a taker whose child is a program that runs ``code`` in place of the real one."""
    if code is not None:
        more["command"] = [sys.executable, "-c", code]
    options: dict[str, Any] = {"submit": at_once, "report": pytest.fail, **more}
    return SnapshotTaker(path, journal, journal.lease(), **options)


def graph_of(snapshot: Snapshot | None) -> FollowGraph:
    assert snapshot is not None
    graph = FollowGraph()
    GraphState(graph, snapshot.position).load(snapshot)
    return graph


def marked(batch: Batch) -> Batch:
    """Return the batch with marks for its own numbers."""
    return batch._replace(unchanged=Marks(batch.first, batch.end, b"").encode())


def test_a_snapshot_is_taken_where_all_marks_are_in_the_journal(
    path: str, journal: SQLiteJournal
) -> None:
    fence = journal.lease()
    follow = [
        Batch(1, number, number + 1, b"%d|F|1|%d\n" % (number, number)) for number in (1, 2, 3)
    ]
    marks = Marks(1, 3, b"")  # of the first two
    journal.append([*follow[:2], follow[2]._replace(unchanged=marks.encode())], fence)
    assert taker(path, journal).run() is None
    assert journal.statistics().snapshot == Position(1, 3)
    journal.append([Batch(9, 1, 1, b""), Batch(9, 1, 2, b"1|F|1|2\n")], journal.lease())
    assert taker(path, journal).run() is None
    assert journal.statistics().snapshot == Position(9, 1)


def test_a_snapshot_has_the_graph_and_the_bounds_at_the_end(
    path: str, journal: SQLiteJournal
) -> None:
    fence = journal.lease()
    journal.append([marked(Batch(1, 1, 3, b"1|F|1|2\n2|F|3|2\n", BOUNDS))], fence)
    first = taker(path, journal)
    assert first.run() is None
    assert first.position == Position(1, 3)
    journal.append([marked(Batch(1, 3, 4, b"3|U|1|2\n"))], journal.lease())
    assert taker(path, journal).run() is None
    snapshot = journal.get_snapshot(pytest.fail)
    assert snapshot is not None
    assert snapshot[:2] == (Position(1, 4), BOUNDS)
    graph = graph_of(snapshot)
    assert graph.users == 1
    assert graph.following(3) == {2}


def test_what_the_child_reports_is_handed_on(path: str, journal: SQLiteJournal) -> None:
    fence = journal.lease()
    for number in (1, 2):
        batch = Batch(1, number, number + 1, b"%d|F|1|%d\n" % (number, number))
        journal.append([marked(batch)], fence)
        graph = FollowGraph()
        graph.follow(1, 1)
        journal.put_snapshot(journal.position(), BOUNDS, graph_chunks(graph), fence)
    change(path, "UPDATE chunk SET data = X'00' WHERE snapshot = 2")
    reports: list[str] = []
    assert taker(path, journal, report=reports.append).run() is None
    assert reports == [f"{path}: the snapshot 1-3 is damaged"]
    assert graph_of(journal.get_snapshot(pytest.fail)).following(1) == {1, 2}


def test_a_file_that_the_child_cannot_read_is_the_reason(
    tmp_path: Path, journal: SQLiteJournal
) -> None:
    other = str(tmp_path / "none")
    reason = taker(other, journal).run()
    assert reason == f"it ended with status 1: {other}: No such file or directory"


WRITE = """
import sys
from maze.core import Position
from maze.journal.snapshot_frames import *
from maze.net.frames import *
from maze.journal.journal import Bounds
out = sys.stdout.buffer
begin = begin_content(Position(1, 1), Bounds(1, 1, 1))
"""


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("pass", "it ended with status 0"),
        ("import sys; sys.exit('one\\ntwo')", "it ended with status 1: two"),
        ("import os; os.kill(os.getpid(), 9)", "it was killed by SIGKILL"),
        ("print('x' * 100)", "it wrote something that is no frame"),
        ("print('x')", "it ended within a frame"),
        (f"{WRITE}write_frame(out, CHUNK, b'early')", "it wrote an unexpected frame"),
        (f"{WRITE}write_frame(out, END, end_content(0))", "it wrote an unexpected frame"),
        (f"{WRITE}write_frame(out, BEGIN, b'')", "it wrote a first frame of another size"),
        (
            f"{WRITE}write_frame(out, BEGIN, begin); write_frame(out, BEGIN, begin)",
            "it wrote an unexpected frame",
        ),
        (
            f"{WRITE}write_frame(out, BEGIN, begin); write_frame(out, END, end_content(1))",
            "it wrote an unexpected frame",
        ),
        (
            f"{WRITE}write_frame(out, BEGIN, begin); write_frame(out, CHUNK, b'a')",
            "it ended with status 0",
        ),
        (
            f"{WRITE}write_frame(out, BEGIN, begin_content(Position(1, 9), Bounds(1, 1, 1)))",
            "1-9 is ahead of the journal",
        ),
    ],
)
def test_a_child_that_fails_leaves_no_snapshot(
    path: str, journal: SQLiteJournal, code: str, reason: str
) -> None:
    failing = taker(path, journal, code)
    assert failing.run() == reason
    assert failing.position is None
    assert journal.get_snapshot(pytest.fail) is None


def test_a_command_that_is_not_there_is_the_reason(path: str, journal: SQLiteJournal) -> None:
    reason = taker(path, journal, command=["/no/such/program"]).run()
    assert reason is not None
    assert "No such file" in reason


def test_an_error_of_the_journal_ends_the_child(path: str, journal: SQLiteJournal) -> None:
    code = f"{WRITE}write_frame(out, BEGIN, begin); out.flush(); sys.stdin.read(); input()"
    stale = taker(path, journal, code)
    journal.lease()
    assert stale.run() == "another writer has taken the lease"


WAIT = "import sys, time; print('x', flush=True, end=''); time.sleep(600)"


def test_a_snapshot_is_stopped_while_the_child_works(path: str, journal: SQLiteJournal) -> None:
    running = taker(path, journal, WAIT)
    reasons: list[str | None] = []
    thread = threading.Thread(target=lambda: reasons.append(running.run()), daemon=True)
    thread.start()
    running.stop()
    thread.join(PATIENCE)
    assert reasons == [STOPPED]


def test_a_snapshot_is_stopped_while_it_waits_to_be_written(
    path: str, journal: SQLiteJournal
) -> None:
    submitted = threading.Event()
    code = f"{WRITE}write_frame(out, BEGIN, begin)"
    waiting = taker(path, journal, code, submit=lambda work, on_done: submitted.set())
    reasons: list[str | None] = []
    thread = threading.Thread(target=lambda: reasons.append(waiting.run()), daemon=True)
    thread.start()
    assert submitted.wait(PATIENCE)
    waiting.stop()
    thread.join(PATIENCE)
    assert reasons == [STOPPED]


def test_a_snapshot_that_was_stopped_before_does_not_begin(
    path: str, journal: SQLiteJournal
) -> None:
    stopped = taker(path, journal, command=["/no/such/program"])
    stopped.stop()
    assert stopped.run() == STOPPED


def test_the_child_ignores_the_terminal(path: str, journal: SQLiteJournal) -> None:
    """Ctrl-C reaches the server's process group, and not the child."""
    code = "import os, sys; sys.exit(f'own session: {os.getsid(0) == os.getpid()}')"
    reason = taker(path, journal, code).run()
    assert reason == "it ended with status 1: own session: True"


def test_the_largest_position_and_bounds_fit() -> None:
    position, bounds = Position(2**63 - 1, 2**63), Bounds(*[2**63 - 1] * 3)
    assert parse_begin(begin_content(position, bounds)) == (position, bounds)
