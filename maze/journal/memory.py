"""A journal in memory: a ring of the most recent batches."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import islice

from maze.core import Position
from maze.journal.journal import (
    Batch,
    Bounds,
    FencedError,
    Journal,
    NoSnapshotError,
    OtherEpochError,
    Snapshot,
    SnapshotReplacedError,
    check_kept,
    to_append,
)


class MemoryJournal(Journal):
    """Keeps batches until they are trimmed; forgets everything when the process ends."""

    def __init__(self, start: Position) -> None:
        self._batches: list[Batch] = []
        self._ends: list[Position] = []
        self._kept_from = start
        self._fence = 0
        self._snapshots: list[Snapshot] = []
        self._needs_snapshot = False
        self._writer: MemorySnapshot | None = None

    def lease(self) -> int:
        """Take the lease, and return its fence."""
        self._fence += 1
        return self._fence

    def position(self) -> Position:
        """Return the position after the last batch."""
        return self._ends[-1] if self._ends else self._kept_from

    def kept_from(self) -> Position:
        """Return where the kept batches begin."""
        return self._kept_from

    def append(self, batches: Sequence[Batch], fence: int) -> Position:
        """Append batches; see ``Journal.append``."""
        self._check(fence)
        for batch in to_append(batches, self.position()):
            self._batches.append(batch)
            self._ends.append(batch.position)
        return self.position()

    def read(self, after: Position, max_bytes: int) -> list[Batch]:
        """Return the batches after a position; see ``Journal.read``."""
        check_kept(after, self._kept_from, self.position())
        index = bisect_right(self._ends, after)
        following = self._batches[index] if index < len(self._batches) else None
        is_within = following is not None and following[:2] <= after
        if not is_within:
            self._check_end(after)
        found: list[Batch] = []
        size = 0
        for batch in islice(self._batches, index, None):
            size += len(batch.body)
            if found and size > max_bytes:
                break
            found.append(batch)
        return found

    def trim(self, before: Position, fence: int) -> None:
        """Remove the batches that end at or below a position."""
        self._check(fence)
        count = bisect_right(self._ends, before)
        if count:
            self._kept_from = self._ends[count - 1]
            self._needs_snapshot = True
            del self._batches[:count], self._ends[:count]

    def begin_snapshot(self, position: Position, bounds: Bounds, fence: int) -> "MemorySnapshot":
        """Begin a snapshot; see ``Journal.begin_snapshot``."""
        self._check(fence)
        check_kept(position, self._kept_from, self.position())
        self._check_end(position)
        self._writer = MemorySnapshot(self, position, bounds, fence)
        return self._writer

    def get_snapshot(self, report: Callable[[str], None]) -> Snapshot | None:
        """Return the newest usable snapshot; see ``Journal.get_snapshot``."""
        for snapshot in self._snapshots:
            if snapshot.position >= self._kept_from:
                return snapshot
            epoch, number = snapshot.position
            report(f"the batches after the snapshot {epoch}-{number} are no longer kept")
        if self._needs_snapshot:
            raise NoSnapshotError
        return None

    def finish_snapshot(self, writer: "MemorySnapshot", snapshot: Snapshot) -> None:
        """Keep the snapshot and the one before."""
        self.check_writer(writer)
        check_kept(snapshot.position, self._kept_from, self.position())
        snapshots = [snapshot, *self._snapshots]
        snapshots.sort(key=lambda each: each.position, reverse=True)
        self._snapshots = snapshots[:2]
        self._needs_snapshot |= snapshot.position == self._kept_from
        self._writer = None

    def check_writer(self, writer: "MemorySnapshot") -> None:
        """Raise the error of writing to a snapshot that may no longer be written."""
        self._check(writer.fence)
        if writer is not self._writer:
            raise SnapshotReplacedError("a later snapshot was begun")

    def _check(self, fence: int) -> None:
        if fence != self._fence:
            raise FencedError

    def _check_end(self, position: Position) -> None:
        index = bisect_right(self._ends, position)
        if position != (self._ends[index - 1] if index else self._kept_from):
            raise OtherEpochError(f"no batch ends at {position.epoch}-{position.next}")


class MemorySnapshot:
    """A snapshot that is being written."""

    def __init__(
        self, journal: MemoryJournal, position: Position, bounds: Bounds, fence: int
    ) -> None:
        self._journal = journal
        self._snapshot = Snapshot(position, bounds, [])
        self.fence = fence

    def add(self, chunk: bytes) -> None:
        """Add a chunk."""
        self._journal.check_writer(self)
        self._snapshot.chunks.append(chunk)

    def finish(self) -> None:
        """Keep the snapshot; see ``SnapshotWriter.finish``."""
        self._journal.finish_snapshot(self, self._snapshot)
