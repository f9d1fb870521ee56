"""Which batches are removed: by age and size, in small steps, never past the older snapshot."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from maze.core import Position
from maze.journal import retention
from maze.journal.journal import Batch, Bounds
from maze.journal.retention import ROW_BYTES, KeptBatch, Retention, Trimming
from maze.journal.sqlite import MAX_REMOVED_CHUNKS, SQLiteJournal

from .files import START, events

FAR = Position(9, 9)
BOUNDS = Bounds(1, 1, 1)


def batches(*sizes: int, committed: int = 0) -> list[KeptBatch]:
    """Return a batch for each size; the first ends at 1-1."""
    return [KeptBatch(Position(1, number), committed, size) for number, size in enumerate(sizes, 1)]


def kept(position: Position | None) -> Trimming:
    return Trimming(position, is_complete=True)


def test_batches_older_than_the_retention_are_removed() -> None:
    oldest = [KeptBatch(Position(1, number), number, 1) for number in range(1, 9)]
    policy = Retention(seconds=10, max_bytes=10**9)
    assert policy.trimming(oldest, FAR, 10, 0) == kept(None)
    assert policy.trimming(oldest, FAR, 11, 0) == kept(None)
    assert policy.trimming(oldest, FAR, 14, 0) == kept(Position(1, 3))
    assert policy.trimming(oldest, FAR, 99, 0) == kept(Position(1, 8))
    assert policy.trimming([], FAR, 99, 0) == kept(None)


def test_batches_are_removed_until_the_rest_fits() -> None:
    policy = Retention(seconds=10**9, max_bytes=1_000)
    oldest = batches(100, 100, 100)
    assert policy.trimming(oldest, FAR, 0, 1_000) == kept(None)
    assert policy.trimming(oldest, FAR, 0, 1_001) == kept(Position(1, 1))
    assert policy.trimming(oldest, FAR, 0, 1_100 + ROW_BYTES) == kept(Position(1, 1))
    assert policy.trimming(oldest, FAR, 0, 1_101 + ROW_BYTES) == kept(Position(1, 2))
    assert policy.trimming(oldest, FAR, 0, 9_000) == kept(Position(1, 3))


@pytest.mark.parametrize("policy", [Retention(0, 10**9), Retention(10**9, 0)])
def test_what_follows_the_older_snapshot_is_kept(policy: Retention) -> None:
    oldest = batches(1, 1, 1, 1)
    assert policy.trimming(oldest, Position(1, 2), 1, 10**6) == kept(Position(1, 2))
    assert policy.trimming(oldest, Position(1, 0), 1, 10**6) == kept(None)


def test_one_step_removes_a_bounded_number_of_batches() -> None:
    policy = Retention(seconds=0, max_bytes=10**9)
    most = retention.MAX_REMOVED_BATCHES
    for count, is_complete in ((most, True), (most + 1, False)):
        trimming = policy.trimming(batches(*[1] * count), FAR, 1, 0)
        assert trimming == Trimming(Position(1, most), is_complete)


def test_one_step_removes_a_bounded_number_of_bytes() -> None:
    policy = Retention(seconds=0, max_bytes=10**9)
    half = retention.MAX_REMOVED_BYTES // 2
    trimming = policy.trimming(batches(half, half, 1, 1), FAR, 1, 0)
    assert trimming == Trimming(Position(1, 2), is_complete=False)


def test_only_as_many_batches_are_looked_at_as_are_removed_and_one() -> None:
    looked_at = []

    def oldest() -> Iterator[KeptBatch]:
        for batch in batches(*[1] * 100, committed=5):
            looked_at.append(batch)
            yield batch

    Retention(seconds=10, max_bytes=10**9).trimming(oldest(), FAR, 6, 0)
    assert len(looked_at) == 1


class Clock:
    now = 1_000.9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "journal")


def open_journal(path: str, policy: Retention, clock: Clock) -> SQLiteJournal:
    return SQLiteJournal(path, START, synchronous="OFF", retention=policy, clock=clock)


def test_old_batches_are_removed_once_there_are_two_snapshots(path: str, clock: Clock) -> None:
    with closing(open_journal(path, Retention(10, 10**9), clock)) as journal:
        fence = journal.lease()
        journal.append(events(1, 4), fence)
        for number, expected in [(4, START), (5, START), (6, Position(1, 4)), (7, Position(1, 5))]:
            clock.now += 100
            journal.append([], fence)
            assert journal.statistics().kept_from == expected
            journal.put_snapshot(journal.position(), BOUNDS, [], fence)
            journal.append(events(number, number + 1), fence)
        assert journal.get_snapshot(pytest.fail) is not None


def test_old_batches_are_looked_for_once_a_second(path: str, clock: Clock) -> None:
    with closing(open_journal(path, Retention(0, 0), clock)) as journal:
        fence = journal.lease()
        journal.append(events(1, 4), fence)
        for _ in range(2):
            journal.put_snapshot(journal.position(), BOUNDS, [], fence)
        journal.append([], fence)
        assert journal.statistics().kept_from == START
        clock.now -= 3_600
        journal.append([], fence)
        assert journal.statistics().kept_from == Position(1, 4), "a clock that was set back"


def test_more_than_one_step_is_done_with_the_next_append(
    path: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "MAX_REMOVED_BATCHES", 2)
    with closing(open_journal(path, Retention(0, 10**9), clock)) as journal:
        fence = journal.lease()
        journal.append(events(1, 6), fence)
        for _ in range(2):
            journal.put_snapshot(journal.position(), BOUNDS, [], fence)
        clock.now += 9
        for expected in (3, 5, 6, 6):
            journal.append([], fence)
            assert journal.statistics().kept_from == Position(1, expected)


def test_the_pages_of_removed_batches_are_used_again(path: str, clock: Clock) -> None:
    """The file grows to what is kept and what one step removes, not with what was written."""
    with closing(open_journal(path, Retention(10**9, 300_000), clock)) as journal:
        fence = journal.lease()
        sizes = []
        for number in range(1, 200):
            journal.append([Batch(1, number, number + 1, bytes(20_000))], fence)
            journal.put_snapshot(journal.position(), BOUNDS, [b"chunk"], fence)
            clock.now += 1
            used = journal.statistics().used_bytes
            assert used < 400_000
            (pages,) = journal._database.execute("PRAGMA page_count").fetchone()
            sizes.append(pages)
        assert sizes[-1] == sizes[30]


def test_chunks_of_removed_snapshots_are_removed_little_by_little(path: str, clock: Clock) -> None:
    with closing(open_journal(path, Retention(10**9, 10**9), clock)) as journal:
        fence = journal.lease()
        for chunks in (20, 1, 1):
            journal.put_snapshot(START, BOUNDS, [b"chunk"] * chunks, fence)
        left = []
        for _ in range(4):
            journal.append([], fence)
            left += journal._database.execute("SELECT count(*) FROM chunk").fetchone()
        assert left == [22 - MAX_REMOVED_CHUNKS, 22 - 2 * MAX_REMOVED_CHUNKS, 2, 2]


def test_statistics_count_the_events_of_every_epoch(path: str, clock: Clock) -> None:
    with closing(open_journal(path, Retention(10**9, 10**9), clock)) as journal:
        fence = journal.lease()
        assert journal.statistics()[:3] == (START, START, 0)
        assert journal.statistics().snapshot is None
        journal.append(events(1, 4), fence)
        journal.append([Batch(5, 7, 7, b""), Batch(5, 7, 17, b"lines"), Batch(6, 1, 1, b"")], fence)
        journal.put_snapshot(Position(1, 3), BOUNDS, [], fence)
        figures = journal.statistics()
        assert figures[:3] == (START, Position(6, 1), 13)
        assert figures.snapshot == Position(1, 3)
        assert 0 < figures.used_bytes < 100_000
        journal.trim(Position(1, 3), fence)
        assert journal.statistics().events == 11
