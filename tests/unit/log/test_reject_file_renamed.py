"""The reject file while other programs rename or remove it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from maze.core import Reason, Reject
from maze.log import reject_file
from maze.log.reject_file import RejectFileWriter

from .reject_files import PATIENCE, Stuck, open_writer, rows, settle


def write(writer: RejectFileWriter, *sequences: int) -> None:
    """Write one reject after the other."""
    for sequence in sequences:
        done = writer.written + writer.dropped
        writer.add([Reject(Reason.STALE, b"", sequence)], "peer")
        settle(writer, done + 1)


def sequences(path: Path) -> list[int | None]:
    return [row["sequence"] for row in rows(path)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time that the thread reads; it stands still."""
    clock = SimpleNamespace(now=1000.0, sleep=time.sleep, thread_time=time.thread_time)
    clock.time, clock.monotonic = time.time, lambda: clock.now
    monkeypatch.setattr(reject_file, "time", clock)
    return clock


def test_a_renamed_file_is_left_within_a_second(file: Path, clock: SimpleNamespace) -> None:
    writer, renamed = open_writer(file), file.with_suffix(".1")
    write(writer, 1)
    file.rename(renamed)
    clock.now += 0.9
    write(writer, 2)
    assert not file.exists()
    with capture_logs() as entries:
        clock.now += 0.1
        write(writer, 3)
        clock.now += 1
        write(writer, 4)
    writer.close(PATIENCE)
    assert (sequences(renamed), sequences(file)) == ([1, 2], [3, 4])
    assert (writer.written, writer.dropped) == (4, 0)
    assert entries == [
        {"event": "reject_file_reopened", "log_level": "info", "path": str(file), "lost": 0}
    ]


def test_what_went_into_a_removed_file_is_reported(file: Path, clock: SimpleNamespace) -> None:
    writer = open_writer(file)
    write(writer, 1)
    clock.now += 1
    write(writer, 2)
    file.unlink()
    write(writer, 3)
    with capture_logs() as entries:
        clock.now += 1
        write(writer, 4)
    writer.close(PATIENCE)
    assert [(row["reason"], row["sequence"], row["count"]) for row in rows(file)] == [
        ("not_recorded", None, 2),
        ("stale", 4, 1),
    ]
    assert (writer.written, writer.dropped) == (4, 0)
    assert entries == [
        {"event": "reject_file_reopened", "log_level": "warning", "path": str(file), "lost": 2}
    ]


def test_what_was_written_a_second_before_the_file_is_removed_is_not_reported(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reject_file, "CHECK_SECONDS", 0.01)
    writer = open_writer(file)
    write(writer, 1, 2)
    deadline = time.monotonic() + PATIENCE
    while writer._unchecked:
        assert time.monotonic() < deadline, "the thread does not look again"
        time.sleep(0.001)
    file.unlink()
    writer._check_at = 0.0  # as if a second had passed
    write(writer, 3)
    writer.close(PATIENCE)
    assert sequences(file) == [3]


def test_what_went_into_a_removed_file_is_reported_at_the_end(file: Path) -> None:
    writer = open_writer(file)
    write(writer, 1, 2)
    file.unlink()
    writer.close(PATIENCE)
    assert [(row["reason"], row["count"]) for row in rows(file)] == [("not_recorded", 2)]


def test_a_file_is_opened_again_when_that_is_asked_for(file: Path, clock: SimpleNamespace) -> None:
    writer, renamed = open_writer(file), file.with_suffix(".1")
    write(writer, 1)
    file.rename(renamed)
    writer.reopen()
    deadline = time.monotonic() + PATIENCE
    while not file.exists():
        assert time.monotonic() < deadline, "the file is not opened"
        time.sleep(0.001)
    write(writer, 2)
    writer.close(PATIENCE)
    assert (sequences(renamed), sequences(file)) == ([1], [2])


def test_what_is_queued_goes_to_the_renamed_file_when_reopening_is_asked_for(
    file: Path, stuck: Stuck
) -> None:
    writer, renamed = open_writer(file), file.with_suffix(".1")
    writer.add([Reject(Reason.STALE, b"", 1)], "peer")
    assert stuck.entered.wait(PATIENCE)
    file.rename(renamed)
    writer.reopen()
    stuck.released.set()
    settle(writer, 1)
    write(writer, 2)
    writer.close(PATIENCE)
    assert (sequences(renamed), sequences(file)) == ([1], [2])


def test_lines_go_on_into_a_renamed_file_while_none_can_be_opened(
    file: Path, clock: SimpleNamespace
) -> None:
    writer, renamed = open_writer(file), file.with_suffix(".1")
    write(writer, 1)
    file.rename(renamed)
    os.mkfifo(file)  # which nobody reads
    clock.now += 1
    with capture_logs() as entries:
        write(writer, 2)
    file.unlink()
    clock.now += 1
    write(writer, 3)
    writer.close(PATIENCE)
    assert (sequences(renamed), sequences(file)) == ([1, 2], [3])
    assert [entry["event"] for entry in entries] == ["reject_file_not_reopened"]
    assert entries[0]["error"] == "No such device or address"
