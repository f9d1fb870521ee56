"""A server whose journal cannot be written, is gone, damaged, or another server's."""

from __future__ import annotations

import resource
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest
import structlog
from end_to_end.peers import PATIENCE, Peer, broadcasts, joined, messages, until
from end_to_end.running import Child, Maze
from structlog.testing import LogCapture

from maze.core import Position
from maze.errors import JournalUnusableError
from maze.journal import group_commit
from maze.journal.file import FORMAT
from maze.journal.journal import Batch
from maze.journal.reader import SQLiteReader
from maze.journal.sqlite import SQLiteJournal

FULL_AT_BYTES = 500_000
"""Size beyond which no file can grow; the log stays far below."""

FIRST = broadcasts(1, 101)
MORE = messages(101, 30_101, 1)
"""Events of 1.8 MB, which do not fit on the full disk."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def serve(path: Path, *arguments: str) -> Child:
    options = ("--journal", str(path), "--admin-port", "free", "--log-level", "debug")
    return Child(*options, "--drain-timeout", "1s", *arguments).ready()


def limit_files(child: Child, size: int) -> None:
    """Let the server's files grow no further, as on a full disk."""
    limits = (size, resource.RLIM_INFINITY)
    resource.prlimit(child.process.pid, resource.RLIMIT_FSIZE, limits)


