"""Keeps the runs that were routed last, for clients that resume.

Memory that runs share is counted once, by ``Run.hold``. Whole runs are dropped, oldest first.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from maze.core.events import RECENT, Run

RUN_BYTES = 120
"""Memory of a run that is kept, without its chunk (measured)."""


class Recent:
    """The last runs that were routed, at most ``max_events`` events in ``max_bytes`` of memory.

    ``begin`` sets which number is routed first.
    """

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self.times_begun = 0
        """Number of calls of ``begin``: numbers of different sequences have nothing in common."""
        self._firsts: list[int] = []  # first numbers of the runs; those before _start were dropped
        self._start = 0
        self._runs: dict[int, Run] = {}
        self.begin(0)

    def begin(self, number: int) -> None:
        """Forget all runs. The next event routed has this number, or a higher one."""
        for run in self._runs.values():
            run.release(RECENT)
        self.times_begun += 1
        self._firsts = []
        self._start = 0
        self._runs = {}
        self.kept_from = number
        """Each number from this one up to ``end`` is kept or had no event."""
        self.end = number
        """Number after the last one routed."""
        self.events = 0
        """Number of events kept."""
        self.bytes = 0
        """Memory of the events kept."""

    def add(self, runs: list[Run], end: int) -> None:
        """Add runs that were just routed, in order: their numbers below ``end``."""
        if end < self.end:
            raise ValueError("end is below the numbers that were added before")
        for run in runs:
            if run.first >= end:
                break
            if run.first < self.end:
                raise ValueError("the run begins below the numbers that were added before")
            self.end = min(run.end, end)
            if not run.void:
                self._keep(run.clip(run.first, end))
        self.end = end
        while self.events > self._max_events or self.bytes > self._max_bytes:
            self._drop()

    def runs_from(self, number: int) -> Iterator[Run]:
        """Return the kept runs that end above ``number``, in order."""
        index = bisect_right(self._firsts, number, self._start)
        if index > self._start and self._runs[self._firsts[index - 1]].end > number:
            index -= 1
        return (self._runs[self._firsts[place]] for place in range(index, len(self._firsts)))

    def runs_before(self, number: int) -> Iterator[Run]:
        """Return the kept runs that begin below ``number``, the last one first."""
        index = bisect_left(self._firsts, number, self._start)
        places = range(index - 1, self._start - 1, -1)
        return (self._runs[self._firsts[place]] for place in places)

    def _keep(self, run: Run) -> None:
        self._firsts.append(run.first)
        self._runs[run.first] = run
        self.events += len(run)
        self.bytes += run.hold(RECENT) + RUN_BYTES

    def _drop(self) -> None:
        """Drop the oldest run."""
        run = self._runs.pop(self._firsts[self._start])
        self._start += 1
        if 2 * self._start > len(self._firsts):
            del self._firsts[: self._start]
            self._start = 0
        self.events -= len(run)
        self.bytes -= run.release(RECENT) + RUN_BYTES
        self.kept_from = run.end
