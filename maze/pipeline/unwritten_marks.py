"""The marks of routed events, on their way into the journal."""

from collections import deque

from maze.core import Run, unchanged_numbers
from maze.journal.marks import Marks


class UnwrittenMarks:
    """The marks of routed events that are not in the journal yet."""

    def __init__(self) -> None:
        self._first = self._end = 0
        self._numbers = bytearray()
        self._carried: deque[tuple[int, Marks]] = deque()
        """Marks in batches that are not committed yet, each with the end of its batch."""

    def begin(self, number: int) -> None:
        """Forget all marks; the next ones added begin at this number."""
        self._first = self._end = number
        self._numbers.clear()
        self._carried.clear()

    def add(self, runs: list[Run], end: int) -> None:
        """Add the marks of runs that were routed, up to the number ``end`` - 1."""
        self.extend(Marks(self._end, end, unchanged_numbers(runs, end)))

    def extend(self, marks: Marks) -> None:
        """Add marks that follow those added before."""
        self._numbers += marks.numbers
        self._end = marks.end

    def carry(self, batch_end: int) -> bytes:
        """Return the marks that the next batch carries, which ends at ``batch_end``."""
        marks = Marks(self._first, self._end, bytes(self._numbers))
        self._first = self._end
        self._numbers.clear()
        if marks.first < marks.end:
            self._carried.append((batch_end, marks))
        return marks.encode()

    def on_committed(self, number: int) -> None:
        """Forget the marks in batches that end at or below a number."""
        while self._carried and self._carried[0][0] <= number:
            self._carried.popleft()

    def all(self) -> list[Marks]:
        """Return all marks, in order."""
        pending = Marks(self._first, self._end, bytes(self._numbers))
        return [*(marks for _, marks in self._carried), pending]
