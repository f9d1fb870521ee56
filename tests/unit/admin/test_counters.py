"""The snapshot of the counters that dump, status and metrics render."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from maze.admin.counters import counters
from maze.admin.metrics import Metrics
from maze.admin.monitor import Monitor
from maze.admin.status import status
from maze.core import Decoder, Position, Reason
from maze.journal.figures import Statistics
from maze.listener.connection_limits import RefusalReason
from maze.listener.handshake_rejects import HandshakeReason
from maze.log.line_writer import LineWriter
from maze.pipeline.resumes import ResumeOutcome
from maze.pipeline.session import CloseReason
from maze.pipeline.source import SourceCloseReason
from maze.process.diagnostics import Diagnostics
from maze.server import MazeServer
from maze.settings.options import Settings


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MazeServer]:
    """A server whose counts all differ."""
    server = MazeServer(Settings(journal=str(tmp_path / "journal")))
    clients, source = server.clients, server.source
    counts: list[tuple[Any, Any]] = [
        (server.rejects.counts, Reason),
        (server.sessions.closed, CloseReason),
        (clients.limits.refused, RefusalReason),
        (source.closed, SourceCloseReason),
        (clients.access.rejects.counts, HandshakeReason),
        (source.access.rejects.counts, HandshakeReason),
        (server.router.resumes.outcomes, ResumeOutcome),
    ]
    for number, (counter, reasons) in enumerate(counts, start=1):
        for index, reason in enumerate(reasons):
            counter[reason] = 1_000 * number + index
    server.router.stats.routed_events = 1
    server.registration.overruns = 2
    server.sessions.discarded_bytes = 3
    source.refused = 4
    runs, _ = Decoder(100).feed(b"1|B\n2|B\n")
    server.router.recent.add(runs, 3)
    journaling = server.intake.journaling
    assert journaling is not None
    journaling.position = Position(7, 8)
    journaling.statistics = Statistics(Position(7, 2), Position(7, 8), 6, 9_000, Position(7, 4))
    server.state = "ready"
    yield server
    journaling.close(0)


def dumped(server: MazeServer) -> dict[str, Any]:
    with capture_logs() as entries:
        Diagnostics(server, writer()).write()
    return dict(entries[0])


def exported(server: MazeServer) -> dict[tuple[str, ...], float]:
    text = Metrics(server, Monitor(server)).text().decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def writer() -> LineWriter:
    lines = LineWriter(open("/dev/null", "w"))  # noqa: SIM115
    lines.close()
    return lines


REASONS = [
    ("events", "rejected", "rejects", ("maze_events_rejected_total",)),
    ("sessions", "closed", "sessions", ("maze_sessions_closed_total",)),
    ("sessions", "refused", "clients_refused", ("maze_clients_refused_total",)),
    ("sources", "closed", "sources", ("maze_sources_closed_total",)),
    (
        *("sessions", "handshakes_rejected", "clients_handshakes"),
        ("maze_handshakes_rejected_total", "client"),
    ),
    (
        *("sources", "handshakes_rejected", "sources_handshakes"),
        ("maze_handshakes_rejected_total", "source"),
    ),
    ("resumes", "outcomes", "resumes", ("maze_resumes_total",)),
]


@pytest.mark.parametrize(("section", "key", "prefix", "metric"), REASONS)
def test_dump_status_and_metrics_show_the_same_reasons(
    server: MazeServer, section: str, key: str, prefix: str, metric: tuple[str, ...]
) -> None:
    shown = status(server, Monitor(server))[section][key]
    dump, found = dumped(server), exported(server)
    assert len(shown) >= 4
    assert min(shown.values()) >= 1_000
    for reason, count in shown.items():
        assert dump[f"{prefix}_{reason}"] == found[(*metric, reason)] == count


def test_dump_status_and_metrics_show_the_same_counts(server: MazeServer) -> None:
    shown, dump, found = status(server, Monitor(server)), dumped(server), exported(server)
    for section, key, name, metric in [
        ("sessions", "discarded_bytes", "discarded_bytes", "maze_client_discarded_bytes_total"),
        ("sources", "refused", "sources_refused", "maze_sources_refused_total"),
        (
            *("router", "registration_overruns", "registration_overruns"),
            "maze_registration_overruns_total",
        ),
        ("order", "next_sequence", "next_sequence", "maze_next_sequence"),
        ("order", "waiting_events", "waiting_events", "maze_reorder_waiting_events"),
        ("graph", "follows", "follows", "maze_graph_follows"),
        ("resumes", "resuming", "resuming", "maze_resuming_clients"),
        ("resumes", "recent_events", "recent_events", "maze_recent_events"),
        ("resumes", "recent_bytes", "recent_bytes", "maze_recent_bytes"),
        ("journal", "commits", "journal_commits", "maze_journal_commits_total"),
        ("journal", "committed_bytes", "journal_committed_bytes", "maze_journal_bytes_total"),
        ("journal", "events_kept", "journal_events_kept", "maze_journal_events_kept"),
        ("journal", "used_bytes", "journal_used_bytes", "maze_journal_used_bytes"),
    ]:
        assert shown[section][key] == dump[name] == found[(metric,)]
    assert shown["events"]["routed"] == dump["routed_events"] == 1


def test_dump_status_and_metrics_show_the_same_positions(server: MazeServer) -> None:
    shown, dump, found = status(server, Monitor(server)), dumped(server), exported(server)
    for key, metric, position in [
        ("position", "maze_journal_next_sequence", Position(7, 8)),
        ("oldest_position", "maze_journal_oldest_sequence", Position(7, 2)),
        ("snapshot_position", "maze_journal_snapshot_sequence", Position(7, 4)),
    ]:
        assert shown["journal"][key] == dump[f"journal_{key}"] == str(position)
        assert found[(metric,)] == position.next


def test_a_dump_omits_what_is_not_known_of_the_journal(server: MazeServer) -> None:
    assert server.intake.journaling is not None
    server.intake.journaling.statistics = None
    server.state = "replaying"
    names = {name for name in dumped(server) if name.startswith("journal_")}
    assert names == {"journal_commits", "journal_committed_bytes"}


def test_a_dump_omits_reasons_that_never_happened() -> None:
    dump = dumped(MazeServer(Settings()))
    assert "rejects_stale" not in dump
    assert "resumes_missed" not in dump
    assert not [name for name in dump if name.startswith("journal")]
    assert "rejects_written" not in dump  # there is no reject file
    assert dump["sources_refused"] == 0


def test_no_number_is_missing_if_no_event_waits(server: MazeServer) -> None:
    assert status(server, Monitor(server))["order"]["missing_sequence"] is None
    assert dumped(server)["missing_sequence"] == 1


def test_a_snapshot_is_plain_and_independent(server: MazeServer) -> None:
    one = counters(server)
    assert json.loads(json.dumps(one)) == one
    one["sessions"]["closed"].clear()
    assert counters(server)["sessions"]["closed"]["left"] == 2_000
