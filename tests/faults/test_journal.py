"""A journal whose disk is full, slow or stuck, or whose file is gone: nothing is reported too
early, nothing is lost, and commits go on by themselves once they can."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gevent
import pytest
from gevent.queue import Queue

from maze.core import Decoder, Position, ReorderBuffer
from maze.journal import group_commit
from maze.journal.group_commit import GroupCommit
from maze.journal.journal import Batch, GoneError
from maze.journal.sqlite import SQLiteJournal
from maze.pipeline.committed import Committed

from . import full_disk

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
START = Position(1, 1)
NOBODY = 65534


class Disk(SQLiteJournal):
    """A journal whose appends take as long as ``pass_time`` does."""

    pass_time: Callable[[], object] = staticmethod(lambda: None)
    appends = 0

    def append(self, batches: Sequence[Batch], fence: int) -> Position:
        self.appends += 1
        self.pass_time()
        return super().append(batches, fence)


class Pipeline:
    """The path from the reorder buffer to the router, and what the router was told."""

    def __init__(self, journal: SQLiteJournal, **bounds: int) -> None:
        self.reorder = ReorderBuffer(START.next)
        self.told: Queue[Any] = Queue()
        self.commit = GroupCommit(
            journal,
            journal.lease(),
            on_committed=self.on_committed,
            on_trouble=self.told.put,
            on_lost=self.told.put,
        )
        self.committed = Committed(self.commit.put, START, **bounds)
        self.journal = journal

    def on_committed(self, batches: list[Batch]) -> None:
        position = batches[-1].position
        self.committed.on_committed(position)
        self.told.put(position)

    def send(self, first: int, end: int) -> None:
        """Send broadcasts, each in a batch of its own while there is room."""
        for number in range(first, end):
            self.reorder.add(*Decoder().feed(b"%d|B\n" % number)[0])
            self.committed.take_from(self.reorder)

    def next_told(self) -> Any:
        return self.told.get(timeout=PATIENCE)

    def all_told(self, last: Position) -> list[Any]:
        """Everything that is told up to a commit."""
        told = [self.next_told()]
        while told[-1] != last:
            told.append(self.next_told())
        return told

    def route(self) -> list[int]:
        """The numbers that are ready."""
        runs = self.committed.take_ready(1_000_000)
        return [number for run in runs for number in range(run.first, run.end)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def disk(path: Path) -> Iterator[Disk]:
    with closing(Disk(str(path), START)) as journal:
        yield journal


def kept(path: Path) -> list[Batch]:
    with closing(SQLiteJournal(str(path), START)) as journal:
        return journal.read(START, 1 << 30)


# Full.


def run_full_disk(path: Path, limit: int) -> list[object]:
    """Run a process whose disk is full for a while; return what it was told."""
    arguments = [sys.executable, "-m", "tests.faults.full_disk", str(path), str(limit)]
    run = subprocess.run(
        arguments, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_a_disk_that_is_full_is_written_again_when_there_is_room(path: Path) -> None:
    first, trouble, *rest = run_full_disk(path, 500_000)
    assert first == 2
    assert trouble == f"cannot write {path}: disk I/O error (SQLITE_IOERR_WRITE)"
    assert rest in ([None, 3, 5], [None, 3, 4, 5])
    assert kept(path) == [full_disk.batch(number) for number in (1, 2, 3, 4)]


def test_a_process_that_ends_while_the_disk_is_full_leaves_a_whole_journal(path: Path) -> None:
    assert run_full_disk(path, 0)[0] == 2
    assert kept(path) == [full_disk.batch(1)]
    with closing(SQLiteJournal(str(path), START)) as journal:
        assert journal.append([full_disk.batch(2)], journal.lease()) == Position(1, 3)
    assert kept(path) == [full_disk.batch(1), full_disk.batch(2)]


# Slow, and stuck.


def test_a_slow_disk_gets_larger_appends(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an fsync of 50 ms, what comes meanwhile is one append; it is no trouble."""
    monkeypatch.setattr(group_commit, "SLOW_SECONDS", PATIENCE)
    entered = threading.Event()

    def pass_time() -> None:
        entered.set()
        threading.Event().wait(0.05)

    disk.pass_time = pass_time
    pipeline = Pipeline(disk)
    pipeline.send(1, 2)
    assert entered.wait(PATIENCE)
    pipeline.send(2, 50)
    assert pipeline.route() == []
    assert pipeline.all_told(Position(1, 50)) == [Position(1, 2), Position(1, 50)]
    assert pipeline.route() == list(range(1, 50))
    assert disk.appends == 2
    assert pipeline.commit.close(PATIENCE)


