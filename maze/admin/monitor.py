"""Sample the server once a second: rates, percentiles, hub lag, a stuck router.

The monitor keeps the last three minutes, so that a newly opened page shows recent
history. It only reads counters and never changes the server.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import deque
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import gevent

from maze.admin.counters import events, queues
from maze.pipeline.stats import COMMIT_SECONDS, LATENCY_SECONDS, Histogram

if TYPE_CHECKING:
    from maze.log.line_writer import LineWriter
    from maze.server import Server

TICK_SECONDS = 1.0
KEPT_TICKS = 180
"""Points kept for the charts of the live page: three minutes."""
WINDOWS = (1, 10, 60)
"""Windows of the rates, in ticks."""
PERCENTILE_WINDOW = 10
"""Window of the percentiles, in ticks."""
LAG_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Bucket bounds of the hub lag histogram, in seconds."""
SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


class Sample(NamedTuple):
    """Counters at one tick; ``at`` is the monotonic time."""

    at: float
    received: int
    routed: int
    deliveries: int
    delivered_bytes: int
    commits: int
    latency: tuple[int, ...]
    commit_seconds: tuple[int, ...]


class Monitor:
    """A sampler of one server's counters."""

    def __init__(self, server: Server, writer: LineWriter | None = None) -> None:
        self.started_at = time.time()
        self._began_at = time.monotonic()
        self.hub_lag = Histogram(LAG_SECONDS)
        self.last_lag = 0.0
        self.points: deque[dict[str, Any]] = deque(maxlen=KEPT_TICKS)
        """The page's charts, one point per tick, oldest first."""
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
        """Log lines dropped because they could not be written to stderr."""
        return self._writer.dropped if self._writer else 0

    def start(self) -> None:
        """Start the ticks."""
        self._due = time.monotonic() + TICK_SECONDS
        self._greenlet.start()

    def stop(self) -> None:
        """Stop the ticks."""
        self._greenlet.kill(block=False)

    def uptime_seconds(self) -> float:
        """Return the seconds since the start, whatever the system's clock was set to meanwhile."""
        return time.monotonic() - self._began_at

    def seconds_to_tick(self) -> float:
        """Return the seconds until shortly after the next tick is due."""
        return max(0.01, self._due - time.monotonic() + 0.01)

    def stuck_seconds(self) -> float:
        """Return the seconds that the router has been stuck; 0 if it is not."""
        return 0.0 if self._is_progressing() else time.monotonic() - self._progressed_at

    def rates(self) -> dict[str, dict[str, float]]:
        """Return receive, routing, delivery and commit rates per second for each window."""
        return {f"{seconds}s": self._rates(seconds) for seconds in WINDOWS}

    def latency(self) -> dict[str, float | None]:
        """Return the latency percentiles, in seconds; None if nothing was delivered."""
        return self._percentiles("latency", LATENCY_SECONDS)

    def commit_seconds(self) -> dict[str, float | None]:
        """Return the percentiles of the time that a commit took; None if nothing was committed."""
        return self._percentiles("commit_seconds", COMMIT_SECONDS)

    def tick(self) -> None:
        """Take a sample and add a point to the charts."""
        now = time.monotonic()
        stats = self._server.router.stats
        if self._is_progressing():
            self._batches = stats.batches
            self._progressed_at = now
        self._samples.append(self._sample())
        self.ticks += 1
        point = {
            "time": round(time.time(), 3),
            **self._rates(1),
            "queue_bytes": queues(self._server)["total"],
            "sessions": len(self._server.sessions),
            "waiting_events": self._server.waiting_events,
            **self.latency(),
        }
        add_point(self.points, point)

    def _is_progressing(self) -> bool:
        """Return whether the router has routed since the last tick, or has a reason not to.

        A reason is that no event is ready, that the router waits for clients, or that no more
        events come at present.
        """
        router = self._server.router
        return (
            router.stats.batches != self._batches
            or not router.unrouted_events
            or router.slow_clients.router_waits
            or self._server.trouble is not None
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
        counts = events(self._server)
        by_type = counts["by_type"].values()
        router = self._server.router
        journaling = self._server.journaling
        return Sample(
            time.monotonic(),
            counts["received"],
            counts["routed"],
            sum(tally["deliveries"] for tally in by_type),
            sum(tally["delivered_bytes"] for tally in by_type),
            journaling.commits if journaling else 0,
            tuple(router.stats.latency.histogram.counts),
            tuple(journaling.seconds.counts) if journaling else (),
        )

    def _window(self, ticks: int) -> tuple[Sample, Sample]:
        """Return the sample from ``ticks`` ago, or the oldest, and the newest."""
        return self._samples[max(0, len(self._samples) - 1 - ticks)], self._samples[-1]

    def _rates(self, seconds: int) -> dict[str, float]:
        before, now = self._window(seconds)
        passed = now.at - before.at
        return {
            name: round((getattr(now, name) - getattr(before, name)) / passed, 1) if passed else 0.0
            for name in ("received", "routed", "deliveries", "delivered_bytes", "commits")
        }

    def _percentiles(self, name: str, bounds: tuple[float, ...]) -> dict[str, float | None]:
        """Return the percentiles of what was counted in a histogram within the window."""
        before, now = self._window(PERCENTILE_WINDOW)
        pairs = zip(getattr(now, name), getattr(before, name), strict=True)
        counts = [new - old for new, old in pairs]
        return {word: percentile(counts, share, bounds) for word, share in SHARES.items()}


def add_point(points: deque[dict[str, Any]], point: dict[str, Any]) -> None:
    """Add a point to the charts. They begin anew if the clock was set back: their times ascend."""
    if points and point["time"] < points[-1]["time"]:
        points.clear()
    points.append(point)


def percentile(
    counts: list[int], share: float, bounds: tuple[float, ...] = LATENCY_SECONDS
) -> float | None:
    """Return the value below which ``share`` of a histogram's values lie.

    Values within a bucket count as evenly spread. A value beyond the last bound
    counts as that bound.
    """
    sums = list(accumulate(counts))
    if not sums[-1]:
        return None
    rank = share * sums[-1]
    index = bisect_left(sums, rank)
    if index == len(bounds):
        return bounds[-1]
    low = bounds[index - 1] if index else 0.0
    below = sums[index] - counts[index]
    return low + (bounds[index] - low) * (rank - below) / counts[index]
