"""Stats: what the router measures of its own work, in plain numbers.

The router updates them once per chunk or batch, never per event. ``maze.admin`` reads them.
"""

from bisect import bisect_left
from collections.abc import Iterable
from time import monotonic

from maze.core import ReorderBuffer
from maze.pipeline.implementation import Outbox

BATCH_SIZES = (1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536)
ROUTING_SECONDS = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
LATENCY_SECONDS = (
    *(1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2),
    *(0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0),
)
COMMIT_SECONDS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0)
SAMPLE_SECONDS = 0.01
"""Shortest time between two samples of the latency; in light traffic every event is sampled."""

NO_SEQUENCE = -1
"""Value in place of a sequence number if there is none."""


class Histogram:
    """Counts of values by bucket; a value falls into the bucket of the smallest bound >= it."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, weight: int = 1) -> None:
        """Count a value ``weight`` times."""
        self.counts[bisect_left(self.bounds, value)] += weight
        self.total += value * weight


class Latency:
    """The latency of deliveries: from when an event is ready until the kernel has accepted it.

    At most one event is sampled at a time: the last of those that a chunk made ready. Every session
    that gets something from its batch counts once. A session that cannot send everything at once
    counts when it has caught up.
    """

    def __init__(self) -> None:
        self.histogram = Histogram(LATENCY_SECONDS)
        self.catching_up: dict[Outbox, tuple[int, float]] = {}
        """For each session that is catching up, the byte to reach and when the event was ready."""
        self.sampled = NO_SEQUENCE
        """The sequence number of the sampled event."""
        self._ready_since = 0.0
        self._next_sample_at = 0.0

    def ready(self, sequence: int, now: float) -> None:
        """Note that the events up to ``sequence`` are ready; sample the last if a sample is due."""
        if self.sampled == NO_SEQUENCE and now >= self._next_sample_at:
            self.sampled = sequence
            self._ready_since = now
            self._next_sample_at = now + SAMPLE_SECONDS

    def forget(self) -> None:
        """Forget the sampled event: it will not be routed."""
        self.sampled = NO_SEQUENCE

    def due(self, next_sequence: int) -> float:
        """Return when the sampled event became ready, once its batch is routed; else 0."""
        if NO_SEQUENCE != self.sampled < next_sequence:
            self.sampled = NO_SEQUENCE
            return self._ready_since
        return 0.0

    def flushed(self, sessions: Iterable[Outbox], since: float) -> None:
        """Count the sessions of a sampled batch that were flushed together.

        Their latencies count as equal: reading the clock after each would slow the flush.
        """
        caught_up = 0
        for session in sessions:
            if session.sent_bytes == session.pushed_bytes:
                caught_up += 1
            elif session.queued_bytes and session not in self.catching_up:
                self.catching_up[session] = (session.pushed_bytes, since)
        self.histogram.observe(monotonic() - since, caught_up)

    def progressed(self, session: Outbox) -> None:
        """Count a session that was catching up, once it has sent enough."""
        goal, since = self.catching_up.get(session, (0, 0.0))
        if goal and session.sent_bytes >= goal:
            del self.catching_up[session]
            self.histogram.observe(monotonic() - since)

    def remove(self, session: Outbox) -> None:
        """Remove a session that has ended; what it did not get does not count."""
        self.catching_up.pop(session, None)


class Stats:
    """All measurements of the router."""

    def __init__(self) -> None:
        self.received_events = 0
        """Well-formed events that sources sent, including repeated ones."""
        self.waited_seconds = 0.0
        """Time for which the router waited for room, in seconds."""
        self.batches = 0
        self.routed_events = 0
        self.batch_sizes = Histogram(BATCH_SIZES)
        self.routing_seconds = Histogram(ROUTING_SECONDS)
        self.latency = Latency()
        self._missing = NO_SEQUENCE
        self._missing_since = 0.0

    def arrived(self, events: int, reorder: ReorderBuffer) -> None:
        """Count the events of a chunk; note which events are ready and which one is missing."""
        self.received_events += events
        missing = reorder.missing_sequence
        latency = self.latency
        if latency.sampled == NO_SEQUENCE and reorder.ready:
            latency.ready(missing - 1, monotonic())
        if not reorder.waiting:
            self._missing = NO_SEQUENCE
        elif missing != self._missing:
            self._missing = missing
            self._missing_since = monotonic()

    def on_reset(self) -> None:
        """Note that no event is missing. Called when the reorder buffer is reset."""
        self._missing = NO_SEQUENCE

    def missing_seconds(self, reorder: ReorderBuffer) -> float:
        """Return for how many seconds events have waited for the missing one; 0 if none wait."""
        return monotonic() - self._missing_since if reorder.waiting else 0.0

    def routed(self, events: int, seconds: float) -> None:
        """Count a batch and how long its routing took."""
        self.batches += 1
        self.routed_events += events
        self.batch_sizes.observe(events)
        self.routing_seconds.observe(seconds)
