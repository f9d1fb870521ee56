"""Work that can wait a little, done a few milliseconds at a time so that nobody waits for it."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

import gevent

from maze.net import A_MOMENT

SLICE_SECONDS = 0.005
"""How long the work goes on before others run."""


class Slices:
    """Does work in the background: ``step`` again and again, while it returns that more is left."""

    def __init__(self, step: Callable[[], bool]) -> None:
        self.step = step
        self._runs = False

    def begin(self) -> None:
        """There is work. Returns at once."""
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
