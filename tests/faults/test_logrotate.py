"""logrotate takes the reject file away while the server writes it; no line is lost or torn."""

from __future__ import annotations

import json
import signal
import time
from itertools import count
from pathlib import Path

import pytest
from end_to_end.peers import Source, joined, until
from end_to_end.running import Child

from .logrotate import Logrotate

pytestmark = pytest.mark.realtime

BLOCK = 500
"""Rejects sent at a time."""


class Rejected:
    """A server, and a source of lines that it rejects; each has the next sequence number."""

    def __init__(self, file: Path) -> None:
        self.child = Child("--log-level", "debug", "--rejects", str(file)).ready()
        self._source: Source = self.child.source()
        self._next = count(1)
        self.sent = 0

    def send(self, lines: int = BLOCK) -> None:
        numbers = [next(self._next) for _ in range(lines)]
        self._source.send(joined(b"%d|X\n" % number for number in numbers))
        self.sent = numbers[-1]

    def send_until_reopened(self, times: int) -> None:
        """Send a few lines at a time until the file was opened again so many times."""

        def is_reopened() -> bool:
            self.send(20)
            return len(self.child.logged("reject_file_reopened")) >= times

        until(is_reopened, "the new file to be opened")

    def stop(self) -> None:
        self._source.close()
        self.child.await_logged("source_disconnected")
        self.child.signal(signal.SIGTERM)
        assert self.child.status() == 0
        for event in ("rejects_dropped", "rejects_not_written", "reject_file_not_reopened"):
            assert not self.child.logged(event)


@pytest.fixture
def rejects(tmp_path: Path) -> Path:
    folder = tmp_path / "rejects"
    folder.mkdir()
    return folder / "rejects.jsonl"


def next_second() -> None:
    """Wait until logrotate finds another name; its clock may lag behind by a tick."""
    begun = int(time.time())
    until(lambda: time.time() >= begun + 1.1, "the next second")


def sequences(logrotate: Logrotate) -> list[int]:
    return [json.loads(line)["sequence"] for line in logrotate.lines()]


@pytest.mark.parametrize("creates", ["nocreate", "create 0640"])
@pytest.mark.parametrize("is_told", [True, False], ids=["with SIGHUP", "without a signal"])
def test_no_line_is_lost_or_torn_when_the_file_is_renamed(
    tmp_path: Path, rejects: Path, creates: str, is_told: bool
) -> None:
    rejected = Rejected(rejects)
    with rejected.child as child:
        pid = child.process.pid if is_told else None
        logrotate = Logrotate(tmp_path, rejects, {"    nocreate": f"    {creates}"}, pid)
        for rotation in (1, 2, 3):
            rejected.send()
            until(lambda: rejects.exists() and rejects.stat().st_size, "a line to be written")
            next_second()
            logrotate.run()
            rejected.send_until_reopened(rotation)
        rejected.send()
        rejected.stop()
        reopened = child.logged("reject_file_reopened")
    assert [(line["level"], line["lost"]) for line in reopened] == [("info", 0)] * 3
    assert [file.suffix for file in logrotate.rotated()[:2]] == [".gz", ".gz"]
    assert len(logrotate.rotated()) == 3
    assert rejects.stat().st_size
    assert sequences(logrotate) == list(range(1, rejected.sent + 1))


def test_a_signal_opens_a_new_file_though_no_line_comes(tmp_path: Path, rejects: Path) -> None:
    rejected = Rejected(rejects)
    with rejected.child as child:
        logrotate = Logrotate(tmp_path, rejects, {}, child.process.pid)
        rejected.send()
        until(lambda: rejects.stat().st_size, "a line to be written")
        logrotate.run()
        until(rejects.exists, "the new file")
        rejected.stop()
    assert len(logrotate.rotated()) == 1
    assert sequences(logrotate) == list(range(1, rejected.sent + 1))


def test_a_file_that_is_cut_short_is_continued_without_a_hole(
    tmp_path: Path, rejects: Path
) -> None:
    """What is written between logrotate's copy and its cut is lost: only logrotate could help."""
    rejected = Rejected(rejects)
    with rejected.child as child:
        logrotate = Logrotate(tmp_path, rejects, {"    nocreate": "    copytruncate"}, None)
        rejected.send()
        until(lambda: len(logrotate.lines()) == rejected.sent, "all lines to be written")
        logrotate.run()
        assert not rejects.stat().st_size
        rejected.send()
        rejected.stop()
        assert not child.logged("reject_file_reopened")
    assert len(logrotate.rotated()) == 1
    assert sequences(logrotate) == list(range(1, rejected.sent + 1))
