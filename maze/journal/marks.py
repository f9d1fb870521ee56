"""Marks: which routed events changed nothing, as batches carry them.

An event is written before it is routed, and only routing shows whether a follow changed the graph.
So each batch carries the marks of events routed before it was made.
"""

import struct
from collections import deque
from typing import NamedTuple

from maze.core import Run, unchanged_numbers

_COVERED = struct.Struct("<QQ")


class Marks(NamedTuple):
    """The marks of the numbers ``first`` to ``end`` - 1."""

    first: int
    end: int
    numbers: bytes
    """See ``maze.core.unchanged_numbers``."""

    def encode(self) -> bytes:
        """Return the marks as a batch carries them; none if they cover no number."""
        if self.first == self.end:
            return b""
        return _COVERED.pack(self.first, self.end) + self.numbers

    @classmethod
    def decode(cls, carried: bytes) -> "Marks | None":
        """Return the marks that a batch carries, if any."""
        if not carried:
            return None
        first, end = _COVERED.unpack_from(carried)
        return cls(first, end, carried[_COVERED.size :])


class UncarriedMarks:
    """The marks of routed events that no batch is known to carry.

    Whoever reads batches in order and routes their events can tell.
    """

    def __init__(self) -> None:
        self._marks: deque[Marks] = deque()
        self.begin(0)

    def begin(self, number: int) -> None:
        """Forget all marks; the next events routed have this number, or higher ones."""
        self._marks.clear()
        self._end = number
        self._carried_end = number

    def note(self, runs: list[Run], end: int) -> None:
        """Note the marks of runs that were routed, up to the number ``end`` - 1."""
        if end > self._carried_end:
            self.add(Marks(self._end, end, unchanged_numbers(runs, end)))
        self._end = end

    def add(self, marks: Marks) -> None:
        """Add marks that follow those added before."""
        self._marks.append(marks)
        self._end = marks.end

    def cover(self, end: int) -> None:
        """Forget marks below a number: batches carry them."""
        self._carried_end = end
        while self._marks and self._marks[0].end <= end:
            self._marks.popleft()

    def all(self) -> list[Marks]:
        """Return all marks, in order."""
        return list(self._marks)
