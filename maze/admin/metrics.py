"""Metrics in the formats that Prometheus reads, taken from plain counters on each scrape.

This module declares every metric once. ``docs/observability.md`` lists them, and a
test compares the two.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from maze import __version__
from maze.admin.counters import TYPE_NAMES, Counters, Section, counters
from maze.admin.status import unready_reason
from maze.core import IMPLEMENTATION
from maze.log.processors import RATE_LIMIT, RECENT

if TYPE_CHECKING:
    from maze.admin.monitor import Monitor
    from maze.pipeline.stats import Histogram
    from maze.server import Server


class Format(NamedTuple):
    """A format of the metrics."""

    content_type: str
    generate: Callable[[Collector], bytes]


TEXT = Format("text/plain; version=0.0.4; charset=utf-8", generate_latest)
OPENMETRICS = Format(openmetrics.CONTENT_TYPE_LATEST, openmetrics.generate_latest)

LEVELS = ("warning", "error", "critical")
HELP = {
    "maze_build": "Version, core and Python version of the running server.",
    "maze_ready": "1 if /readyz answers 200, else 0.",
    "maze_router_stuck_seconds": "Seconds without a batch while events are ready and neither a "
    "client nor the journal holds up the router, else 0.",
    "maze_router_waited_seconds": "Seconds that the router waited for client queues to drain.",
    "maze_graph_users": "Users who follow at least one user.",
    "maze_graph_follows": "Pairs of a follower and a followed user.",
    "maze_graph_listeners": "Pairs of a connected follower and a followed user.",
    "maze_sessions": "Connected user clients.",
    "maze_sessions_opened": "Sessions opened.",
    "maze_sessions_closed": "Sessions closed.",
    "maze_sent_bytes": "Bytes that the kernel accepted for clients.",
    "maze_client_discarded_bytes": "Bytes discarded that clients sent after their user id.",
    "maze_queue_bytes": "Bytes queued for all clients.",
    "maze_queue_largest_bytes": "Bytes queued for the client with the longest queue.",
    "maze_queue_memory_bytes": "Bytes of memory in all client queues; shared payloads count once.",
    "maze_queue_limit_bytes": "Maximum bytes queued for one client (client-buffer).",
    "maze_next_sequence": "Sequence number of the next event to route.",
    "maze_reorder_ready_events": "Events in order, ready to be routed.",
    "maze_reorder_waiting_events": "Events waiting behind a missing sequence number.",
    "maze_reorder_limit_events": "Maximum events waiting behind a missing sequence number "
    "(reorder-limit).",
    "maze_reorder_missing_seconds": "Seconds that events have waited for the lowest missing "
    "sequence number.",
    "maze_batch_events": "Events per batch.",
    "maze_routing_seconds": "Seconds to route a batch.",
    "maze_delivery_latency_seconds": "Seconds from when an event can be routed until the kernel "
    "accepts it; sampled.",
    "maze_hub_lag_seconds": "Seconds by which a one-second timer of the event loop fires late.",
    "maze_journal_commits": "Commits to the journal.",
    "maze_journal_commit_seconds": "Seconds that a commit took.",
    "maze_journal_bytes": "Bytes of event lines committed.",
    "maze_journal_next_sequence": "Sequence number after the last event committed.",
    "maze_journal_trouble": "1 while the journal cannot be written, else 0.",
    "maze_journal_events_kept": "Sequence numbers kept in the journal.",
    "maze_journal_oldest_sequence": "Lowest sequence number kept in the journal.",
    "maze_journal_used_bytes": "Bytes of the journal's file that are in use.",
    "maze_journal_snapshot_sequence": "Sequence number from which a start reads the journal: that "
    "of the newest snapshot or, without one, the lowest kept.",
    "maze_journal_lease_held": "1 while this process holds the lease of a journal in Redis; 0 in a "
    "standby.",
    "maze_journal_fence": "Number of the lease that this process holds; each new one is higher.",
    "maze_journal_lease_renewed_seconds": "Seconds since the lease was taken or renewed.",
    "maze_journal_tail_batches": "Batches kept because Redis may still lose them.",
    "maze_journal_tail_bytes": "Bytes of memory that these batches take.",
    "maze_journal_tail_limit_bytes": "Maximum bytes of memory for these batches (tail-bytes).",
    "maze_journal_gaps": "Times that Redis had lost batches, which were appended again.",
    "maze_journal_batches_appended_again": "Batches appended again because Redis had lost them.",
    "maze_feed_edges": "Edges that follow this ingest's journal.",
    "maze_feed_edge_lag_events": "Sequence numbers of the journal that an edge has not routed, as "
    "it told its ingest.",
    "maze_feed_edges_dropped": "Edges dropped because they held up the sources.",
    "maze_feed_held_up": "1 while this ingest writes nothing because an edge still needs what is "
    "to be removed, else 0.",
    "maze_feed_sent_bytes": "Bytes sent to edges.",
    "maze_feed_connected": "1 while this edge follows the journal, else 0.",
    "maze_feed_lag_events": "Sequence numbers of the journal that this edge has not routed.",
    "maze_feed_answer_age_seconds": "Seconds since the ingest, or Redis, last answered this edge.",
    "maze_feed_losses": "Times that this edge could no longer reach its ingest, or Redis.",
    "maze_feed_snapshots_loaded": "Times that this edge began with a snapshot.",
    "maze_resumes": "Resumes that ended.",
    "maze_resuming_clients": "Clients that have not yet been sent everything that they missed.",
    "maze_recent_events": "Events kept in memory for clients that resume.",
    "maze_recent_bytes": "Bytes of memory of the events kept for clients that resume.",
    "maze_log_warnings": "Log lines at level warning and above.",
    "maze_log_lines_suppressed": "Log lines suppressed by the rate limit.",
    "maze_log_lines_dropped": "Log lines dropped because they could not be written to stderr.",
    "maze_events_received": "Well-formed events received, repeated sequence numbers included.",
    "maze_source_received_bytes": "Bytes received from sources.",
    "maze_events_rejected": "Rejected lines, follows and sequence numbers.",
    "maze_rejects_written": "Rejects written to the reject file.",
    "maze_rejects_dropped": "Rejects that could not be written to the reject file.",
    "maze_sources": "Connected event sources.",
    "maze_sources_refused": "Source connections refused a slot, or rejected in the handshake.",
    "maze_sources_closed": "Source connections closed by either side.",
    "maze_clients_refused": "Client connections refused because a limit was reached.",
    "maze_handshakes_rejected": "Connections rejected by access control or in the handshake.",
    "maze_certificate_expiry_seconds": "Seconds until the earliest expiry in the certificate chain "
    "that the port presents; negative after it.",
    "maze_registration_overruns": "Batches routed before every client whose id may have arrived "
    "was registered.",
    "maze_accepting_pauses": "Pauses in accepting connections, for lack of file descriptors or "
    "memory.",
    "maze_events_routed": "Events routed, with or without recipients.",
    "maze_undelivered": "Private messages and follows whose recipient was not connected.",
    "maze_deliveries": "Events queued for sessions, counted once per session.",
    "maze_delivered_bytes": "Bytes of events queued for sessions, counted once per session.",
}
"""The help text of every metric, by name; counters are exposed with ``_total`` at the end."""
BY_TYPE = {
    "maze_events_routed": "routed",
    "maze_deliveries": "deliveries",
    "maze_delivered_bytes": "delivered_bytes",
}
"""Metrics with a ``type`` label, each with its key in a section of ``by_type``."""


class Metrics(Collector):
    """A collector of all metrics of one server."""

    def __init__(self, server: Server, monitor: Monitor) -> None:
        self._server = server
        self._monitor = monitor
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def text(self, form: Format = TEXT) -> bytes:
        """Return all metrics in a format."""
        return form.generate(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family with its current values."""
        snapshot = counters(self._server)
        yield from self._server_metrics(snapshot)
        yield from _event_metrics(snapshot["events"], snapshot["sources"])
        yield from self._undelivered_metrics()
        yield from _port_metrics(snapshot)
        yield from self._session_metrics(snapshot["sessions"], snapshot["queues"])
        yield from self._order_metrics(snapshot["order"])
        yield from self._journal_metrics(snapshot["journal"])
        if feed := snapshot["feed"]:
            yield from _edges_metrics(feed) if "edges" in feed else _feed_metrics(feed)
        yield from _resume_metrics(snapshot["resumes"])
        yield from self._duration_metrics()
        yield from self._log_metrics()

    def _server_metrics(self, snapshot: Counters) -> Iterator[Metric]:
        yield InfoMetricFamily(
            "maze_build",
            HELP["maze_build"],
            {"version": __version__, "core": IMPLEMENTATION, "python": platform.python_version()},
        )
        ready = unready_reason(self._server, self._monitor) is None
        yield _gauge("maze_ready", ready)
        yield _gauge("maze_router_stuck_seconds", self._monitor.stuck_seconds())
        yield _counter("maze_router_waited_seconds", snapshot["router"]["waited_seconds"])
        graph = snapshot["graph"]
        yield _gauge("maze_graph_users", graph["users"])
        yield _gauge("maze_graph_follows", graph["follows"])
        yield _gauge("maze_graph_listeners", graph["listeners"])
        now = time.time()
        left = {each.port: each.expires - now for each in self._server.contexts.certificates}
        yield _gauges("maze_certificate_expiry_seconds", "port", left)

    def _undelivered_metrics(self) -> Iterator[Metric]:
        """Yield the undelivered events; an ingest or edge does not know them."""
        if self._server.settings.role == "all":
            counts = self._server.router.fanout.undelivered_counts()
            values = {TYPE_NAMES[kind]: count for kind, count in counts.items()}
            yield _counters("maze_undelivered", "type", values)

    def _session_metrics(self, sessions: Section, queues: Section) -> Iterator[Metric]:
        yield _gauge("maze_sessions", sessions["connected"])
        yield _counter("maze_sessions_opened", sessions["opened"])
        yield _counters("maze_sessions_closed", "reason", sessions["closed"])
        yield _counter("maze_sent_bytes", sessions["sent_bytes"])
        yield _counter("maze_client_discarded_bytes", sessions["discarded_bytes"])
        yield _gauge("maze_queue_bytes", queues["total"])
        yield _gauge("maze_queue_largest_bytes", queues["largest"])
        yield _gauge("maze_queue_memory_bytes", queues["memory"])
        yield _gauge("maze_queue_limit_bytes", self._server.settings.client_buffer)

    def _order_metrics(self, order: Section) -> Iterator[Metric]:
        yield _gauge("maze_next_sequence", order["next_sequence"])
        yield _gauge("maze_reorder_ready_events", order["ready_events"])
        yield _gauge("maze_reorder_waiting_events", order["waiting_events"])
        yield _gauge("maze_reorder_limit_events", self._server.settings.reorder_limit)
        yield _gauge("maze_reorder_missing_seconds", order["missing_seconds"])

    def _journal_metrics(self, journal: Section | None) -> Iterator[Metric]:
        """Yield the metrics of the journal: none without one, nor what is not known yet."""
        journaling = self._server.journaling
        if journal is None or journaling is None:
            return
        yield _counter("maze_journal_commits", journal["commits"])
        yield _histogram("maze_journal_commit_seconds", journaling.seconds)
        yield _counter("maze_journal_bytes", journal["committed_bytes"])
        yield _gauge("maze_journal_trouble", journal["trouble"] is not None)
        if journal["position"] is not None:
            yield _gauge("maze_journal_next_sequence", journaling.position.next)
        if file := journaling.statistics:
            yield _gauge("maze_journal_events_kept", file.events)
            yield _gauge("maze_journal_oldest_sequence", file.kept_from.next)
            yield _gauge("maze_journal_used_bytes", file.used_bytes)
            yield _gauge("maze_journal_snapshot_sequence", (file.snapshot or file.kept_from).next)
        if journal["lease"]:
            yield from _lease_metrics(journal["lease"], journal["tail"])

    def _duration_metrics(self) -> Iterator[Metric]:
        stats = self._server.router.stats
        yield _histogram("maze_batch_events", stats.batch_sizes)
        yield _histogram("maze_routing_seconds", stats.routing_seconds)
        yield _histogram("maze_delivery_latency_seconds", stats.latency.histogram)
        yield _histogram("maze_hub_lag_seconds", self._monitor.hub_lag)

    def _log_metrics(self) -> Iterator[Metric]:
        yield _counters(
            "maze_log_warnings", "level", {level: RECENT.counts[level] for level in LEVELS}
        )
        yield _counter("maze_log_lines_suppressed", RATE_LIMIT.suppressed)
        yield _counter("maze_log_lines_dropped", self._monitor.log_lines_dropped)


