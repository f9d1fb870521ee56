"""``python -m maze.journal`` as a process: beside one that writes, on a pipe, its statuses."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from maze.core import Position
from maze.journal.journal import Batch
from maze.journal.sqlite import SQLiteJournal

from .peers import PATIENCE
from .running import ROOT

pytestmark = pytest.mark.realtime

LINES = b"".join(b"%d|B\n" % number for number in range(1, 50_001))


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "journal")


@pytest.fixture
def journal(path: str) -> Iterator[SQLiteJournal]:
    """A journal that this process has open, as a server has."""
    with closing(SQLiteJournal(path, Position(1, 1), synchronous="OFF")) as opened:
        opened.append([Batch(1, 1, 50_001, LINES)], opened.lease())
        yield opened


def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "maze.journal", *arguments],
        cwd=ROOT,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )


def test_a_journal_is_inspected_beside_the_process_that_writes_it(
    path: str, journal: SQLiteJournal
) -> None:
    for command, said in [("info", b"1-50001"), ("check", b"no faults"), ("dump", LINES)]:
        result = run(command, path)
        assert (result.returncode, result.stderr) == (0, b"")
        assert said in result.stdout
    journal.append([Batch(1, 50_001, 50_002, b"50001|B\n")], journal.lease())
    assert run("dump", path, "--from", "50000").stdout == b"50000|B\n50001|B\n"


@pytest.mark.usefixtures("journal")
def test_a_journal_is_not_changed_beside_the_process_that_writes_it(path: str) -> None:
    for command in ("compact", "reset"):
        result = run(command, path)
        assert (result.returncode, result.stdout) == (1, b"")
        said = f"maze.journal: {path}: another process has it open\n"
        assert result.stderr.decode() == said


def test_a_reader_that_has_read_enough_is_no_error(path: str, journal: SQLiteJournal) -> None:
    more = [Batch(1, first, first + 50_000, LINES) for first in range(50_001, 500_000, 50_000)]
    journal.append(more, journal.lease())
    command = [sys.executable, "-m", "maze.journal", "dump", path]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == b"1|B\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(PATIENCE) == 0


def test_follows_are_imported_into_a_new_journal(path: str, tmp_path: Path) -> None:
    csv = tmp_path / "follows.csv"
    csv.write_text("follower,followed\n1,2\n3,2\n")
    result = run("import-follows", path, str(csv))
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.startswith(b"2 follows of 2 users at ")
    assert b"snapshots 1" in run("info", path).stdout
    csv.write_text("1,2,3\n")
    result = run("import-follows", path, str(csv))
    assert result.returncode == 1
    assert result.stderr.startswith(f"maze.journal: {csv}, line 1: ".encode())


@pytest.mark.parametrize(("arguments", "status"), [(["info", "/no/such/file"], 1), (["info"], 2)])
def test_what_cannot_be_done_has_a_status(arguments: list[str], status: int) -> None:
    result = run(*arguments)
    assert (result.returncode, result.stdout) == (status, b"")
    assert b"Traceback" not in result.stderr


def test_a_disk_that_is_full_is_one_line(path: str, journal: SQLiteJournal) -> None:
    assert journal.position() == Position(1, 50_001)
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            [sys.executable, "-m", "maze.journal", "dump", path],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
            check=False,
        )
    assert result.returncode == 1
    assert result.stderr == b"maze.journal: No space left on device\n"
