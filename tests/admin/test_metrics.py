"""The exported metrics: names, values, and their rows in the document."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from end_to_end.peers import until
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from maze.admin.metrics import HELP, Metrics
from maze.admin.monitor import Monitor
from maze.admin.status import status
from maze.core import Decoder, Reason
from maze.listener.connection_limits import RefusalReason
from maze.listener.handshake_rejects import HandshakeReason
from maze.log.line_writer import LineWriter
from maze.log.processors import RECENT
from maze.pipeline.session import CloseReason
from maze.pipeline.source import SourceCloseReason
from maze.process.certificate_watch import DAY
from maze.settings.option_types import ranges as parse_ranges

from .conftest import Start, WatchedFeed
from .watching import Watched, Watcher

DOCS = Path(__file__).parents[2] / "docs"
PROCESS_PREFIX = "process_"
"""Prefix of the metrics that the client library's own collector exports."""


def families(watched: Watcher) -> dict[str, Metric]:
    answer = watched.ask("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {family.name: family for family in text_string_to_metric_families(answer.body.decode())}


def values(watched: Watcher) -> dict[tuple[str, str], float]:
    """Return every sample's value by its name and label values."""
    return {
        (sample.name, " ".join(sample.labels.values())): sample.value
        for family in families(watched).values()
        for sample in family.samples
    }


def sample_names(watched: Watcher) -> set[str]:
    return {sample.name for family in families(watched).values() for sample in family.samples}


def families_of(kinds: list[Watcher]) -> dict[str, Metric]:
    """Return the families that several servers export."""
    return {name: family for watcher in kinds for name, family in families(watcher).items()}


def test_the_time_until_a_certificate_expires(encrypted: Watched) -> None:
    for days in (-3.0, 30.0):
        expires = time.time() + days * DAY
        certificates = tuple(
            each._replace(expires=expires) for each in encrypted.server.contexts.certificates
        )
        encrypted.server.contexts = encrypted.server.contexts._replace(certificates=certificates)
        found = values(encrypted)
        for port in ("source", "client"):
            left = found["maze_certificate_expiry_seconds", port]
            assert left == pytest.approx(expires - time.time(), abs=60)


def test_without_tls_no_certificate_expires(watched: Watched) -> None:
    assert not families(watched)["maze_certificate_expiry_seconds"].samples


def test_every_family_has_help_a_type_and_a_conventional_name(kinds: list[Watcher]) -> None:
    for name, family in families_of(kinds).items():
        assert family.documentation, name
        assert family.type in {"counter", "gauge", "histogram"}, name
        assert name.startswith(("maze_", PROCESS_PREFIX)), name
        assert not re.search("_(ms|kb|mb|us)(_|$)", name), name
        for sample in family.samples:
            assert family.type != "counter" or sample.name.endswith("_total"), sample.name
            assert not set(sample.labels) & {"user", "client", "connection", "session", "peer"}


def test_the_document_has_the_type_labels_and_help_of_every_metric(kinds: list[Watcher]) -> None:
    rows = set()
    for name, family in families_of(kinds).items():
        if name.startswith("maze_"):
            total = "_total" if family.type == "counter" else ""
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            listed = ", ".join(f"`{label}`" for label in sorted(labels))
            rows.add(f"| `{name}{total}` | {family.type} | {listed} | {family.documentation} |")
    document = (DOCS / "observability.md").read_text(encoding="utf-8")
    assert rows - set(document.splitlines()) == set()


def test_every_metric_with_a_help_text_is_exported(kinds: list[Watcher]) -> None:
    exported = {name for name in families_of(kinds) if name.startswith("maze_")}
    assert {name.removesuffix("_info") for name in exported} == set(HELP)


def test_traffic_is_counted_by_type_and_by_session(watched: Watched) -> None:
    one, two = watched.clients(1, 2)
    lines = [b"1|F|1|2\n", b"2|S|2\n", b"3|B\n", b"4|P|2|1\n", b"5|U|1|2\n", b"6|P|1|99\n"]
    source = watched.source()
    source.send(b"".join(lines) + b"nonsense\n" + b"8|B\n")
    one.expect(lines[1] + lines[2] + lines[3])
    two.expect(lines[0] + lines[2])
    source.send(b"3|B\n")
    until(lambda: watched.rejects().get("stale") == 1, "the stale line to be counted")
    found = values(watched)
    for kind, routed, deliveries, size in [
        ("follow", 1, 1, len(lines[0])),
        ("unfollow", 1, 0, 0),
        ("broadcast", 1, 2, 2 * len(lines[2])),
        ("private", 2, 1, len(lines[3])),
        ("status", 1, 1, len(lines[1])),
    ]:
        assert found["maze_events_routed_total", kind] == routed
        assert found["maze_deliveries_total", kind] == deliveries
        assert found["maze_delivered_bytes_total", kind] == size
    assert found["maze_events_received_total", ""] == 8
    assert found["maze_source_received_bytes_total", ""] == len(b"".join(lines)) + 9 + 4 + 4
    assert found["maze_events_rejected_total", "bad_sequence"] == 1
    assert found["maze_events_rejected_total", "stale"] == 1
    assert found["maze_sent_bytes_total", ""] == sum(map(len, lines[1:4] + lines[:1] + lines[2:3]))
    assert found["maze_next_sequence", ""] == 7
    assert found["maze_reorder_waiting_events", ""] == 1
    assert found["maze_reorder_missing_seconds", ""] > 0
    assert found["maze_sessions", ""] == found["maze_sessions_opened_total", ""] == 2
    assert found["maze_sources", ""] == 1
    assert found["maze_graph_follows", ""] == found["maze_graph_users", ""] == 0
    assert found["maze_batch_events_sum", ""] == 6
    assert found["maze_routing_seconds_count", ""] == found["maze_batch_events_count", ""] > 0
    assert found["maze_delivery_latency_seconds_count", ""] > 0


def test_events_for_users_who_are_not_connected_are_counted_by_type(watched: Watched) -> None:
    (client,) = watched.clients(1)
    assert values(watched)["maze_undelivered_total", "private"] == 0
    watched.source().send(b"1|P|1|2\n2|F|1|2\n3|P|1|3\n4|S|2\n5|U|1|2\n6|F|2|1\n7|S|9\n8|B\n")
    client.expect(b"4|S|2\n6|F|2|1\n8|B\n")
    found = values(watched)
    assert found["maze_undelivered_total", "private"] == 2
    assert found["maze_undelivered_total", "follow"] == 1
    assert [kind for name, kind in found if name == "maze_undelivered_total"] == [
        "follow",
        "private",
    ]


def test_neither_an_ingest_nor_an_edge_knows_who_is_not_connected(feed: WatchedFeed) -> None:
    for watcher in (feed.of_ingest, feed.of_edge):
        assert not [name for name, _ in values(watcher) if name.startswith("maze_undelivered")]


def test_sent_bytes_of_closed_sessions_still_count(watched: Watched) -> None:
    client = watched.client(1)
    watched.source().send(b"1|B\n")
    client.expect(b"1|B\n")
    client.close()
    watched.await_sessions(0)
    found = values(watched)
    assert found["maze_sent_bytes_total", ""] == 4
    assert found["maze_sessions_closed_total", "left"] == 1
    assert found["maze_sessions_opened_total", ""] == 1


def test_every_reason_is_exported_from_the_start(watched: Watched) -> None:
    found = values(watched)
    for name, reasons in [
        ("maze_events_rejected_total", Reason),
        ("maze_sessions_closed_total", CloseReason),
        ("maze_clients_refused_total", RefusalReason),
        ("maze_sources_closed_total", SourceCloseReason),
    ]:
        for reason in reasons:
            assert found[name, reason.value] == 0
    for port in ("source", "client"):
        assert found["maze_accepting_pauses_total", port] == 0
        for handshake_reason in HandshakeReason:
            label = f"{port} {handshake_reason.value}"
            assert found["maze_handshakes_rejected_total", label] == 0


def test_rejected_handshakes_and_refused_sources_are_counted(watched: Watched) -> None:
    watched.stranger().send(b"nobody\n")
    watched.source()
    watched.await_sources(1)
    watched.source().expect_closed()
    until(watched.server.clients.access.rejects.counts.total, "the handshake to be refused")
    found = values(watched)
    assert found["maze_handshakes_rejected_total", "client bad_user"] == 1
    assert found["maze_handshakes_rejected_total", "source bad_user"] == 0
    assert found["maze_sources_refused_total", ""] == 1


def test_refusals_by_limits_and_access_control_are_counted(start: Start, tmp_path: Path) -> None:
    nowhere = parse_ranges("192.0.2.0/24")
    path = str(tmp_path / "rejects")
    watched = start(max_clients=1, max_follows=1, allow_source=nowhere, rejects=path)
    watched.client(1)
    watched.stranger().expect_closed()
    watched.source().expect_closed()
    intake, rejects = watched.server.intake, watched.server.rejects
    runs, _ = Decoder(100).feed(b"1|F|1|2\n2|F|1|3\n")
    intake.submit(runs, "here")
    assert rejects.file is not None
    until(lambda: rejects.file and rejects.file.written, "the follow to be in the reject file")
    rejects.file._failed = 3
    rejects.file._out_rejects += 3
    found, state = values(watched), watched.status()
    assert found["maze_clients_refused_total", "max_clients"] == 1
    assert state["sessions"]["refused"]["max_clients"] == 1
    assert found["maze_handshakes_rejected_total", "source address"] == 1
    assert state["sources"]["handshakes_rejected"]["address"] == 1
    assert state["sessions"]["handshakes_rejected"]["address"] == 0
    assert found["maze_events_rejected_total", "graph_full"] == 1
    assert found["maze_graph_follows", ""] == found["maze_graph_listeners", ""] == 1
    assert found["maze_rejects_written_total", ""] == 1
    assert found["maze_rejects_dropped_total", ""] == 3
    assert state["events"]["reject_file"] == {"written": 1, "dropped": 3}
    watched.server._listeners["client"].pauses = 2
    assert values(watched)["maze_accepting_pauses_total", "client"] == 2
    assert watched.status()["accepting_pauses"] == {"source": 0, "client": 2}


def test_readiness_is_exported(watched: Watched) -> None:
    assert values(watched)["maze_ready", ""] == 1
    watched.server.state = "draining"
    assert values(watched)["maze_ready", ""] == 0


def test_lost_log_lines_are_counted(watched: Watched) -> None:
    writer = LineWriter(open("/dev/null", "w"), limit=1)  # noqa: SIM115
    writer.close()
    writer.dropped = 3
    monitor = Monitor(watched.server, writer)
    assert "maze_log_lines_dropped_total 3.0" in Metrics(watched.server, monitor).text().decode()
    assert status(watched.server, monitor)["log_lines"]["dropped"] == 3


def test_warnings_are_counted_by_level(watched: Watched) -> None:
    before = values(watched)["maze_log_warnings_total", "warning"]
    RECENT(None, "warning", {"event": "something"})
    assert values(watched)["maze_log_warnings_total", "warning"] == before + 1


def test_the_buckets_of_a_histogram_add_up(watched: Watched) -> None:
    watched.source().send(b"1|B\n")
    watched.await_routed(1)
    buckets = [
        sample
        for sample in families(watched)["maze_batch_events"].samples
        if sample.name.endswith("_bucket")
    ]
    assert [bucket.value for bucket in buckets] == [1] * len(buckets)
    assert buckets[0].labels["le"] == "1.0"
    assert buckets[-1].labels["le"] == "+Inf"