def _event_metrics(events: Section, sources: Section) -> Iterator[Metric]:
    yield _counter("maze_events_received", events["received"])
    yield _counter("maze_source_received_bytes", sources["received_bytes"])
    for name, figure in BY_TYPE.items():
        values = {kind: tally[figure] for kind, tally in events["by_type"].items()}
        yield _counters(name, "type", values)
    yield _counters("maze_events_rejected", "reason", events["rejected"])
    file = events["reject_file"] or {"written": 0, "dropped": 0}
    yield _counter("maze_rejects_written", file["written"])
    yield _counter("maze_rejects_dropped", file["dropped"])


def _lease_metrics(lease: Section, tail: Section) -> Iterator[Metric]:
    """Yield the metrics of a journal in Redis. A standby has no fence."""
    yield _gauge("maze_journal_lease_held", lease["is_held"])
    if lease["is_held"]:
        yield _gauge("maze_journal_fence", lease["fence"])
        yield _gauge("maze_journal_lease_renewed_seconds", lease["renewed_seconds"])
    yield _gauge("maze_journal_tail_batches", tail["batches"])
    yield _gauge("maze_journal_tail_bytes", tail["bytes"])
    yield _gauge("maze_journal_tail_limit_bytes", tail["limit_bytes"])
    yield _counter("maze_journal_gaps", tail["gaps"])
    yield _counter("maze_journal_batches_appended_again", tail["batches_again"])


