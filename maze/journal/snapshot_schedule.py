"""Decides when the next snapshot of a journal is taken."""

RETRY_SECONDS = 60.0
"""Minimum time between a snapshot that failed and the next one."""


class SnapshotSchedule:
    """Decides when a snapshot is due: after ``events`` events or ``interval`` seconds.

    Both count from when the newest snapshot was begun, and whichever comes first decides. Without
    events, none is due. All times are of one monotonic clock.
    """

    def __init__(self, events: int, interval: float, now: float) -> None:
        self._events = events
        self._interval = interval
        self._since = now
        self._count = 0
        self._is_running = False
        self._began = now
        self._count_at_begin = 0
        self._not_before = now

    def add(self, events: int) -> None:
        """Count events that were committed."""
        self._count += events

    def is_due(self, now: float) -> bool:
        """Return whether to take a snapshot now."""
        if self._is_running or now < self._not_before or not self._count:
            return False
        return self._count >= self._events or now - self._since >= self._interval

    def begin(self, now: float) -> None:
        """Note that a snapshot is being taken; none is due meanwhile."""
        self._is_running = True
        self._began = now
        self._count_at_begin = self._count

    def finish(self) -> None:
        """Note that the snapshot is stored."""
        self._is_running = False
        self._since = self._began
        self._count -= self._count_at_begin

    def fail(self, now: float) -> None:
        """Note that the snapshot failed."""
        self._is_running = False
        self._not_before = now + RETRY_SECONDS
