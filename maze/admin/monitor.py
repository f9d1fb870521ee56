"""Looks at the server once a second: rates, latency percentiles, hub lag, a router that is stuck.

It keeps the last minutes, so that a page that is opened shows where things come
from. It only reads counters, and changes nothing.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import deque
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import gevent

from maze.admin.counters import events, queues
from maze.pipeline.stats import LATENCY_SECONDS, Histogram

if TYPE_CHECKING:
    from maze.log.line_writer import LineWriter
    from maze.server import MazeServer

TICK_SECONDS = 1.0
KEPT_TICKS = 180
WINDOWS = (1, 10, 60)
"""seconds over which rates are taken"""
LATENCY_WINDOW = 10
"""seconds over which percentiles are taken"""
LAG_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


class Sample(NamedTuple):
    """The counters at one tick; ``at`` is of the monotonic clock."""

    at: float
    received: int
    routed: int
    deliveries: int
    delivered_bytes: int
    latency: tuple[int, ...]


class Monitor:
    """The watcher of one server."""

    def __init__(self, server: MazeServer, writer: LineWriter | None = None) -> None:
        self.started_at = time.time()
        self.hub_lag = Histogram(LAG_SECONDS)
        self.last_lag = 0.0
        self.points: deque[dict[str, Any]] = deque(maxlen=KEPT_TICKS)
        """what the page's charts show, a point a tick"""
        self.ticks = 0
        self._server = server
        self._writer = writer
        self._samples: deque[Sample] = deque([self._sample()], maxlen=max(WINDOWS) + 1)
        self._batches = 0
        self._progressed_at = time.monotonic()
        self._due = 0.0
        self._greenlet = gevent.Greenlet(self._run)

    @property
    def log_lines_dropped(self) -> int:
        """Log lines lost because nobody read them in time."""
        return self._writer.dropped if self._writer else 0

    def start(self) -> None:
        """Begin to look."""
        self._due = time.monotonic() + TICK_SECONDS
        self._greenlet.start()

    def stop(self) -> None:
        """Look no more."""
        self._greenlet.kill(block=False)

    def seconds_to_tick(self) -> float:
        """Until the next look is over, or should be."""
        return max(0.01, self._due - time.monotonic() + 0.01)

    def stuck_seconds(self) -> float:
        """Seconds since the router last routed, if events are ready and it waits for no client."""
        return 0.0 if self._progresses() else time.monotonic() - self._progressed_at

    def rates(self) -> dict[str, dict[str, float]]:
        """What came, was routed and delivered a second, over each window."""
        return {f"{seconds}s": self._rates(seconds) for seconds in WINDOWS}

    def latency(self) -> dict[str, float | None]:
        """Percentiles over the last seconds, in seconds; None where nothing was delivered."""
        before, now = self._window(LATENCY_WINDOW)
        counts = [new - old for new, old in zip(now.latency, before.latency, strict=True)]
        return {name: percentile(counts, share) for name, share in SHARES.items()}

    def tick(self) -> None:
        """One look."""
        now = time.monotonic()
        stats = self._server.router.stats
        if self._progresses():
            self._batches = stats.batches
            self._progressed_at = now
        self._samples.append(self._sample())
        self.ticks += 1
        self.points.append(
            {
                "time": round(time.time(), 3),
                **self._rates(1),
                "queue_bytes": queues(self._server)["total"],
                "sessions": len(self._server.sessions),
                "waiting_events": self._server.router.reorder.waiting,
                **self.latency(),
            }
        )

    def _progresses(self) -> bool:
        """Whether the router has routed since the last tick, or has nothing to route, or waits."""
        router = self._server.router
        return (
            router.stats.batches != self._batches
            or not router.reorder.ready
            or router.waits_for_room
        )

    def _run(self) -> None:
        while True:
            gevent.sleep(max(0.0, self._due - time.monotonic()))
            now = time.monotonic()
            self.last_lag = max(0.0, now - self._due)
            self.hub_lag.observe(self.last_lag)
            self._due = now + TICK_SECONDS
            self.tick()

    def _sample(self) -> Sample:
        found = events(self._server)
        by_type = found["by_type"].values()
        return Sample(
            time.monotonic(),
            found["received"],
            found["routed"],
            sum(tally["deliveries"] for tally in by_type),
            sum(tally["delivered_bytes"] for tally in by_type),
            tuple(self._server.router.stats.latency.histogram.counts),
        )

    def _window(self, seconds: int) -> tuple[Sample, Sample]:
        """The sample of so many ticks ago, or the oldest, and the newest."""
        return self._samples[max(0, len(self._samples) - 1 - seconds)], self._samples[-1]

    def _rates(self, seconds: int) -> dict[str, float]:
        before, now = self._window(seconds)
        passed = now.at - before.at
        return {
            name: round((getattr(now, name) - getattr(before, name)) / passed, 1) if passed else 0.0
            for name in ("received", "routed", "deliveries", "delivered_bytes")
        }


def percentile(counts: list[int], share: float) -> float | None:
    """The value below which that share of what a latency histogram counted lies.

    Within a bucket values are taken to be spread evenly; beyond the last bound
    it is the last bound.
    """
    sums = list(accumulate(counts))
    if not sums[-1]:
        return None
    rank = share * sums[-1]
    index = bisect_left(sums, rank)
    if index == len(LATENCY_SECONDS):
        return LATENCY_SECONDS[-1]
    low = LATENCY_SECONDS[index - 1] if index else 0.0
    below = sums[index] - counts[index]
    return low + (LATENCY_SECONDS[index] - low) * (rank - below) / counts[index]