def _edges_metrics(feed: Section) -> Iterator[Metric]:
    """Yield the metrics of an ingest's feed.

    Of edges with the same name, the largest lag is shown: an edge may have come back while its
    former connection is not known to be broken.
    """
    lags: dict[str, int] = {}
    for edge in feed["edges"]:
        lags[edge["name"]] = max(lags.get(edge["name"], 0), edge["lag_events"])
    yield _gauge("maze_feed_edges", len(feed["edges"]))
    yield _gauges("maze_feed_edge_lag_events", "edge", lags)
    yield _counter("maze_feed_edges_dropped", feed["edges_dropped"])
    yield _gauge("maze_feed_held_up", feed["is_held_up"])
    yield _counters("maze_feed_sent_bytes", "origin", feed["sent_bytes"])


def _feed_metrics(feed: Section) -> Iterator[Metric]:
    """Yield the metrics of an edge's feed; what is not known yet is absent."""
    yield _gauge("maze_feed_connected", feed["is_connected"])
    if feed["lag_events"] is not None:
        yield _gauge("maze_feed_lag_events", feed["lag_events"])
    if feed["answer_seconds"] is not None:
        yield _gauge("maze_feed_answer_age_seconds", feed["answer_seconds"])
    yield _counter("maze_feed_losses", feed["losses"])
    yield _counter("maze_feed_snapshots_loaded", feed["snapshots_loaded"])


