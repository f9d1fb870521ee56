"""Background work, done a few milliseconds at a time so that it holds up nothing else."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

import gevent

from maze.net.sockets import A_MOMENT

SLICE_SECONDS = 0.005
"""Longest time that the work runs before others do."""


class Slices:
    """Calls ``step`` in the background for as long as it returns that more work is left."""

    def __init__(self, step: Callable[[], bool]) -> None:
        self.step = step
        self._runs = False

    def begin(self) -> None:
        """Begin to work, unless already working; return at once."""
        if not self._runs:
            self._runs = True
            gevent.spawn(self._run)

    def _run(self) -> None:
        try:
            ends_at = monotonic() + SLICE_SECONDS
            while self.step():
                if monotonic() >= ends_at:
                    gevent.sleep(A_MOMENT)
                    ends_at = monotonic() + SLICE_SECONDS
        finally:
            self._runs = False
