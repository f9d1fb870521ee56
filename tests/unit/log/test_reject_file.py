"""The reject file: the form of its lines, rotation, and dropped rejects."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from maze.core import Reason, Reject
from maze.errors import RejectFileError
from maze.log import reject_file
from maze.log.processors import RateLimit
from maze.log.rotated_file import RotatedFile

from .reject_files import MIB, PATIENCE, Stuck, open_writer, record, rows, settle

# The lines.


def test_a_reject_is_a_line_of_json(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(
        time=lambda: 1_795_557_685.5,
        monotonic=time.monotonic,
        sleep=time.sleep,
        thread_time=time.thread_time,
    )
    monkeypatch.setattr(reject_file, "time", clock)
    assert record(file, Reject(Reason.BAD_TYPE, b"5|X\r\n", 5)) == [
        {
            "time": "2026-11-24T22:01:25.500000Z",
            "source": "192.0.2.1:7",
            "reason": "bad_type",
            "sequence": 5,
            "count": 1,
            "line": "5|X\r\n",
        }
    ]


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_recorded(file: Path, reason: Reason) -> None:
    assert [row["reason"] for row in record(file, Reject(reason, b"x\n"))] == [reason.value]


def test_a_skipped_range_is_its_first_number_and_its_count(file: Path) -> None:
    (row,) = record(file, Reject(Reason.SKIPPED, sequence=5, count=3))
    assert (row["sequence"], row["count"], row["line"]) == (5, 3, "")


def test_a_line_without_a_number_has_none(file: Path) -> None:
    (row,) = record(file, Reject(Reason.BAD_SEQUENCE, b"x\n"))
    assert row["sequence"] is None


def test_the_bytes_can_be_restored(file: Path) -> None:
    lines = [bytes(range(256)), b"", b'"\\\n', b"\xe2\x80\xa8", b"\x00" * 300_000]
    written = record(file, *[Reject(Reason.BAD_SEQUENCE, line) for line in lines])
    assert [row["line"].encode("latin-1") for row in written] == lines


def test_a_peer_is_escaped_too(file: Path) -> None:
    (row,) = record(file, Reject(Reason.HALF_LINE, b"1|"), peer='[::1%"]:7')
    assert row["source"] == '[::1%"]:7'


def test_rejects_of_many_batches_are_in_order(file: Path) -> None:
    writer = open_writer(file)
    for first in range(0, 20_000, 5_000):
        batch = range(first, first + 5_000)
        writer.add([Reject(Reason.STALE, b"%d|B\n" % n, n) for n in batch], "peer")
    writer.close(PATIENCE)
    assert [row["sequence"] for row in rows(file)] == list(range(20_000))
    assert (writer.written, writer.dropped) == (20_000, 0)


def test_an_existing_file_is_continued(file: Path) -> None:
    for sequence in (1, 2):
        record(file, Reject(Reason.STALE, b"", sequence))
    assert [row["sequence"] for row in rows(file)] == [1, 2]


def test_other_users_may_not_read_it(file: Path) -> None:
    record(file)
    assert file.stat().st_mode & 0o007 == 0


def new_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


# Rotation.


def test_a_full_file_is_renamed_and_old_files_are_deleted(tmp_path: Path, file: Path) -> None:
    writer = open_writer(file, size=MIB, files=3)
    for sequence in range(60):  # each line 100 KB
        writer.add([Reject(Reason.BAD_SEQUENCE, b"x" * 100_000, sequence)], "peer")
    writer.close(PATIENCE)
    names = ["rejects.jsonl.2", "rejects.jsonl.1", "rejects.jsonl"]
    assert sorted(os.listdir(tmp_path)) == sorted(names)
    assert all((tmp_path / name).stat().st_size <= MIB for name in names)
    kept = [row["sequence"] for name in names for row in rows(tmp_path / name)]
    assert kept == list(range(kept[0], 60))
    assert len(kept) > 20
    assert (writer.written, writer.dropped) == (60, 0)


# Rejects that cannot be written.


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path / "no" / "such" / "folder", "No such file or directory"),
        (lambda path: path, "Is a directory"),
        (new_pipe, "No such device or address"),
    ],
    ids=["no folder", "a folder", "a pipe that nobody reads"],
)
def test_a_file_that_cannot_be_opened_is_one_clear_error(
    tmp_path: Path, make: Callable[[Path], Path], reason: str
) -> None:
    path = make(tmp_path)
    with pytest.raises(RejectFileError) as caught:
        open_writer(path)
    assert str(caught.value) == f"cannot open {path}: {reason}; choose another with --rejects"


def test_a_full_queue_drops_counts_and_reports(
    file: Path, stuck: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reject_file, "QUEUE_REJECTS", 10)
    writer = open_writer(file)
    with capture_logs([RateLimit(clock=lambda: 1000.0)]) as entries:
        for sequence in range(4):
            writer.add([Reject(Reason.STALE, b"", 3 * sequence + n) for n in range(3)], "peer")
            assert stuck.entered.wait(PATIENCE)
        writer.add([Reject(Reason.STALE, b"", 12)], "peer")
    assert writer.dropped == 3
    assert [(entry["event"], entry["dropped"]) for entry in entries] == [("rejects_dropped", 2)]
    stuck.released.set()
    writer.close(PATIENCE)
    assert [(row["reason"], row["sequence"], row["count"]) for row in rows(file)] == [
        *(("stale", sequence, 1) for sequence in range(3)),
        ("not_recorded", None, 3),
        *(("stale", sequence, 1) for sequence in range(3, 10)),
    ]
    assert (writer.written, writer.dropped) == (10, 3)


def test_the_queue_is_bounded_in_bytes_too(
    file: Path, stuck: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reject_file, "QUEUE_BYTES", 1000)
    writer = open_writer(file)
    for _ in range(3):
        writer.add([Reject(Reason.BAD_SEQUENCE, b"x" * 600)], "peer")
    assert writer.dropped == 1
    stuck.released.set()
    writer.close(PATIENCE)
    writer = open_writer(file)  # written rejects leave the queue, so there is room again
    for count in range(10):
        writer.add([Reject(Reason.BAD_SEQUENCE, b"x" * 999)], "peer")
        settle(writer, count + 1)
    writer.close(PATIENCE)
    assert writer.dropped == 0


def test_a_full_disk_loses_no_more_than_necessary(file: Path) -> None:
    writer = open_writer(file)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    with capture_logs([RateLimit(clock=lambda: 1000.0)]) as entries:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, limit[1]))
            for sequence in range(5):
                writer.add([Reject(Reason.BAD_SEQUENCE, b"x" * 100_000, sequence)], "peer")
                settle(writer, sequence + 1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        writer.add([Reject(Reason.BAD_SEQUENCE, b"", 5)], "peer")
        writer.close(PATIENCE)
    assert [(row["reason"], row["sequence"], row["count"]) for row in rows(file)] == [
        ("bad_sequence", 0, 1),
        ("not_recorded", None, 4),
        ("bad_sequence", 5, 1),
    ]
    assert (writer.written, writer.dropped) == (2, 4)
    assert [entry["event"] for entry in entries] == ["rejects_not_written"]
    assert entries[0]["error"] == "File too large"


def test_the_last_drops_are_reported_at_the_end(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = RotatedFile.append
    failures = [OSError(28, "No space left on device")]

    def fail_once(rejects: RotatedFile, block: bytes) -> None:
        if failures:
            raise failures.pop()
        append(rejects, block)

    monkeypatch.setattr(RotatedFile, "append", fail_once)
    assert [(row["reason"], row["count"]) for row in record(file, Reject(Reason.STALE))] == [
        ("not_recorded", 1)
    ]


def test_a_device_that_is_always_full_costs_only_its_lines() -> None:
    writer = open_writer(Path("/dev/full"))
    with capture_logs() as entries:
        writer.add([Reject(Reason.STALE, b"")] * 10, "peer")
        writer.close(PATIENCE)
    assert (writer.written, writer.dropped) == (0, 10)
    assert entries[0]["error"] == "No space left on device"
    assert Path("/dev/full").is_char_device()


def test_a_pipe_that_is_full_costs_only_its_lines(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    writer = open_writer(tmp_path / "pipe")
    with capture_logs() as entries:
        writer.add([Reject(Reason.BAD_SEQUENCE, b"x" * 100_000)], "peer")
        writer.close(PATIENCE)
    os.close(reader)
    assert writer.dropped == 1
    assert entries[0]["error"] == "Resource temporarily unavailable"


def test_a_folder_that_is_gone_when_the_file_is_renamed_costs_only_lines(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    writer = open_writer(folder / "rejects.jsonl", size=MIB)
    with capture_logs() as entries:
        for sequence in range(20):
            writer.add([Reject(Reason.BAD_SEQUENCE, b"x" * 100_000, sequence)], "peer")
            settle(writer, sequence + 1)
            if not sequence:
                (folder / "rejects.jsonl").unlink()
                folder.rmdir()
        writer.close(PATIENCE)
    assert writer.written + writer.dropped == 20
    assert writer.dropped >= 9
    assert entries[0]["error"] == "No such file or directory"


def test_close_waits_no_longer_than_its_timeout(file: Path, stuck: Stuck) -> None:
    writer = open_writer(file)
    writer.add([Reject(Reason.STALE, b"")] * 3, "peer")
    assert stuck.entered.wait(PATIENCE)
    with capture_logs() as entries:
        writer.close(0.01)
    assert [(entry["event"], entry["lost"]) for entry in entries] == [("rejects_not_written", 3)]