def _resume_metrics(resumes: Section) -> Iterator[Metric]:
    yield _counters("maze_resumes", "outcome", resumes["outcomes"])
    yield _gauge("maze_resuming_clients", resumes["resuming"])
    yield _gauge("maze_recent_events", resumes["recent_events"])
    yield _gauge("maze_recent_bytes", resumes["recent_bytes"])


def _port_metrics(snapshot: Counters) -> Iterator[Metric]:
    sources, sessions = snapshot["sources"], snapshot["sessions"]
    yield _gauge("maze_sources", len(sources["connected"]))
    yield _counter("maze_sources_refused", sources["refused"])
    yield _counters("maze_sources_closed", "reason", sources["closed"])
    yield _counters("maze_clients_refused", "reason", sessions["refused"])
    rejects = CounterMetricFamily(
        "maze_handshakes_rejected", HELP["maze_handshakes_rejected"], labels=["port", "reason"]
    )
    for port, part in (("source", sources), ("client", sessions), ("feed", snapshot["feed"] or {})):
        for reason, count in part.get("handshakes_rejected", {}).items():
            rejects.add_metric([port, reason], count)
    yield rejects
    yield _counter("maze_registration_overruns", snapshot["router"]["registration_overruns"])
    yield _counters("maze_accepting_pauses", "port", snapshot["accepting_pauses"])


def _gauge(name: str, value: float) -> Metric:
    return GaugeMetricFamily(name, HELP[name], value=value)


def _counter(name: str, value: float) -> Metric:
    return CounterMetricFamily(name, HELP[name], value=value)


def _counters(name: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, HELP[name], labels=[label])
    for word, value in values.items():
        family.add_metric([word], value)
    return family


def _gauges(name: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, HELP[name], labels=[label])
    for word, value in values.items():
        family.add_metric([word], value)
    return family


def _histogram(name: str, histogram: Histogram) -> Metric:
    bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
    buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
    return HistogramMetricFamily(name, HELP[name], buckets=buckets, sum_value=histogram.total)