def ready_answer(child: Child) -> str:
    """Return what ``/readyz`` answers."""
    child.await_logged("admin_ready")
    (opened,) = child.logged("admin_ready")
    asking = Peer((opened["admin_host"], opened["admin_port"]))
    asking.send(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n")
    answer = asking.read_until_closed().decode()
    asking.close()
    return answer


def written(path: Path) -> bytes:
    """Return all lines that are in the journal."""
    with closing(SQLiteReader(str(path))) as reader:
        position = reader.epoch_begin()
        lines = []
        while batches := reader.read(position, 1 << 24):
            lines += [batch.body for batch in batches]
            position = batches[-1].position
        return joined(lines)


def critical(child: Child, event: str) -> list[str]:
    """Return the errors of critical lines."""
    lines = child.logged(event)
    assert {line["level"] for line in lines} <= {"critical"}
    return [line["error"] for line in lines]


def await_full(child: Child) -> None:
    """Wait until a write has failed. On a slow machine it may first be told as slow."""
    until(
        lambda: any("cannot write" in error for error in critical(child, "journal_unavailable")),
        "the disk to be full",
    )


def stop(child: Child) -> None:
    """Stop the server: it ends soon, in order, whatever its journal does."""
    child.signal(signal.SIGTERM)
    assert child.status() == 0
    assert "Traceback" not in child.stderr()
    assert len(child.logged("stopped")) == 1


# A full disk.


def test_a_full_disk_delivers_nothing_until_there_is_room_and_then_everything(path: Path) -> None:
    with serve(path) as child:
        (client,) = child.clients([1])
        source = child.source()
        source.send(joined(FIRST))
        client.expect(joined(FIRST))
        limit_files(child, FULL_AT_BYTES)
        inbox = client.read_in_background()
        sending = source.send_in_background(joined(MORE))
        await_full(child)
        delivered = joined(FIRST) + inbox.so_far()
        assert written(path).startswith(delivered)
        assert len(delivered) < len(joined(MORE))
        answer = ready_answer(child)
        assert answer.startswith("HTTP/1.1 503 ")
        assert f"journal: cannot write {path}: " in answer
        limit_files(child, resource.RLIM_INFINITY)
        child.await_logged("journal_available")
        until(lambda: inbox.size == len(joined(MORE)), "all to be delivered")
        sending.join(PATIENCE)
        assert inbox.so_far() == joined(MORE)
        until(lambda: ready_answer(child).startswith("HTTP/1.1 200 "), "the server to be ready")
        errors = critical(child, "journal_unavailable")
        assert [error for error in errors if "has not answered" not in error] == [
            f"cannot write {path}: disk I/O error (SQLITE_IOERR_WRITE)"
        ]
        stop(child)
    assert written(path) == joined(FIRST + MORE)


def test_a_server_stops_although_its_disk_is_full(path: Path) -> None:
    with serve(path, "--first-sequence", "101") as child:
        inbox = child.clients([1])[0].read_in_background()
        limit_files(child, FULL_AT_BYTES)
        child.source().send_in_background(joined(MORE))
        await_full(child)
        stop(child)
        delivered = inbox.all()
        (line,) = child.logged("events_not_routed")
        assert line["ready_events"] > 0
    kept = written(path)
    assert kept.startswith(delivered)
    with serve(path, "--first-sequence", "101") as child:
        assert child.logged("journal_replayed")[0]["events"] == kept.count(b"\n")
        inbox = child.clients([1])[0].read_in_background()
        child.source().send(joined(MORE))  # what is written already is stale
        until(lambda: inbox.size >= len(joined(MORE)) - len(kept), "the rest to be delivered")
        stop(child)
        assert kept + inbox.all() == joined(MORE)


# A file that is gone.


def remove(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"somebody's notes")
    other.rename(path)


@pytest.mark.parametrize("change", [remove, replace])
def test_without_its_file_a_server_delivers_nothing_more(
    path: Path, change: Callable[[Path], None]
) -> None:
    with serve(path) as child:
        client, other = child.clients([1, 2])
        source = child.source()
        source.send(joined(FIRST))
        client.expect(joined(FIRST))
        change(path)
        source.send(joined(MORE))
        child.await_logged("journal_gone")
        (error,) = critical(child, "journal_gone")
        assert error == f"{path} was {change.__name__}d while the journal was open"
        answer = ready_answer(child)
        assert answer.startswith("HTTP/1.1 503 ")
        assert error in answer
        stop(child)
        assert client.read_until_closed() == b""
        assert other.read_until_closed() == joined(FIRST)
        assert child.logged("events_not_routed")[0]["ready_events"] > 0
    if change is replace:
        assert path.read_bytes() == b"somebody's notes"
    else:
        assert not path.exists()


# A slow disk, in this process.


@pytest.fixture
def log() -> Iterator[LogCapture]:
    capture = LogCapture()
    before = structlog.get_config()
    structlog.configure(processors=[capture])
    yield capture
    structlog.configure(**before)


class SlowDisk:
    """Holds up each append until it may pass."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.may_pass = threading.Event()
        self.may_pass.set()
        append = SQLiteJournal.append

        def held_append(journal: SQLiteJournal, batches: Any, fence: int) -> Position:
            position = append(journal, batches, fence)
            assert self.may_pass.wait(PATIENCE)
            return position

        monkeypatch.setattr(SQLiteJournal, "append", held_append)


def test_a_slow_fsync_makes_events_wait_and_nobody_else(
    path: Path, monkeypatch: pytest.MonkeyPatch, log: LogCapture
) -> None:
    monkeypatch.setattr(group_commit, "SLOW_SECONDS", 0.2)
    disk = SlowDisk(monkeypatch)
    maze = Maze(journal=str(path), source_acks=True)
    journaling = maze.server.intake.journaling
    assert journaling
    try:
        client = maze.client(1)
        source = maze.source()
        epoch = journaling.position.epoch
        disk.may_pass.clear()
        source.send(b"1|B\n2|P|9|1\n")
        until(lambda: journaling.trouble, "the disk to be reported as slow")
        assert journaling.trouble == "a write has not ended for 0.2 s"
        late = maze.client(b"1|\n")
        assert late.read_line() == b"=|%d-1\n" % epoch  # it is registered, and told where it is
        source.send(b"3|P|9|1\n")
        until(lambda: journaling.committed.in_flight == 3, "the third event to wait")
        assert maze.server.router.stats.routed_events == 0
        assert journaling.position.next == 1
        monkeypatch.setattr(group_commit, "SLOW_SECONDS", PATIENCE)
        disk.may_pass.set()
        for each in (client, late):
            each.expect(b"1|B\n2|P|9|1\n3|P|9|1\n")
        events = [line["event"] for line in log.entries if "available" in line["event"]]
        assert events == ["journal_unavailable", "journal_available"]
    finally:
        disk.may_pass.set()
        maze.close()


# A file that cannot be used.


def make_journal(path: Path, batches: int = 20) -> None:
    with closing(SQLiteJournal(str(path), Position(1, 1))) as journal:
        fence = journal.lease()
        for number in range(1, 1 + 100 * batches, 100):
            body = joined(messages(number, number + 100, 1))
            journal.append([Batch(1, number, number + 100, body)], fence)


def expect_refused(path: Path, *because: str) -> None:
    """Start a server; expect one line and status 1, and that the file stays as it is."""
    before = path.read_bytes()
    with Child("--journal", str(path)) as child:
        assert child.status() == 1
        (line,) = (line for line in child.stderr().splitlines() if not line.startswith("{"))
        assert line.startswith(f"maze: {path}")
        for words in because:
            assert words in line
        assert not child.logged("ready")
    assert path.read_bytes() == before


def test_a_second_server_is_refused_and_the_first_goes_on(path: Path) -> None:
    with serve(path) as child:
        (client,) = child.clients([1])
        source = child.source()
        source.send(b"1|B\n")
        client.expect(b"1|B\n")
        with Child("--journal", str(path)) as second:
            assert second.status() == 1
            assert second.stderr() == f"maze: {path}: another process has it open\n"
        source.send(b"2|B\n")
        client.expect(b"2|B\n")
        stop(child)


def test_a_newer_format_is_left_as_it_is(path: Path) -> None:
    make_journal(path)
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA user_version = {FORMAT + 1}")
    expect_refused(path, f"has format {FORMAT + 1}; this server has {FORMAT}")


def test_a_file_of_something_else_is_left_as_it_is(path: Path) -> None:
    path.write_text("somebody's notes\n" * 100)
    expect_refused(path, "is not a journal")


def test_an_old_batch_that_is_damaged_is_one_line(path: Path) -> None:
    make_journal(path)
    data = bytearray(path.read_bytes())
    at = data.index(messages(550, 551, 1)[0])
    data[at : at + 6] = b"zzzzzz"
    path.write_bytes(data)
    expect_refused(path, "is damaged: the checksum of batch 1-601 is wrong", "Restore it")


def started(path: Path) -> Maze | None:
    """Start a server in this process; return None if it refuses the file."""
    try:
        return Maze(journal=str(path))
    except JournalUnusableError:
        return None


@pytest.mark.parametrize("damage", ["overwritten", "cut"])
def test_any_damage_is_found_or_harmless(path: Path, damage: str) -> None:
    """Whatever part of the file is damaged, a server starts and has all events, or none starts."""
    make_journal(path)
    whole, lines = path.read_bytes(), written(path)
    refused = 0
    for seed in range(40):
        chooser = Random(seed)
        data = bytearray(whole)
        at = chooser.randrange(len(data))
        if damage == "cut":
            del data[at:]
        else:
            size = chooser.choice([1, 16, 512, 4096])
            data[at : at + size] = chooser.randbytes(len(data[at : at + size]))
        path.write_bytes(data)
        for other in path.parent.glob("journal-*"):
            other.unlink()
        maze = started(path)
        if maze is None:
            refused += 1
            assert path.read_bytes() == data
            continue
        position = maze.server.router.position
        maze.close()
        assert position.next == 2_001
        assert written(path) == lines
    assert refused > 10
