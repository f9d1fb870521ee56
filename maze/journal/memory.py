"""A journal in memory: a ring of the most recent batches."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import islice

from maze.core import Position
from maze.journal.journal import (
    Batch,
    FencedError,
    OtherEpochError,
    check_kept,
    to_append,
)


class MemoryJournal:
    """Keeps batches until they are trimmed; forgets everything when the process ends."""

    def __init__(self, start: Position) -> None:
        self._batches: list[Batch] = []
        self._ends: list[Position] = []
        self._kept_from = start
        self._fence = 0

    def lease(self) -> int:
        """Take the lease, and return its fence."""
        self._fence += 1
        return self._fence

    def position(self) -> Position:
        """Return the position after the last batch."""
        return self._ends[-1] if self._ends else self._kept_from

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
        previous = self._ends[index - 1] if index else self._kept_from
        following = self._batches[index] if index < len(self._batches) else None
        within = following is not None and following[:2] <= after
        if previous != after and not within:
            raise OtherEpochError(f"epoch {after.epoch} never reached {after.next}")
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
            del self._batches[:count], self._ends[:count]

    def _check(self, fence: int) -> None:
        if fence != self._fence:
            raise FencedError
