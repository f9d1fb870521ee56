"""Watches gaps: warns of one that does not fill, and gives up missing numbers after a time.

An event has waited for ``gap-timeout`` if it was held when a mark was taken that long ago. So a
number is given up late, never early: by the time between two marks and that between two checks.
Together they are at most an eighth of the timeout, as far as the event loop is in time.

Time counts only while the missing event could arrive: not while the server holds up the sources
itself, nor while its event loop did not run.
"""

import math
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

import gevent
import structlog

from maze.pipeline.ordering import Ordering
from maze.settings.options import Settings

log = structlog.get_logger()

WARNING_CHECKS = 8
"""Checks within ``gap-warning``."""

TIMEOUT_CHECKS = 32
"""Checks within ``gap-timeout``. There are more if ``gap-warning`` needs them."""

MARKS = 16
"""Marks within ``gap-timeout``. A mark is taken at a check, so it may be late by the time between
two checks, and so may be what it gives up: 1/16 + 1/32 + 1/32 is an eighth."""

COUNTED_SHARE = 1 / 4
"""Share of the shorter of ``gap-warning`` and ``gap-timeout`` that may count at one check. If more
time has passed, the event loop did not run."""

NO_SOURCE = "-"
"""Source logged for numbers that are given up because time is over: none of them ever came."""


class Mark(NamedTuple):
    """The end of the reorder buffer at a time."""

    seconds: float
    end: int


class GapWatch:
    """Watches the gaps of an ordering while events wait.

    ``on_given_up`` is called when events may have become ready because numbers were given up.
    """

    def __init__(
        self,
        settings: Settings,
        ordering: Ordering,
        on_given_up: Callable[[], None],
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._settings = settings
        self._ordering = ordering
        self._reorder = ordering.reorder
        self._on_given_up = on_given_up
        self._clock = clock
        self._warning = settings.gap_warning
        self._timeout = settings.gap_timeout
        warning = math.inf if self._warning is None else self._warning
        timeout = math.inf if self._timeout is None else self._timeout
        self._interval = min(warning / WARNING_CHECKS, timeout / TIMEOUT_CHECKS)
        self._max_counted = min(warning, timeout) * COUNTED_SHARE
        self._watching: gevent.Greenlet[..., None] | None = None
        self._is_closed = False
        self._checked_at = 0.0
        self._seconds = 0.0  # the time that counts, since this object was created
        self._holds = 0
        self._held_since = 0.0  # the time of the first of the holds
        self._held_seconds = 0.0  # since the last check
        self._gap: int | None = None
        """The number that was missing at the last check; None if there was none."""
        self._missing_since = 0.0
        self._has_warned = False
        self.forget()

    def begin(self) -> None:
        """Watch until no event waits. Called whenever one does; never waits."""
        if self._watching or self._is_closed or self._interval == math.inf:
            return
        self._watching = gevent.spawn(self._run)

    def forget(self) -> None:
        """Forget all gaps: the reorder buffer was reset."""
        self._gap = None
        self._below = 0  # the missing numbers lower than this are to be given up
        self._marks: deque[Mark] = deque()
        self._next_mark_at = 0.0

    def close(self) -> None:
        """Give nothing up any more: no missing event can arrive."""
        self._is_closed = True
        if self._watching:
            self._watching.kill(block=False)

    def hold(self) -> None:
        """Note that the server holds up the sources, or one of them, until ``release``.

        Several holds may overlap: time counts again once each was released.
        """
        if not self._holds:
            self._held_since = self._clock()
        self._holds += 1

    def release(self) -> None:
        """Note that a hold has ended."""
        self._holds -= 1
        if not self._holds:
            self._held_seconds += self._clock() - max(self._held_since, self._checked_at)

    def check(self) -> None:
        """Warn of the gap, and give up the numbers that have been missing for too long."""
        self._count_seconds()
        gap = self._reorder.gap
        missing = gap[0] if gap else None
        if missing != self._gap:
            self._gap, self._missing_since = missing, self._seconds
            self._has_warned = False
        if gap and self._warning is not None:
            self._warn(gap, self._seconds - self._missing_since, self._warning)
        if self._timeout is not None:
            self._give_up(self._timeout)

    def _run(self) -> None:
        self.forget()
        self._checked_at, self._held_seconds = self._clock(), 0.0
        try:
            while self._reorder.waiting:
                self.check()
                gevent.sleep(self._interval)
        finally:
            self._watching = None

    def _count_seconds(self) -> None:
        """Count the time since the last check, as far as it counts."""
        now = self._clock()
        passed, held = now - self._checked_at, self._held_seconds
        if self._holds:
            held += now - max(self._held_since, self._checked_at)
        self._checked_at, self._held_seconds = now, 0.0
        self._seconds += max(0.0, min(passed - held, self._max_counted))

    def _warn(self, gap: tuple[int, int], seconds: float, warning: float) -> None:
        """Log the gap, once, if it has been the lowest for the time of the warning."""
        if self._has_warned or seconds < warning:
            return
        self._has_warned = True
        missing, found = gap
        hint = {"hint": self._hint(found)} if missing == self._settings.first_sequence else {}
        log.warning(
            "gap",
            missing=missing,
            waiting_events=self._reorder.waiting,
            waited_seconds=round(seconds, 3),
            **hint,
        )

    def _hint(self, found: int) -> str:
        """Say what to do if the stream begins at a number other than the first one."""
        begin = self._ordering.advice.begin_at(found)
        return f"nothing has been routed yet; if the stream begins at {found}, {begin}"

    def _give_up(self, timeout: float) -> None:
        """Give up the numbers below those that have waited for the timeout; take a mark."""
        marks, reorder = self._marks, self._reorder
        while marks and marks[0].seconds <= self._seconds - timeout:
            self._below = marks.popleft().end
        if reorder.waiting and reorder.missing_sequence < self._below:
            # Others run between the steps, and may reset the reorder buffer.
            self._ordering.give_up_gaps(NO_SOURCE, below=lambda: self._below)
            self._on_given_up()
        if self._seconds >= self._next_mark_at and reorder.waiting:
            marks.append(Mark(self._seconds, reorder.end))
            self._next_mark_at = self._seconds + timeout / MARKS
