"""A journal that loses what it has confirmed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from maze.core import Position
from maze.journal.journal import Batch
from maze.journal.memory import MemoryJournal


class LosingJournal(MemoryJournal):
    """Loses appends, as a server does that crashes before they are on its disk, 2 s later."""

    def __init__(self, start: Position, clock: Callable[[], float]) -> None:
        super().__init__(start)
        self.clock = clock
        self.appended: dict[Position, float] = {}
        self.answered = 0.0

    def append(self, batches: Sequence[Batch], fence: int) -> Position:
        position = super().append(batches, fence)
        self.answered = self.clock()
        for batch in batches:
            self.appended.setdefault(batch.position, self.answered)
        return position

    def lose(self, most: int, kept: Position) -> int:
        """Lose up to ``most`` of the batches after ``kept`` that are not safe; say how many."""
        lost = 0
        while lost < most and self._batches:
            position = self.position()
            if position <= kept or self.answered - self.appended[position] >= 2.0:
                break
            del self._batches[-1], self._ends[-1], self.appended[position]
            lost += 1
        return lost
