"""Time slices: how long one greenlet works before it yields to the event loop."""

from time import monotonic

import gevent

TIME_SLICE_SECONDS = 0.005
"""Longest work without a yield. A source that always has bytes to read would otherwise never
yield. Yielding after every chunk would make batches small (W4: a quarter slower).
"""

_SHORTEST_SLEEP = 1e-6
"""Seconds slept to yield. More than 0, so that the event loop polls every socket and signal:
after ``sleep(0)`` it first runs up to 50 other callbacks, each of which may be a whole chunk."""


def yield_to_event_loop() -> None:
    """Let the event loop serve every socket, signal and greenlet that is ready."""
    gevent.sleep(_SHORTEST_SLEEP)


class TimeSlice:
    """The time since one part of the server last yielded to the event loop."""

    __slots__ = ("_began_at",)

    def __init__(self) -> None:
        self._began_at = monotonic()

    def is_over(self) -> bool:
        """Return whether a yield is due."""
        return monotonic() - self._began_at >= TIME_SLICE_SECONDS

    def begin_next(self) -> None:
        """Yield to the event loop, then begin the next slice."""
        yield_to_event_loop()
        self._began_at = monotonic()
