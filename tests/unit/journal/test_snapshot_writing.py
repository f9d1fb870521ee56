"""Snapshots are written in steps, and a step that comes too late fails: in every journal."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from maze.core import Position
from maze.journal.journal import (
    Bounds,
    FencedError,
    Journal,
    Snapshot,
    SnapshotReplacedError,
    TrimmedError,
)
from maze.journal.memory import MemoryJournal
from maze.journal.sqlite import SQLiteJournal

from .files import START, events

BOUNDS = Bounds(1, 2, 3)


@pytest.fixture(params=["memory", "sqlite"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Journal]:
    """A journal with three batches of one event."""
    if request.param == "memory":
        memory = MemoryJournal(START)
        memory.append(events(1, 4), memory.lease())
        yield memory
    else:
        with closing(SQLiteJournal(str(tmp_path / "journal"), START)) as sqlite:
            sqlite.append(events(1, 4), sqlite.lease())
            yield sqlite


def test_batches_are_appended_between_the_chunks(journal: Journal) -> None:
    fence = journal.lease()
    writer = journal.begin_snapshot(Position(1, 3), BOUNDS, fence)
    for number, chunk in [(4, b"a"), (5, b"b")]:
        writer.add(chunk)
        journal.append(events(number, number + 1), fence)
        assert journal.get_snapshot(pytest.fail) is None
    writer.finish()
    assert journal.get_snapshot(pytest.fail) == Snapshot(Position(1, 3), BOUNDS, [b"a", b"b"])
    assert journal.position() == Position(1, 6)


def test_who_lost_the_lease_cannot_write_on(journal: Journal) -> None:
    writer = journal.begin_snapshot(START, BOUNDS, journal.lease())
    writer.add(b"chunk")
    journal.lease()
    with pytest.raises(FencedError):
        writer.add(b"chunk")
    with pytest.raises(FencedError):
        writer.finish()
    assert journal.get_snapshot(pytest.fail) is None


def test_a_later_snapshot_replaces_an_unfinished_one(journal: Journal) -> None:
    fence = journal.lease()
    first = journal.begin_snapshot(Position(1, 2), BOUNDS, fence)
    first.add(b"first")
    second = journal.begin_snapshot(Position(1, 3), BOUNDS, fence)
    with pytest.raises(SnapshotReplacedError):
        first.add(b"chunk")
    with pytest.raises(SnapshotReplacedError):
        first.finish()
    second.finish()
    assert journal.get_snapshot(pytest.fail) == Snapshot(Position(1, 3), BOUNDS, [])


def test_a_snapshot_whose_batches_were_removed_meanwhile_is_not_kept(journal: Journal) -> None:
    fence = journal.lease()
    journal.put_snapshot(Position(1, 3), BOUNDS, [b"older"], fence)
    writer = journal.begin_snapshot(Position(1, 2), BOUNDS, fence)
    journal.trim(Position(1, 3), fence)
    with pytest.raises(TrimmedError):
        writer.finish()
    assert journal.get_snapshot(pytest.fail) == Snapshot(Position(1, 3), BOUNDS, [b"older"])
