"""What operators see of the journal, and of clients that come back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gevent
import pytest
from end_to_end.peers import until
from gevent.event import Event
from structlog.testing import LogCapture

from maze.admin import Admin
from maze.core import Position
from maze.journal.journal import Batch, UnavailableError
from maze.journal.sqlite import SQLiteJournal
from maze.pipeline.recovery import Recovery
from maze.pipeline.resumes import ResumeOutcome
from maze.server import MazeServer
from maze.settings.option_types import FREE_PORT
from maze.settings.options import Settings

from .conftest import Start
from .test_metrics import sample_names, values
from .watching import Watched, parsed, read_all, tick

NO_SPACE = "/somewhere/journal: database or disk is full"


def await_statistics(watched: Watched, kept: int) -> Any:
    """Wait until the status has the figures of a file with so many events."""
    return watched.await_status(f"{kept} events in the file", "journal", "events_kept", value=kept)[
        "journal"
    ]


def test_the_status_shows_what_the_journal_holds(journaled: Watched) -> None:
    source, client = journaled.source(), journaled.client(1)
    source.send(b"1|F|1|2\n2|B\n4|B\n")
    client.expect(b"2|B\n")
    journal = await_statistics(journaled, kept=2)
    epoch, next_number = journal["position"].split("-")
    assert next_number == "3"
    assert int(epoch) > 10**12
    assert journal["trouble"] is None
    assert 1 <= journal["commits"] <= 2
    assert journal["committed_bytes"] == len(b"1|F|1|2\n2|B\n")
    assert journal["oldest_position"] == f"{epoch}-1"
    assert journal["snapshot_position"] is None
    assert journal["used_bytes"] >= 4096


def test_without_a_journal_the_status_has_none_and_no_metric(watched: Watched) -> None:
    assert watched.status()["journal"] is None
    assert not [name for name in sample_names(watched) if name.startswith("maze_journal")]


def test_the_metrics_of_the_journal(journaled: Watched) -> None:
    journaled.source().send(b"1|B\n2|B\n")
    journaled.await_routed(2)
    await_statistics(journaled, kept=2)
    found = values(journaled)
    assert found["maze_journal_next_sequence", ""] == 3
    commits = found["maze_journal_commits_total", ""]
    assert commits == found["maze_journal_commit_seconds_count", ""] > 0
    assert found["maze_journal_commit_seconds_sum", ""] > 0
    assert found["maze_journal_bytes_total", ""] == 8
    assert found["maze_journal_events_kept", ""] == 2
    assert found["maze_journal_oldest_sequence", ""] == 1
    assert found["maze_journal_used_bytes", ""] >= 4096
    assert found["maze_journal_trouble", ""] == 0


def test_the_position_of_the_newest_snapshot(
    journaled: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    journaled.source().send(b"1|B\n2|B\n3|B\n")
    await_statistics(journaled, kept=3)
    # Without a snapshot, a start reads from the oldest event on.
    assert values(journaled)["maze_journal_snapshot_sequence", ""] == 1
    snapshot = journaled.server.router.position._replace(next=3)
    read = SQLiteJournal.statistics
    monkeypatch.setattr(
        SQLiteJournal, "statistics", lambda journal: read(journal)._replace(snapshot=snapshot)
    )
    journaled.await_status("a snapshot", "journal", "snapshot_position", value=str(snapshot))
    assert values(journaled)["maze_journal_snapshot_sequence", ""] == 3


def test_commits_are_shown_by_rate_and_duration(journaled: Watched) -> None:
    shown = journaled.status()["journal"]
    assert shown["commit_seconds"] == {"p50": None, "p90": None, "p99": None}
    source = journaled.source()
    tick(journaled)
    source.send(b"1|B\n")
    journaled.await_routed(1)
    tick(journaled)
    samples = journaled.admin.monitor._samples
    samples[-2] = samples[-2]._replace(at=samples[-1].at - 2)
    status = journaled.status()
    assert status["rates"]["1s"]["commits"] == 0.5
    found = status["journal"]["commit_seconds"]
    assert 0 < found["p50"] <= found["p90"] <= found["p99"]


class Disk:
    """The disk of all journals in this process, which is full at times."""

    def __init__(self) -> None:
        self.is_full = False


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    append = SQLiteJournal.append

    def append_if_room(journal: SQLiteJournal, batches: Sequence[Batch], fence: int) -> Position:
        if disk.is_full:
            raise UnavailableError(NO_SPACE)
        return append(journal, batches, fence)

    monkeypatch.setattr(SQLiteJournal, "append", append_if_room)
    return disk


def test_a_server_that_cannot_write_its_journal_is_not_ready(
    disk: Disk, journaled: Watched
) -> None:
    assert journaled.ask("/readyz").status == 200
    disk.is_full = True
    journaled.source().send(b"1|B\n")
    shown = journaled.await_status("the disk to be full", "journal", "trouble", value=NO_SPACE)
    assert not shown["is_ready"]
    assert shown["state"] == "ready"  # it serves, but delivers nothing
    assert shown["order"]["ready_events"] == 1
    answer = journaled.ask("/readyz")
    assert answer.status == 503
    assert answer.json()["because"] == f"journal: {NO_SPACE}"
    found = values(journaled)
    assert (found["maze_journal_trouble", ""], found["maze_ready", ""]) == (1, 0)
    disk.is_full = False
    journaled.await_status("the disk to have room", "journal", "trouble", value=None)
    assert journaled.ask("/readyz").status == 200
    assert values(journaled)["maze_journal_trouble", ""] == 0
    journaled.await_routed(1)


def test_a_server_whose_journal_is_gone_stays_unready(journaled: Watched, tmp_path: Path) -> None:
    (tmp_path / "journal").unlink()
    journaled.source().send(b"1|B\n")
    until(lambda: journaled.ask("/readyz").status == 503, "the commit to fail")
    trouble = journaled.status()["journal"]["trouble"]
    assert f"{tmp_path / 'journal'} was removed" in trouble
    assert trouble in journaled.ask("/readyz").json()["because"]
    assert values(journaled)["maze_journal_trouble", ""] == 1
    assert values(journaled)["maze_events_routed_total", "broadcast"] == 0


def test_a_router_that_waits_for_the_journal_is_not_stuck(disk: Disk, journaled: Watched) -> None:
    disk.is_full = True
    journaled.source().send(b"1|B\n")
    journaled.await_status("the disk to be full", "journal", "trouble", value=NO_SPACE)
    tick(journaled)
    journaled.admin.monitor._progressed_at -= 30
    assert journaled.status()["router"]["stuck_seconds"] == 0
    disk.is_full = False


@pytest.fixture
def replaying(
    bounded: None, log: LogCapture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[tuple[Admin, Event]]:
    """A server that reads its journal until the event is set, and its admin port."""
    may_end = Event()
    run = Recovery.run

    def wait_first(recovery: Recovery) -> None:
        may_end.wait()
        run(recovery)

    monkeypatch.setattr(Recovery, "run", wait_first)
    journal = str(tmp_path / "journal")
    server = MazeServer(
        Settings(source_port=0, client_port=0, admin_port=FREE_PORT, journal=journal)
    )
    admin = Admin(server)
    admin.start()
    starting = gevent.spawn(server.start)
    until(lambda: server.state == "replaying", "the journal to be read")
    yield admin, may_end
    may_end.set()
    starting.join()
    admin.stop()
    server.stop()


def ask(admin: Admin, path: str) -> Any:
    sock = gevent.socket.create_connection(admin.address)
    sock.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
    return parsed(read_all(sock))


def test_a_server_that_reads_its_journal_says_so(replaying: tuple[Admin, Event]) -> None:
    admin, may_end = replaying
    answer = ask(admin, "/readyz")
    assert (answer.status, answer.json()["because"]) == (503, "replaying")
    assert ask(admin, "/healthz").status == 200
    shown = ask(admin, "/api/status").json()
    assert shown["state"] == "replaying"
    assert not shown["is_ready"]
    unknown = ("position", "oldest_position", "snapshot_position", "events_kept", "used_bytes")
    assert {shown["journal"][name] for name in unknown} == {None}
    metrics = ask(admin, "/metrics").body.decode()
    assert re.search("^maze_journal_trouble 0.0$", metrics, re.MULTILINE)
    assert "maze_journal_next_sequence " not in metrics
    assert "maze_journal_used_bytes " not in metrics
    may_end.set()
    until(lambda: ask(admin, "/readyz").status == 200, "the server to be ready")
    assert "maze_journal_next_sequence 1.0" in ask(admin, "/metrics").body.decode()


# Clients that come back.


def test_resumes_are_counted_by_outcome(watched: Watched) -> None:
    watched.source().send(b"1|B\n2|B\n")
    watched.await_routed(2)
    position = watched.server.router.position
    back = watched.client(b"1|%d-1\n" % position.epoch)
    back.expect(b"=|%d-1\n1|B\n2|B\n" % position.epoch)
    lost = watched.client(b"2|1-1\n")
    lost.expect(b"!|%d-3\n" % position.epoch)
    outcomes = watched.server.router.resumes.outcomes
    until(lambda: outcomes.total() == 2, "both to be counted")
    shown = watched.status()["resumes"]
    assert shown["outcomes"] == {"resumed": 1, "missed": 1, "behind": 0, "left": 0}
    assert shown["resuming"] == 0
    assert shown["recent_events"] == 2
    assert shown["recent_bytes"] > 8
    assert shown["oldest_recent_sequence"] == 1
    found = values(watched)
    assert found["maze_resumes_total", "resumed"] == 1
    assert found["maze_resumes_total", "missed"] == 1
    assert found["maze_resuming_clients", ""] == 0
    assert found["maze_recent_events", ""] == 2
    assert found["maze_recent_bytes", ""] == shown["recent_bytes"]


def test_a_client_that_is_still_resuming_is_counted(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    resumes = watched.server.router.resumes
    monkeypatch.setattr(resumes.turns, "add", lambda session: None)  # no replay gets a turn
    client = watched.client(b"1|%d-1\n" % watched.server.router.position.epoch)
    assert watched.status()["resumes"]["resuming"] == 1
    assert values(watched)["maze_resuming_clients", ""] == 1
    client.close()
    until(lambda: len(resumes) == 0, "the session to end")
    assert values(watched)["maze_resumes_total", "left"] == 1


def test_the_oldest_sequence_rises_as_events_are_dropped(start: Start) -> None:
    watched = start(resume_events=2)
    source = watched.source()
    for number in range(1, 6):
        source.send(b"%d|B\n" % number)
        watched.await_routed(number)
    shown = watched.status()["resumes"]
    assert (shown["recent_events"], shown["oldest_recent_sequence"]) == (2, 4)


def test_every_outcome_is_exported_from_the_start(watched: Watched) -> None:
    found = values(watched)
    for outcome in ResumeOutcome:
        assert found["maze_resumes_total", outcome.value] == 0
