"""When each part of a stop has to be over, so that the process ends within ``drain-timeout``."""

from __future__ import annotations

from typing import NamedTuple

MIN_SECONDS = 2.0
"""Least time for a whole stop: with a shorter drain timeout, clients alone have less time."""

MAX_REST_SECONDS = 2.0
"""Longest time that is kept for what comes after the clients: journal, reject file and log."""

REST_PARTS = 4
"""Least ratio of the whole time to the time kept for what comes after the clients."""


class StopTimes(NamedTuple):
    """Ends of the parts of a stop, as seconds of one clock. A part may end earlier."""

    clients: float
    """Events are routed and sent."""
    journal: float
    """The journal is closed."""
    rejects: float
    """The reject file is written."""
    log: float
    """The process waits for the log only, whatever else has not ended."""
    end: float
    """The process ends."""

    @classmethod
    def of(cls, now: float, drain_timeout: float, total: float | None = None) -> StopTimes:
        """Return the times of a stop that begins ``now``.

        ``total`` is the time for all of it; by default it is the drain timeout, or MIN_SECONDS if
        that is longer.
        """
        if total is None:
            total = max(drain_timeout, MIN_SECONDS)
        rest = min(MAX_REST_SECONDS, total / REST_PARTS)
        end = now + total
        return cls(
            clients=min(now + drain_timeout, end - rest),
            journal=end - rest / 2,
            rejects=end - rest / 4,
            log=end - rest / 8,
            end=end,
        )
