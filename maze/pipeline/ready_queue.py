"""Runs that are ready to be routed, when they do not come from the reorder buffer itself.

Names that the reorder buffer has as well mean the same here.
"""

from collections import deque
from collections.abc import Iterable, Sequence

from maze.core import Position, Run

MAX_RUNS = 4_000
"""Runs taken per call of ``take_ready`` (about 2 ms)."""

RUN_BYTES = 200
"""Memory of a run in this buffer, without its chunk (measured)."""


class Memory:
    """The memory of runs, in bytes; memory that several runs share counts once."""

    def __init__(self) -> None:
        self.bytes = 0
        self._holders: dict[int, int] = {}  # number of runs, by the key of their memory

    def hold(self, runs: Iterable[Run]) -> None:
        """Count runs as held."""
        holders = self._holders
        for run in runs:
            key, size = run.memory
            count = holders.get(key, 0)
            holders[key] = count + 1
            self.bytes += RUN_BYTES if count else RUN_BYTES + size

    def release(self, runs: Iterable[Run]) -> None:
        """Count runs as no longer held."""
        holders = self._holders
        for run in runs:
            key, size = run.memory
            count = holders[key] - 1
            if count:
                holders[key] = count
                self.bytes -= RUN_BYTES
            else:
                del holders[key]
                self.bytes -= RUN_BYTES + size


class ReadyQueue:
    """Runs of one epoch that are ready, in order. ``start`` is the position of the first one."""

    def __init__(self, start: Position) -> None:
        self.ready = 0
        """Number of events that can be taken."""
        self._ready_runs: deque[Run] = deque()
        self._ready_memory = Memory()
        self.epoch, self.next_sequence = start
        """Epoch of the runs that are ready, and the lowest number that has not been taken."""

    @property
    def ready_bytes(self) -> int:
        """Memory of the events that can be taken, in bytes."""
        return self._ready_memory.bytes

    @property
    def position(self) -> Position:
        """Position after everything that was taken."""
        return Position(self.epoch, self.next_sequence)

    def take_ready(self, limit: int) -> list[Run]:
        """Remove and return runs that are ready, in order; see ``ReorderBuffer.take_ready``."""
        taken: list[Run] = []
        count, available = 0, min(limit, self.ready)
        while count < available and len(taken) < MAX_RUNS:
            run = self._ready_runs.popleft()
            taken.append(run)
            count += len(run)
        self.ready -= count
        self._ready_memory.release(taken)
        if taken:
            self.next_sequence = taken[-1].end
        return taken

    def put_back(self, runs: list[Run]) -> None:
        """Make the last runs that were taken ready again."""
        self._ready_runs.extendleft(reversed(runs))
        self.ready += count_numbers(runs)
        self._ready_memory.hold(runs)
        if runs:
            self.next_sequence = runs[0].first

    def make_ready(self, runs: Sequence[Run]) -> None:
        """Add runs that follow those added before."""
        self.ready += count_numbers(runs)
        self._ready_memory.hold(runs)
        self._ready_runs.extend(runs)


def count_numbers(runs: Sequence[Run]) -> int:
    """Return how many numbers the runs have; a void run has one."""
    return sum(map(len, runs))
