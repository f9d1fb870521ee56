"""The buffer between a journal that an edge follows and the edge's router.

Batches arrive in order. A batch that begins an epoch or changes the bounds of the graph is a
*change*: its runs become ready only once everything before it was routed and the change was made.
This module does bookkeeping only.
"""

import sys
from collections import deque

from maze.core import Position, Run
from maze.journal.journal import Batch
from maze.pipeline.batch import BATCH_EVENTS
from maze.pipeline.ready_queue import Memory, ReadyQueue, count_numbers

MAX_EVENTS = 2 * BATCH_EVENTS
"""Events held at which no more are asked for: enough for a batch that is being routed and one more,
so that the router never waits for an answer."""


class Arrived(ReadyQueue):
    """Runs of batches that have arrived; ``start`` is the position after which they come.

    At ``MAX_EVENTS`` events or ``max_bytes`` bytes held it is full; one answer can exceed either.
    """

    def __init__(self, start: Position, *, max_bytes: int = sys.maxsize) -> None:
        self._max_bytes = max_bytes
        self.begin(start)

    def begin(self, start: Position) -> None:
        """Begin at a position; what is held is dropped."""
        super().__init__(start)
        self.end = start
        """Position after the last batch that has arrived."""
        self._ready_end = start.next
        self._later: deque[tuple[Batch, list[Run]]] = deque()
        self._later_events = 0
        self._later_memory = Memory()

    @property
    def events(self) -> int:
        """Number of events that have arrived and were not taken."""
        return self.ready + self._later_events

    @property
    def is_full(self) -> bool:
        """Whether no more should be asked for at present."""
        held_bytes = self._ready_memory.bytes + self._later_memory.bytes
        return self.events >= MAX_EVENTS or held_bytes >= self._max_bytes

    def add(self, batch: Batch, runs: list[Run]) -> None:
        """Add a batch that follows ``end``, and its runs."""
        self.end = batch.position
        if self._later or self._is_change(batch):
            self._later.append((batch, runs))
            self._later_events += count_numbers(runs)
            self._later_memory.hold(runs)
        else:
            self._append(batch, runs)

    @property
    def change(self) -> Batch | None:
        """The next change, if everything before it was taken."""
        return self._later[0][0] if self._later and not self.ready else None

    def make_change(self) -> None:
        """Go on behind the change: make ready what comes before the next one."""
        batch, runs = self._later.popleft()
        self.epoch, self.next_sequence = batch[:2]
        while True:
            self._later_events -= count_numbers(runs)
            self._later_memory.release(runs)
            self._append(batch, runs)
            if not self._later or self._is_change(self._later[0][0]):
                return
            batch, runs = self._later.popleft()

    @property
    def can_skip(self) -> bool:
        """Whether everything was taken but numbers without events."""
        return not self.ready and self.next_sequence != self._ready_end

    def skip(self) -> None:
        """Pass over the numbers without events."""
        self.next_sequence = self._ready_end

    def _append(self, batch: Batch, runs: list[Run]) -> None:
        self.make_ready(runs)
        self._ready_end = batch.end

    def _is_change(self, batch: Batch) -> bool:
        return batch.epoch != self.epoch or batch.bounds is not None
