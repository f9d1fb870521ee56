"""A stop ends within the drain timeout, whatever hangs: a disk, a client, a process, the log."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from end_to_end.peers import broadcasts, joined, until
from end_to_end.running import Child

from .broken import UNLUCKY

pytestmark = pytest.mark.realtime

DRAIN_SECONDS = 3.0
"""The drain timeout of these servers."""

LATE_SECONDS = 1.5
"""Time by which a process may end late on a busy machine."""

FIRST = ("--first-sequence", str(UNLUCKY), "--drain-timeout", f"{DRAIN_SECONDS:g}s")


def broken(fault: str, *arguments: str, **options: Any) -> Child:
    program = ("-m", "tests.faults.broken", fault)
    return Child("--log-level", "debug", *FIRST, *arguments, program=program, **options)


def expect_stop(child: Child, *, status: int = 0, least: float = 0.0) -> None:
    """Stop the server: it ends within the drain timeout."""
    began = time.monotonic()
    child.signal(signal.SIGTERM)
    assert child.status() == status
    seconds = time.monotonic() - began
    assert least <= seconds <= DRAIN_SECONDS + LATE_SECONDS
    assert "Traceback" not in child.stderr()


def test_a_write_to_the_journal_that_hangs(tmp_path: Path) -> None:
    with broken("hanging_append", "--journal", str(tmp_path / "journal")).ready() as child:
        child.source().send(b"%d|B\n" % UNLUCKY)
        child.await_logged("journal_unavailable")
        expect_stop(child)
        assert child.logged("journal_not_closed")
        assert child.logged("stopped")


def test_a_journal_whose_end_hangs(tmp_path: Path) -> None:
    with broken("hanging_close", "--journal", str(tmp_path / "journal")).ready() as child:
        expect_stop(child)
        assert child.logged("journal_not_closed")
        assert child.logged("stopped")


@pytest.mark.parametrize("journal", [True, False])
def test_a_reject_file_that_hangs(tmp_path: Path, journal: bool) -> None:
    options = ("--journal", str(tmp_path / "journal")) if journal else ()
    with broken("hanging_rejects", "--rejects", str(tmp_path / "rejects"), *options) as child:
        child.ready()
        child.source().send(b"junk\n" * 10)
        child.await_logged("line_rejected")
        expect_stop(child)
        (line,) = child.logged("rejects_not_written")
        assert line["lost"] == 10


def test_all_of_it_at_once(tmp_path: Path) -> None:
    """A client reads nothing, and neither journal nor reject file can be written."""
    options = ("--rejects", "/dev/full", "--journal", str(tmp_path / "journal"))
    with broken("hanging_append", *options, "--client-buffer", "64KiB").ready() as child:
        client = child.client(1, small_buffers=True)
        child.await_logged("session_opened")
        source = child.source()
        source.send(b"junk\n" * 10)
        source.send_in_background(joined(broadcasts(UNLUCKY, 300_000)))
        child.await_logged("journal_unavailable")
        expect_stop(child)
        client.close()


def test_a_client_that_reads_nothing_and_a_log_that_nobody_reads() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 65536)
    except BlockingIOError:
        os.set_blocking(writing, True)
    options = ("--drain-timeout", f"{DRAIN_SECONDS:g}s")
    with Child(*options, stderr=writing) as child:
        os.close(writing)
        # It has no log, so its ports are not known; it is stopped while it starts or serves.
        until(lambda: is_listening(child.process.pid), "the server to listen")
        expect_stop(child)
    os.close(reading)


def is_listening(pid: int) -> bool:
    """Return whether a process has both of its ports open."""
    inodes = set()
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            inodes.add(os.readlink(f"/proc/{pid}/fd/{number}"))
        except OSError:
            continue
    rows = [row.split() for row in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    listening = [row for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes]
    return len(listening) >= 2


def test_an_event_loop_that_is_stuck() -> None:
    with broken("hanging_event_loop").ready() as child:
        expect_stop(child, least=DRAIN_SECONDS / 2)
        assert child.logged("stop_timed_out")


def process_of(child: Child, name: str) -> int:
    """Return the id of one of the processes of a server with edges."""
    for pid in os.listdir("/proc"):
        if not pid.isdigit():
            continue
        try:
            parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if int(parent) == child.process.pid and f'"name": "{name}"'.encode() in environment:
            return int(pid)
    raise AssertionError(f"no process {name}")


@pytest.fixture
def house() -> Callable[..., Child]:
    def serve(*arguments: str) -> Child:
        drain = ("--drain-timeout", f"{DRAIN_SECONDS:g}s")
        return Child("--log-level", "debug", "--edges", "2", *drain, *arguments).ready()

    return serve


@pytest.mark.parametrize("name", ["edge-1", "ingest"])
def test_a_process_of_several_that_does_not_run(house: Callable[..., Child], name: str) -> None:
    with house() as child:
        stopped = process_of(child, name)
        os.kill(stopped, signal.SIGSTOP)
        expect_stop(child)
        assert not Path(f"/proc/{stopped}").exists()
        assert [line["process"] for line in child.logged("process_killed")] == [name]
        others = {"ingest", "edge-1", "edge-2"} - {name}
        ended = {line.get("process") for line in child.logged("stopped")}
        assert {None, *others} <= ended
