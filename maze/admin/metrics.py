"""The metrics, in Prometheus' text format: read from plain counters when they are asked for.

Every metric is declared once, in ``collect``; ``docs/observability.md`` lists
them, and a test holds the two against each other.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from maze import __version__
from maze.admin.counters import Counters, Section, counters
from maze.admin.status import unready_because
from maze.core import IMPLEMENTATION
from maze.log.processors import RATE_LIMIT, RECENT

if TYPE_CHECKING:
    from maze.admin.monitor import Monitor
    from maze.pipeline.stats import Histogram
    from maze.server import MazeServer

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LEVELS = ("warning", "error", "critical")
BY_TYPE = (
    ("maze_events_routed", "Events routed, to anybody or to nobody.", "routed"),
    ("maze_deliveries", "Events handed to sessions, each session counted.", "deliveries"),
    (
        "maze_delivered_bytes",
        "Bytes of the events handed to sessions, each session counted.",
        "delivered_bytes",
    ),
)
"""name, text, and which figure of ``by_type`` it is"""


class Metrics(Collector):
    """All metrics of one server."""

    def __init__(self, server: MazeServer, monitor: Monitor) -> None:
        self._server = server
        self._monitor = monitor
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Every family, with its values as they are now."""
        found = counters(self._server)
        yield from self._of_server(found)
        yield from _of_events(found["events"], found["sources"])
        yield from _of_ports(found)
        yield from self._of_sessions(found["sessions"], found["queues"])
        yield from self._of_order(found["order"])
        yield from self._of_times()
        yield from self._of_log()

    def _of_server(self, found: Counters) -> Iterator[Metric]:
        yield InfoMetricFamily(
            "maze_build",
            "Which build serves.",
            {"version": __version__, "core": IMPLEMENTATION, "python": platform.python_version()},
        )
        ready = unready_because(self._server, self._monitor) is None
        yield _gauge("maze_ready", "1 if the server takes clients and routes, else 0.", ready)
        yield _gauge(
            "maze_router_stuck_seconds",
            "Seconds since the router last routed, if events are ready and it waits for no client.",
            self._monitor.stuck_seconds(),
        )
        yield _counter(
            "maze_router_waited_seconds",
            "Time that the router waited for clients to make room.",
            found["router"]["waited_seconds"],
        )
        graph = found["graph"]
        yield _gauge("maze_graph_users", "Users who follow anybody.", graph["users"])
        yield _gauge("maze_graph_follows", "Pairs of follower and followed.", graph["follows"])
        yield _gauge(
            "maze_graph_listeners",
            "Pairs of a connected user and a user they follow.",
            graph["listeners"],
        )

    def _of_sessions(self, sessions: Section, queues: Section) -> Iterator[Metric]:
        yield _gauge("maze_sessions", "Connected user clients.", sessions["connected"])
        yield _counter("maze_sessions_opened", "Sessions that began.", sessions["opened"])
        yield _counters(
            "maze_sessions_closed", "Sessions that ended.", "reason", sessions["closed"]
        )
        yield _counter(
            "maze_sent_bytes", "Bytes that the kernel took for clients.", sessions["sent_bytes"]
        )
        yield _counter(
            "maze_client_discarded_bytes",
            "Bytes that clients sent behind their user id.",
            sessions["discarded_bytes"],
        )
        yield _gauge("maze_queue_bytes", "Bytes that wait for all clients.", queues["total"])
        yield _gauge(
            "maze_queue_largest_bytes", "Bytes that wait for the slowest client.", queues["largest"]
        )
        yield _gauge(
            "maze_queue_memory_bytes",
            "Memory that waits for all clients; what they share counts once.",
            queues["memory"],
        )
        yield _gauge(
            "maze_queue_limit_bytes",
            "Bytes that may wait for one client (client-buffer).",
            self._server.settings.client_buffer,
        )

    def _of_order(self, order: Section) -> Iterator[Metric]:
        yield _gauge(
            "maze_next_sequence", "Number of the next event to route.", order["next_sequence"]
        )
        yield _gauge(
            "maze_reorder_ready_events", "Events that can be routed.", order["ready_events"]
        )
        yield _gauge(
            "maze_reorder_waiting_events",
            "Events that wait for a missing one.",
            order["waiting_events"],
        )
        yield _gauge(
            "maze_reorder_limit_events",
            "Events that may wait (reorder-limit).",
            self._server.settings.reorder_limit,
        )
        yield _gauge(
            "maze_reorder_missing_seconds",
            "For how long events have waited for the lowest missing one.",
            order["missing_seconds"],
        )

    def _of_times(self) -> Iterator[Metric]:
        stats = self._server.router.stats
        yield _histogram("maze_batch_events", "Events in a batch.", stats.batch_sizes)
        yield _histogram("maze_routing_seconds", "Time to route a batch.", stats.routing_seconds)
        yield _histogram(
            "maze_delivery_latency_seconds",
            "Time from when an event could be routed until the kernel has it; sampled.",
            stats.latency.histogram,
        )
        yield _histogram(
            "maze_hub_lag_seconds",
            "How much later than asked the event loop comes back, once a second.",
            self._monitor.hub_lag,
        )

    def _of_log(self) -> Iterator[Metric]:
        yield _counters(
            "maze_log_warnings",
            "Log lines of level warning and above.",
            "level",
            {level: RECENT.counts[level] for level in LEVELS},
        )
        yield _counter(
            "maze_log_lines_suppressed",
            "Log lines held back because there were too many of their kind.",
            RATE_LIMIT.suppressed,
        )
        yield _counter(
            "maze_log_lines_dropped",
            "Log lines lost because nobody read them in time.",
            self._monitor.log_lines_dropped,
        )


