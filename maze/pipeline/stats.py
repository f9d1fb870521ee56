"""What the router measures of its own work, in plain integers.

The router feeds these, a call a chunk or a batch, never one an event; whoever
wants to know (``maze.admin``) reads them. Nothing here knows who that is.
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
SAMPLE_SECONDS = 0.01
"""From one sample of the latency to the next; thin traffic is measured whole by that."""

NO_SEQUENCE = -1
"""stands where a sequence number would, if there is none"""


class Histogram:
    """How often values came, by the smallest bound that is not below them."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, weight: int = 1) -> None:
        """Count a value that came ``weight`` times."""
        self.counts[bisect_left(self.bounds, value)] += weight
        self.total += value * weight


class Latency:
    """How long deliveries take: from when an event could be routed until the kernel has it.

    Sampled: at most one event is followed at a time, the last of those that a
    chunk made ready. All that is sent with its batch counts; a session that is
    behind counts when it has caught up, once, however far behind it is.
    """

    def __init__(self) -> None:
        self.histogram = Histogram(LATENCY_SECONDS)
        self.catching_up: dict[Outbox, tuple[int, float]] = {}
        """of sessions that have not sent it all: up to which byte, and the time it began"""
        self.followed = NO_SEQUENCE
        """the number of the event that is followed"""
        self._since = 0.0
        self._next = 0.0

    def ready(self, sequence: int, now: float) -> None:
        """The events up to that number can be routed."""
        if self.followed == NO_SEQUENCE and now >= self._next:
            self.followed = sequence
            self._since = now
            self._next = now + SAMPLE_SECONDS

    def due(self, next_sequence: int) -> float:
        """When the event could be routed, if it is in the batch that was routed; else 0."""
        if NO_SEQUENCE != self.followed < next_sequence:
            self.followed = NO_SEQUENCE
            return self._since
        return 0.0

    def flushed(self, sessions: Iterable[Outbox], since: float) -> None:
        """Sessions of that batch, flushed together, have sent what their clients take at once.

        Their latencies count as equal: to look at the clock after each would slow the flush.
        """
        caught_up = 0
        for session in sessions:
            if session.sent_bytes == session.pushed_bytes:
                caught_up += 1
            elif session.queued_bytes and session not in self.catching_up:
                self.catching_up[session] = (session.pushed_bytes, since)
        self.histogram.observe(monotonic() - since, caught_up)

    def progressed(self, session: Outbox) -> None:
        """A session has sent more."""
        goal, since = self.catching_up.get(session, (0, 0.0))
        if goal and session.sent_bytes >= goal:
            del self.catching_up[session]
            self.histogram.observe(monotonic() - since)

    def remove(self, session: Outbox) -> None:
        """A session has ended; what it did not get is no delivery."""
        self.catching_up.pop(session, None)


class Stats:
    """The router's measurements."""

    def __init__(self) -> None:
        self.received_events = 0
        """well-formed events that sources sent, those included that were known already"""
        self.waited_seconds = 0.0
        """time that the router waited for clients to make room"""
        self.batches = 0
        self.batch_sizes = Histogram(BATCH_SIZES)
        self.routing_seconds = Histogram(ROUTING_SECONDS)
        self.latency = Latency()
        self._missing = NO_SEQUENCE
        self._missing_since = 0.0

    def arrived(self, events: int, reorder: ReorderBuffer) -> None:
        """A chunk with so many events was put in order."""
        self.received_events += events
        missing = reorder.missing_sequence
        latency = self.latency
        if latency.followed == NO_SEQUENCE and reorder.ready:
            latency.ready(missing - 1, monotonic())
        if not reorder.waiting:
            self._missing = NO_SEQUENCE
        elif missing != self._missing:
            self._missing = missing
            self._missing_since = monotonic()

    def on_reset(self) -> None:
        """The stream was forgotten, and what was missing in it."""
        self._missing = NO_SEQUENCE

    def missing_seconds(self, reorder: ReorderBuffer) -> float:
        """For how long events have been waiting for the missing one; 0 if none do."""
        return monotonic() - self._missing_since if reorder.waiting else 0.0

    def routed(self, events: int, seconds: float) -> None:
        """A batch of so many events was routed."""
        # As Histogram.observe, without the calls: a batch may be as small as one event.
        self.batches += 1
        sizes, times = self.batch_sizes, self.routing_seconds
        sizes.counts[bisect_left(BATCH_SIZES, events)] += 1
        sizes.total += events
        times.counts[bisect_left(ROUTING_SECONDS, seconds)] += 1
        times.total += seconds
