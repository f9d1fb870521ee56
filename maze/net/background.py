"""Background work in time slices, so that it does not delay the rest of the server."""

from collections.abc import Callable

import gevent

from maze.net.time_slice import TimeSlice


class BackgroundWork:
    """Work done by calling ``step`` in a greenlet until it returns False: no work is left."""

    def __init__(self, step: Callable[[], bool]) -> None:
        self.step = step
        self._runs = False

    def begin(self) -> None:
        """Start the greenlet unless it is running. Never waits."""
        if not self._runs:
            self._runs = True
            gevent.spawn(self._run)

    def _run(self) -> None:
        time_slice = TimeSlice()
        try:
            while self.step():
                if time_slice.is_over():
                    time_slice.begin_next()
        finally:
            self._runs = False
