"""The SIGUSR2 dump: counters, and identical stacks logged once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event
from structlog.testing import capture_logs

from maze.journal.figures import Statistics
from maze.log.line_writer import LineWriter
from maze.log.reject_file import RejectFileWriter
from maze.process import diagnostics
from maze.process.diagnostics import Diagnostics
from maze.server import MazeServer
from maze.settings.options import Settings

MANUAL = Path(__file__).parents[3] / "docs" / "operations.md"


class FullDisk:
    def write(self, text: str) -> None:
        raise OSError(28, "disk full")


@pytest.fixture
def writer() -> Iterator[LineWriter]:
    lines = LineWriter(FullDisk())
    yield lines
    lines.close()


def entries_of(writer: LineWriter) -> list[dict[str, Any]]:
    server = MazeServer(Settings())
    server.router.stats.routed_events = 7
    with capture_logs() as entries:
        Diagnostics(server, writer).write()
    return [dict(entry) for entry in entries]


def stacks(entries: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(entry["count"], entry["stack"]) for entry in entries if entry["event"] == "dump_stack"]


def wait_here(event: Event) -> None:
    event.wait()


def wait_deep(event: Event, depth: int) -> None:
    if depth:
        wait_deep(event, depth - 1)
    else:
        event.wait()


def test_the_counters_come_first(writer: LineWriter) -> None:
    writer.msg("lost")
    writer.close()
    first = entries_of(writer)[0]
    assert first["event"] == "dump_counters"
    assert (first["routed_events"], first["log_lines_dropped"]) == (7, 1)


def test_every_counter_is_in_the_manual(writer: LineWriter, tmp_path: Path) -> None:
    rejects, journal = str(tmp_path / "rejects.jsonl"), str(tmp_path / "journal")
    server = MazeServer(Settings(rejects=rejects, journal=journal))
    journaling = server.intake.journaling
    assert journaling is not None
    at = journaling.position
    journaling.statistics = Statistics(at, at, 0, 0, at)
    server.state = "ready"
    server.rejects.file = RejectFileWriter(rejects, 1 << 20, 2)
    server.rejects.file.close(10)
    with capture_logs() as entries:
        Diagnostics(server, writer).write()
    journaling.close(0)
    names = entries[0].keys() - {"event", "log_level"}
    manual = MANUAL.read_text(encoding="utf-8")
    assert len(names) > 10
    assert {name for name in names if "journal" in name} > {"journal_snapshot_position"}
    assert [name for name in names if f"`{name}`" not in manual] == []


def test_identical_stacks_are_logged_once_with_their_count(writer: LineWriter) -> None:
    event = Event()
    greenlets = [gevent.spawn(wait_here, event) for _ in range(1_000)]
    gevent.sleep(0)
    entries = entries_of(writer)
    event.set()
    gevent.joinall(greenlets)
    ((count, stack),) = [each for each in stacks(entries) if " wait_here" in each[1]]
    assert count == 1_000
    lines = [line.strip() for line in stack.splitlines()]
    place = next(number for number, line in enumerate(lines) if line.endswith(" wait_here"))
    assert "test_diagnostics.py:" in lines[place]
    summary = next(entry for entry in entries if entry["event"] == "dump_stacks")
    assert summary["greenlets_and_threads"] >= 1_000
    assert summary["stacks"] < 20


def test_the_stack_of_a_native_thread_is_marked(writer: LineWriter) -> None:
    let_go = threading.Event()

    def wait_in_thread() -> None:
        let_go.wait(10)

    thread = threading.Thread(target=wait_in_thread)
    thread.start()
    found = [stack for _, stack in stacks(entries_of(writer)) if "wait_in_thread" in stack]
    let_go.set()
    thread.join(10)
    assert len(found) == 1
    assert found[0].startswith("native thread\n")


def test_a_deep_stack_keeps_its_innermost_frames(writer: LineWriter) -> None:
    event = Event()
    greenlet = gevent.spawn(wait_deep, event, 200)
    gevent.sleep(0)
    (stack,) = [stack for _, stack in stacks(entries_of(writer)) if " wait_deep" in stack]
    event.set()
    greenlet.join()
    lines = stack.splitlines()
    assert lines[0] == "  ..."
    assert len(lines) == diagnostics.MAX_FRAMES + 1


def test_the_most_frequent_stacks_are_logged(
    writer: LineWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnostics, "MAX_STACKS", 3)
    event = Event()
    greenlets = [
        gevent.spawn(wait_deep, event, depth) for depth in range(5) for _ in range(10 * depth + 10)
    ]
    gevent.sleep(0)
    entries = entries_of(writer)
    event.set()
    gevent.joinall(greenlets)
    assert [count for count, _ in stacks(entries)] == [50, 40, 30]
    assert next(e["stacks"] for e in entries if e["event"] == "dump_stacks") >= 5


def test_requests_during_a_dump_share_it(writer: LineWriter) -> None:
    one = Diagnostics(MazeServer(Settings()), writer)
    with capture_logs() as entries:
        greenlets = [gevent.spawn(one.write) for _ in range(3)]
        gevent.joinall(greenlets)
        one.write()
    assert [entry["event"] for entry in entries].count("dump_counters") == 2
