"""The batches committed last, as frames that are encoded once for all edges."""

from bisect import bisect_right
from collections.abc import Iterable

from maze.core import Position
from maze.feed.messages import encode_batch
from maze.journal.journal import Batch


class Ring:
    """Keeps frames of up to ``max_bytes``, and always the last one.

    ``start`` is the position after which the first batch comes.
    """

    def __init__(self, start: Position, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.begin(start)

    def begin(self, start: Position) -> None:
        """Forget everything, and begin at a position."""
        self._ends = [start]  # of the batch before the first frame, then of each frame's
        self._frames: list[bytes] = []
        self._first = 0  # what comes before is forgotten, and is removed later
        self.bytes = 0
        """Size of the frames that are kept."""

    @property
    def position(self) -> Position:
        """Position after the last batch."""
        return self._ends[-1]

    def add(self, batches: Iterable[Batch]) -> None:
        """Add batches that were committed, in order."""
        for batch in batches:
            frame = encode_batch(batch)
            self._frames.append(frame)
            self._ends.append(batch.position)
            self.bytes += len(frame)
        while self.bytes > self._max_bytes and self._first < len(self._frames) - 1:
            self.bytes -= len(self._frames[self._first])
            self._frames[self._first] = b""
            self._first += 1
        if 2 * self._first > len(self._frames):
            del self._frames[: self._first], self._ends[: self._first]
            self._first = 0

    def frames_after(self, position: Position, max_bytes: int) -> list[bytes] | None:
        """Return the frames after a position, one or more up to ``max_bytes``.

        Return None if no kept batch ends or begins there.
        """
        place = bisect_right(self._ends, position, self._first) - 1
        if place < self._first or self._ends[place] != position:
            return None
        found: list[bytes] = []
        size = 0
        for index in range(place, len(self._frames)):
            frame = self._frames[index]
            size += len(frame)
            if found and size > max_bytes:
                break
            found.append(frame)
        return found
