"""The reject file is complete and bounded, and never delays an event."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from end_to_end.peers import Client, broadcasts, joined
from end_to_end.running import Child

from maze.log.reject_file import BLOCK_REJECTS

JUNK = 20_000


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]


def serve(path: Path, *arguments: str, fault: str | None = None) -> Child:
    program = ("-m", "tests.faults.broken", fault) if fault else ("-m", "maze.serve")
    return Child("--log-level", "debug", "--rejects", str(path), *arguments, program=program)


def send_mixed(child: Child, junk: bytes) -> tuple[Client, bytes]:
    """Send junk among valid events; all valid events must be delivered."""
    (client,) = child.clients([1])
    lines = broadcasts(1, 1_001)
    source = child.source()
    source.send(joined([*lines[:500], junk, *lines[500:]]))
    client.expect(joined(lines))
    return client, joined(lines)


def stop(child: Child) -> None:
    child.signal(signal.SIGTERM)
    assert child.status() == 0


def test_every_reject_is_in_the_file_when_the_process_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "rejects.jsonl"
    with serve(path).ready() as child:
        (client,) = child.clients([1])
        source = child.source()
        source.send(b"1|B\n")
        client.expect(b"1|B\n")
        source.send(b"3|B\n3|B\n3|B\r\n\xff|B\n5|X\n6|F|1\n7|S|\n8|B\n1|B\n10|B\n1")
        source.close()
        child.await_logged("source_disconnected")
        stop(child)
        (logged,) = child.logged("source_disconnected")
    written = rows(path)
    assert [(row["reason"], row["sequence"], row["line"].encode("latin-1")) for row in written] == [
        ("bad_sequence", None, b"\xff|B\n"),
        ("bad_type", 5, b"5|X\n"),
        ("bad_fields", 6, b"6|F|1\n"),
        ("bad_user", 7, b"7|S|\n"),
        ("stale", 1, b"1|B\n"),
        ("duplicate", 3, b"3|B\n"),
        ("conflict", 3, b"3|B\r\n"),
        ("half_line", None, b"1"),
        ("skipped", 2, b""),
        ("skipped", 4, b""),
        ("skipped", 9, b""),
    ]
    assert {row["source"] for row in written} == {logged["source"]}
    counts = Counter(row["reason"] for row in written)
    assert counts == {reason: logged[reason] for reason in counts}


def test_flood_of_junk_is_in_the_file_or_reported_there_as_missing(tmp_path: Path) -> None:
    path = tmp_path / "rejects.jsonl"
    with serve(path).ready() as child:
        send_mixed(child, b"junk\n" * 500_000)
        child.signal(signal.SIGUSR2)
        child.await_logged("dump_counters")
        assert child.logged("dump_counters")[0]["rejects_bad_sequence"] == 500_000
        stop(child)
    assert sum(row["count"] for row in rows(path)) == 500_000
    assert {row["reason"] for row in rows(path)} <= {"bad_sequence", "not_recorded"}
    assert Counter(row["reason"] for row in rows(path))["bad_sequence"] >= 100_000


def test_full_files_are_renamed_and_old_files_are_deleted(tmp_path: Path) -> None:
    path = tmp_path / "rejects.jsonl"
    arguments = ("--rejects-size", "1MiB", "--rejects-files", "2")
    with serve(path, *arguments).ready() as child:
        for first in range(1, 100_000, JUNK):
            source = child.source()
            source.send(joined(b"%d|X\n" % number for number in range(first, first + JUNK)))
            source.close()
            child.await_logged("source_disconnected", 1 + first // JUNK)
        stop(child)
    assert sorted(os.listdir(tmp_path)) == [path.name, f"{path.name}.1"]
    older, newer = rows(tmp_path / f"{path.name}.1"), rows(path)
    assert all(file.stat().st_size <= 1 << 20 for file in tmp_path.iterdir())
    assert {row["reason"] for row in older} == {"bad_type"}
    assert max(row["sequence"] for row in newer) == 100_000


@pytest.mark.parametrize("case", ["a file beyond its limit", "/dev/full", "a pipe nobody reads"])
def test_file_that_cannot_be_written_costs_no_event(tmp_path: Path, case: str) -> None:
    path = Path("/dev/full") if case == "/dev/full" else tmp_path / "rejects.jsonl"
    reader = None
    if case == "a pipe nobody reads":
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with serve(path, fault="small_files").ready() as child:
        send_mixed(child, b"junk\n" * JUNK)
        child.await_logged("rejects_not_written")
        child.signal(signal.SIGUSR2)
        child.await_logged("dump_counters")
        counters = child.logged("dump_counters")[0]
        stop(child)
        lines = child.logged("rejects_not_written")
        assert len(lines) < JUNK // BLOCK_REJECTS  # one per second, not one per block
        assert {(line["path"], line["level"]) for line in lines} == {(str(path), "warning")}
    assert counters["rejects_bad_sequence"] == JUNK
    assert counters["rejects_dropped"] > 0
    assert counters["rejects_dropped"] + counters["rejects_written"] <= JUNK
    if case == "a file beyond its limit":
        assert len(rows(path)) >= counters["rejects_written"] > 0
    if reader is not None:
        os.close(reader)


@pytest.mark.parametrize("path", ["/no/such/folder/rejects.jsonl", "/"])
def test_file_that_cannot_be_opened_is_one_clear_line_and_status_1(path: str) -> None:
    with Child("--rejects", path) as child:
        assert child.status() == 1
        (line,) = child.stderr().splitlines()
        assert line.startswith(f"maze: cannot open {path}: ")
        assert "--rejects" in line


def test_a_file_that_is_being_written_does_not_outlast_the_drain(tmp_path: Path) -> None:
    path = tmp_path / "rejects.jsonl"
    with serve(path).ready() as child:
        source = child.source()
        source.send(b"junk\n" * JUNK)
        child.await_logged("line_rejected")
        stop(child)
        assert child.logged("stopped")
    kept = [row for row in rows(path) if row["reason"] != "not_recorded"]
    assert 0 < len(kept) <= JUNK