def test_a_stuck_disk_holds_up_the_source_and_then_goes_on(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An fsync of 5 s, or of any length: told once, nothing is routed, memory is bounded."""
    monkeypatch.setattr(group_commit, "SLOW_SECONDS", 0.01)
    may_pass = threading.Event()
    disk.pass_time = lambda: may_pass.wait(PATIENCE)
    pipeline = Pipeline(disk, max_events=20)
    pipeline.send(1, 101)
    assert pipeline.next_told() == "a write has not ended for 0.01 s"
    assert pipeline.route() == []
    assert (pipeline.committed.in_flight, pipeline.reorder.ready) == (20, 80)
    monkeypatch.setattr(group_commit, "SLOW_SECONDS", PATIENCE)
    may_pass.set()
    routed: list[int] = []
    told = pipeline.all_told(Position(1, 21))
    while len(routed) < 100:
        routed += pipeline.route()
        if pipeline.committed.take_from(pipeline.reorder):
            told.append(pipeline.next_told())
    assert told[0] is None
    assert all(isinstance(each, Position) for each in told[1:])
    assert routed == list(range(1, 101))
    assert pipeline.commit.close(PATIENCE)


def test_a_stuck_disk_does_not_hold_up_the_end(disk: Disk) -> None:
    may_pass = threading.Event()
    disk.pass_time = lambda: may_pass.wait(PATIENCE)
    pipeline = Pipeline(disk)
    pipeline.send(1, 3)
    assert not pipeline.commit.close(0.01)
    may_pass.set()
    pipeline.commit._thread.join(PATIENCE)
    gevent.sleep(0)
    assert pipeline.route() == []
    assert pipeline.told.empty()


# Gone.


def remove(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"somebody's notes")
    other.rename(path)


@pytest.mark.parametrize("change", [remove, replace])
def test_a_file_that_is_gone_ends_the_commits(
    disk: Disk, path: Path, change: Callable[[Path], None]
) -> None:
    pipeline = Pipeline(disk)
    pipeline.send(1, 2)
    assert pipeline.next_told() == Position(1, 2)
    change(path)
    pipeline.send(2, 4)
    error = pipeline.next_told()
    assert isinstance(error, GoneError)
    assert str(path) in str(error)
    pipeline.send(4, 6)
    assert not pipeline.commit.close(PATIENCE)
    assert pipeline.commit.has_ended
    assert pipeline.route() == [1]
    disk.close()
    if change is replace:
        assert path.read_bytes() == b"somebody's notes"
    else:
        assert not path.exists()


# Not writable from the start.

OPEN = f"""
import os, sys
from maze.core import Position
from maze.journal.sqlite import JournalFileError, SQLiteJournal
if not os.geteuid():
    os.setgroups([])
    os.setgid({NOBODY})
    os.setuid({NOBODY})
try:
    journal = SQLiteJournal(sys.argv[1], Position(1, 1))
    journal.lease()
except Exception as error:
    print(type(error).__name__, error, flush=True)
os._exit(0)
"""
"""Opens a journal as a user who may not write to just any folder: not even coverage's data."""


@pytest.mark.parametrize("exists", [False, True], ids=["no file", "a file"])
def test_a_folder_that_is_read_only_is_one_clear_error(exists: bool) -> None:
    with TemporaryDirectory() as folder:  # pytest's own cannot be searched by others
        path = Path(folder, "journal")
        if exists:
            SQLiteJournal(str(path), START).close()
            path.chmod(0o666)
        before = {name: Path(folder, name).read_bytes() for name in os.listdir(folder)}
        os.chmod(folder, 0o555)
        try:
            run = subprocess.run(
                [sys.executable, "-c", OPEN, str(path)],
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=True,
            )
            after = {name: Path(folder, name).read_bytes() for name in os.listdir(folder)}
        finally:
            os.chmod(folder, 0o755)
    name, _, words = run.stdout.partition(" ")
    assert name == "JournalFileError", run.stdout + run.stderr
    assert words.startswith(f"{path}")
    assert len(words.splitlines()) == 1
    assert after == before
