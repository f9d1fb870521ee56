"""Writes reject files and reads them."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from maze.core import Reject
from maze.log.reject_file import RejectFileWriter
from maze.log.rotated_file import RotatedFile

PATIENCE = 30.0
MIB = 1 << 20


def open_writer(path: Path, size: int = 64 * MIB, files: int = 5) -> RejectFileWriter:
    return RejectFileWriter(str(path), size, files)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]


def record(path: Path, *rejects: Reject, peer: str = "192.0.2.1:7") -> list[dict[str, Any]]:
    writer = open_writer(path)
    writer.add(rejects, peer)
    writer.close(PATIENCE)
    return rows(path)


def settle(writer: RejectFileWriter, count: int) -> None:
    """Wait until ``count`` rejects are written or dropped."""
    deadline = time.monotonic() + PATIENCE
    while writer.written + writer.dropped < count:
        assert time.monotonic() < deadline, "the thread does not write"
        time.sleep(0.001)


class Stuck:
    """Blocks the thread in its first write until ``released`` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.released = threading.Event(), threading.Event()
        append = RotatedFile.append

        def stuck(file: RotatedFile, block: bytes) -> None:
            self.entered.set()
            assert self.released.wait(PATIENCE)
            append(file, block)

        monkeypatch.setattr(RotatedFile, "append", stuck)
