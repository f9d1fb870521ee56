"""The buffer between the reorder buffer and the router when there is a journal.

An event passes through it in two steps: it is in flight until its batch is committed, then it is
ready to be routed. No event is routed before it is committed. The router uses this buffer in place
of the reorder buffer; names that both have mean the same in both.

This module does bookkeeping only: ``put`` hands a batch to whatever commits it.
"""

import sys
from collections import deque
from collections.abc import Callable

from maze.core import Position, ReorderBuffer, Run, lines_of
from maze.journal.journal import Batch
from maze.pipeline.batch import BATCH_EVENTS
from maze.pipeline.ready_queue import Memory, ReadyQueue, count_numbers

MAX_EVENTS = 4 * BATCH_EVENTS
"""Events held at which nothing more is taken from the reorder buffer: enough for a batch that is
being committed, one that waits for that, and one that is being routed."""


class Committed(ReadyQueue):
    """Runs that are in flight to the journal, and runs that are committed and ready.

    ``put`` queues a batch for the commit, and must not wait. ``start`` is the journal's position.
    At ``max_events`` events or ``max_bytes`` bytes held, nothing is taken from the reorder buffer;
    one batch can exceed either bound. The bodies of the batches in flight, which are copies of the
    lines, do not count.
    """

    def __init__(
        self,
        put: Callable[[Batch], None],
        start: Position,
        *,
        max_events: int = MAX_EVENTS,
        max_bytes: int = sys.maxsize,
    ) -> None:
        super().__init__(start)
        self._put = put
        self._max_events = max_events
        self._max_bytes = max_bytes
        self.end = start
        """Position after the last batch that was put."""
        self.in_flight = 0
        """Number of events that were put and cannot be taken yet."""
        self._in_flight: deque[tuple[Position, list[Run]]] = deque()
        self._later: deque[tuple[Position, list[Run]]] = deque()
        """Committed batches from the beginning of the next epoch on, which has no runs."""
        self._in_flight_memory = Memory()

    def begin(self, position: Position) -> None:
        """Begin at a position; nothing was put yet."""
        self.end = position
        self.epoch, self.next_sequence = position

    @property
    def in_flight_bytes(self) -> int:
        """Memory of the events that were put and cannot be taken yet, in bytes."""
        return self._in_flight_memory.bytes

    @property
    def is_full(self) -> bool:
        """Whether nothing is taken from the reorder buffer at present."""
        held_bytes = self._ready_memory.bytes + self._in_flight_memory.bytes
        return self.ready + self.in_flight >= self._max_events or held_bytes >= self._max_bytes

    def take_from(self, reorder: ReorderBuffer) -> bool:
        """Put the next batch, from runs that are ready in the reorder buffer.

        Return whether a batch was put: not if no run is ready, or if this buffer is full. A batch
        begins where the one before it ended, so it includes the numbers that were given up.
        """
        if self.is_full or not (runs := reorder.take_ready(BATCH_EVENTS)):
            return False
        epoch, first = self.end
        self.end = Position(epoch, runs[-1].end)
        self.in_flight += count_numbers(runs)
        self._in_flight_memory.hold(runs)
        self._in_flight.append((self.end, runs))
        self._put(Batch(epoch, first, runs[-1].end, lines_of(runs)))
        return True

    def begin_epoch(self, position: Position) -> None:
        """Put the empty batch that begins an epoch; batches taken from now on belong to it.

        Runs of the former epoch still become ready; those of the new one do so after
        ``enter_epoch``.
        """
        self.end = position
        self._in_flight.append((position, []))
        self._put(Batch(position.epoch, position.next, position.next, b""))

    @property
    def epoch_is_due(self) -> bool:
        """Whether the next epoch is committed, and everything before it was taken."""
        return bool(self._later) and not self.ready

    def enter_epoch(self) -> None:
        """Go on to the next epoch, which is due: its runs become ready."""
        (self.epoch, self.next_sequence), _ = self._later.popleft()
        while self._later and self._later[0][1]:
            self._make_ready(self._later.popleft()[1])

    def on_committed(self, position: Position) -> None:
        """Make the runs below a position ready; everything below it is committed."""
        in_flight = self._in_flight
        while in_flight and in_flight[0][0] <= position:
            end, runs = in_flight.popleft()
            if self._later or not runs:
                self._later.append((end, runs))
            else:
                self._make_ready(runs)

    def _make_ready(self, runs: list[Run]) -> None:
        self.in_flight -= count_numbers(runs)
        self._in_flight_memory.release(runs)
        self.make_ready(runs)
