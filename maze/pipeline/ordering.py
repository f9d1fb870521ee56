"""Ordering: adds the sources' runs to the reorder buffer in steps, and yields between them."""

import sys
from collections.abc import Callable, Sequence

import structlog

from maze.core import Reject, ReorderBuffer, Run
from maze.log.reject_log import RejectLog
from maze.pipeline.begin_advice import BeginAdvice
from maze.pipeline.stats import Stats
from maze.settings.options import Settings

log = structlog.get_logger()

STEP_RUNS = 1_000
"""Runs added per step (about 5 ms). 256 KiB of isolated events are 37,000 runs."""

STEP_EVENTS = 2_000
"""Events added per step (about 5 ms) if a run repeats numbers that were received before."""


class Ordering:
    """The reorder buffer, and the steps in which it is filled.

    ``yield_if_due`` is called between two steps. Rejects are recorded in the reject log.
    """

    def __init__(
        self,
        settings: Settings,
        rejects: RejectLog,
        stats: Stats,
        yield_if_due: Callable[[], object],
    ) -> None:
        self._rejects = rejects
        self._stats = stats
        self._yield_if_due = yield_if_due
        self._first_sequence = settings.first_sequence
        self.advice = BeginAdvice(settings)
        self._has_warned = False
        """Whether an event below the first number of the stream was logged."""
        self.reorder = ReorderBuffer(
            settings.first_sequence,
            settings.reorder_limit,
            settings.gap_policy,
            settings.reorder_bytes,
        )

    def add(self, runs: Sequence[Run], peer: str) -> None:
        """Add the runs of one chunk, then apply the gap policy.

        Raise ReorderBufferFullError if a gap did not fill and the policy is to fail.
        """
        received = 0
        try:
            for first in range(0, len(runs), STEP_RUNS):
                if first:
                    self._yield_if_due()
                step = runs[first : first + STEP_RUNS]
                received += count_events(step)
                self._add_step(step, peer)
            self._repeat(self.reorder.enforce_limit, peer)
        finally:
            self._stats.arrived(received, self.reorder)

    def give_up_gaps(self, peer: str, below: Callable[[], int] = lambda: sys.maxsize) -> None:
        """Give up the missing numbers lower than what ``below`` returns, which may change."""
        self._repeat(lambda: self.reorder.give_up_gaps(below()), peer)
        self._stats.arrived(0, self.reorder)

    def reset(self) -> None:
        """Begin a new stream."""
        self.reorder.reset()
        self._has_warned = False

    def _add_step(self, runs: Sequence[Run], peer: str) -> None:
        """Add runs all at once, or one by one if any is long."""
        if max(map(len, runs)) <= STEP_EVENTS:
            self._add(runs, peer)
            return
        for run in runs:
            if len(run) <= STEP_EVENTS or self.reorder.is_new(run):
                self._add([run], peer)
            else:
                self._add_repeated(run, peer)

    def _add_repeated(self, run: Run, peer: str) -> None:
        """Add a long run in steps: each of its numbers that was seen before becomes a reject."""
        for first in range(run.first, run.end, STEP_EVENTS):
            piece = run.clip(first, min(first + STEP_EVENTS, run.end))
            self._add([piece], peer)
            self._yield_if_due()

    def _add(self, runs: Sequence[Run], peer: str) -> None:
        rejects = self.reorder.add(*runs)
        if rejects:
            self._rejects.record(rejects, peer)
            if not self._has_warned:
                self._warn_below_first(runs, peer)

    def _warn_below_first(self, runs: Sequence[Run], peer: str) -> None:
        """Log, once, that a stream has numbers lower than its first one, which are stale."""
        lowest = min((run.first for run in runs if not run.void), default=self._first_sequence)
        if lowest >= self._first_sequence:
            return
        self._has_warned = True
        log.warning(
            "below_first_sequence",
            source=peer,
            sequence=lowest,
            first_sequence=self._first_sequence,
            hint="such events are stale and are not delivered; if the stream begins there, "
            + self.advice.begin_at(lowest),
        )

    def _repeat(self, step: Callable[[], list[Reject]], peer: str) -> None:
        """Repeat a step of the reorder buffer until nothing is left to do."""
        while (rejects := step()) or self.reorder.advance():
            self._rejects.record(rejects, peer)
            self._yield_if_due()


def count_events(runs: Sequence[Run]) -> int:
    """Return how many events the runs hold; a void run holds none."""
    return sum(len(run) for run in runs if not run.void)