def _of_events(events: Section, sources: Section) -> Iterator[Metric]:
    yield _counter(
        "maze_events_received",
        "Well-formed events that sources sent, known ones included.",
        events["received"],
    )
    yield _counter(
        "maze_source_received_bytes", "Bytes that sources sent.", sources["received_bytes"]
    )
    for name, text, figure in BY_TYPE:
        values = {kind: tally[figure] for kind, tally in events["by_type"].items()}
        yield _counters(name, text, "type", values)
    yield _counters(
        "maze_events_rejected",
        "Lines and numbers that are not routed.",
        "reason",
        events["rejected"],
    )
    file = events["reject_file"] or {"written": 0, "dropped": 0}
    yield _counter("maze_rejects_written", "Rejects that are in the reject file.", file["written"])
    yield _counter(
        "maze_rejects_dropped",
        "Rejects that are not in the reject file, though there is one.",
        file["dropped"],
    )


def _of_ports(found: Counters) -> Iterator[Metric]:
    sources, sessions = found["sources"], found["sessions"]
    yield _gauge("maze_sources", "Connected event sources.", len(sources["connected"]))
    yield _counter("maze_sources_refused", "Sources that were not let in.", sources["refused"])
    yield _counters(
        "maze_sources_closed",
        "Sources that have left, or were closed.",
        "reason",
        sources["closed"],
    )
    yield _counters(
        "maze_clients_refused",
        "Clients for which a bound left no place.",
        "reason",
        sessions["refused"],
    )
    rejects = CounterMetricFamily(
        "maze_handshakes_rejected",
        "Connections that access control of a port did not let in.",
        labels=["port", "reason"],
    )
    for port, part in (("source", sources), ("client", sessions)):
        for reason, count in part["handshakes_rejected"].items():
            rejects.add_metric([port, reason], count)
    yield rejects
    yield _counter(
        "maze_registration_overruns",
        "Batches routed before every client whose id may have come was registered.",
        found["router"]["registration_overruns"],
    )
    yield _counters(
        "maze_accepting_pauses",
        "Times that a port accepted nothing for a moment, for want of descriptors or memory.",
        "port",
        found["accepting_pauses"],
    )


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _counters(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for word, value in values.items():
        family.add_metric([word], value)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    bounds = [*(f"{bound:g}" for bound in histogram.bounds), "+Inf"]
    buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=histogram.total)
