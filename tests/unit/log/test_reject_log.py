"""Counting, logging and recording of rejects."""

import json
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from maze.core import Reason, Reject
from maze.log.processors import RateLimit
from maze.log.reject_file import RejectFileWriter
from maze.log.reject_log import DEBUG_REASONS, NAMES, RejectLog


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason is not Reason.SKIPPED])
def test_a_line_is_counted_by_its_reason_and_logged_with_its_source(reason: Reason) -> None:
    rejects = RejectLog()
    with capture_logs() as entries:
        rejects.record([Reject(reason, b"5|X\r\n", 5)], "192.0.2.1:7")
    assert rejects.counts == {reason: 1}
    assert entries == [
        {
            "event": NAMES.get(reason, "line_rejected"),
            "log_level": "debug" if reason in DEBUG_REASONS else "warning",
            "reason": reason.value,
            "source": "192.0.2.1:7",
            "line": r"5|X\r\n",
            "suppressed": 0,
        }
    ]


def test_a_skipped_range_counts_each_number_and_is_logged_as_a_range() -> None:
    rejects = RejectLog()
    with capture_logs() as entries:
        rejects.record([Reject(Reason.SKIPPED, sequence=5, count=3)], "peer")
    assert rejects.counts == {Reason.SKIPPED: 3}
    assert entries == [
        {
            "event": "numbers_skipped",
            "log_level": "warning",
            "reason": "skipped",
            "source": "peer",
            "first": 5,
            "last": 7,
            "numbers": 3,
            "suppressed": 0,
        }
    ]


def test_ranges_skipped_together_are_logged_in_one_line() -> None:
    rejects = RejectLog()
    ranges = [(5, 3), (9, 1), (20, 2)]
    with capture_logs() as entries:
        rejects.record([Reject(Reason.SKIPPED, sequence=n, count=c) for n, c in ranges], "peer")
    assert rejects.counts == {Reason.SKIPPED: 6}
    (line,) = entries
    shown = {name: line[name] for name in ("first", "last", "numbers", "suppressed")}
    assert shown == {"first": 5, "last": 21, "numbers": 6, "suppressed": 0}


def test_repetitions_are_expected_and_logged_at_debug() -> None:
    assert {Reason.DUPLICATE, Reason.STALE} == DEBUG_REASONS


def test_the_line_is_escaped_and_shortened() -> None:
    with capture_logs() as entries:
        RejectLog().record([Reject(Reason.BAD_SEQUENCE, b"\x1b\n" + b"x" * 5000)], "peer")
    assert entries[0]["line"] == r"\x1b\n" + "x" * 78 + "... (5002 bytes)"


def test_every_reject_is_counted_and_one_a_second_is_logged() -> None:
    now = 1000.0
    rejects = RejectLog()
    with capture_logs([RateLimit(clock=lambda: now)]) as entries:
        rejects.record([Reject(Reason.BAD_TYPE, b"1|X\n", 1)] * 10, "peer")
        rejects.record([Reject(Reason.BAD_TYPE, b"1|X\n", 1)] * 3, "peer")
        now += 1
        rejects.record([Reject(Reason.BAD_TYPE, b"2|X\n", 2)] * 2, "peer")
    assert rejects.counts == {Reason.BAD_TYPE: 15}
    assert [(entry["line"], entry.get("suppressed")) for entry in entries] == [
        (r"1|X\n", 9),
        (r"2|X\n", 4),
    ]


def test_each_reason_is_logged() -> None:
    with capture_logs() as entries:
        RejectLog().record([Reject(reason, sequence=1) for reason in Reason], "peer")
    assert [entry["reason"] for entry in entries] == [reason.value for reason in Reason]


def test_without_rejects_nothing_is_logged() -> None:
    rejects = RejectLog()
    with capture_logs() as entries:
        rejects.record([], "peer")
    assert (rejects.counts, entries) == ({}, [])


def test_rejects_are_recorded_whole_if_there_is_a_file(tmp_path: Path) -> None:
    rejects = RejectLog()
    rejects.file = RejectFileWriter(str(tmp_path / "rejects.jsonl"), 1 << 20, 2)
    batch = [Reject(reason, bytes([number]) * 200, number) for number, reason in enumerate(Reason)]
    with capture_logs():
        rejects.record(batch * 2, "192.0.2.1:7")
        rejects.record([], "nobody")
        rejects.file.close(10)
    rows = [json.loads(line) for line in (tmp_path / "rejects.jsonl").read_text().splitlines()]
    assert [row["reason"] for row in rows] == [reject.reason for reject in batch * 2]
    assert [row["line"].encode("latin-1") for row in rows] == [reject.line for reject in batch * 2]
    assert {row["source"] for row in rows} == {"192.0.2.1:7"}


def test_alternating_reasons_are_counted_separately() -> None:
    rejects = RejectLog()
    batch = [Reject(Reason.BAD_TYPE), Reject(Reason.STALE)] * 5
    with capture_logs() as entries:
        rejects.record(batch, "peer")
    assert rejects.counts == {Reason.BAD_TYPE: 5, Reason.STALE: 5}
    assert len(entries) == 2
