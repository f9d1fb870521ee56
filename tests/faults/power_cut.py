"""A server whose restarts are preceded by a power cut: what was not synced is lost.

    python -m tests.faults.power_cut FAULT SEED OPTIONS...

FAULT is one of ``tests.faults.broken``.

After each transaction of the journal, everything written so far is synced (``--journal-sync full``)
and is copied aside. After a kill, the next start first puts the copies back. What was written since
may have reached the disk in part, in any order: the seed decides which sectors did.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from maze import serve
from maze.journal import sqlite
from maze.journal.sqlite import SQLiteJournal
from maze.settings.parser import read_settings

from .broken import FAULTS

SECTOR = 512
"""Bytes that a disk writes entirely or not at all."""

LOG_HEADER = 32
"""Size of the write-ahead log's header. When the log begins anew, it is synced before the rest."""

MAX_GARBAGE = 100_000


def database(folder: Path) -> Path:
    return folder / "database"


def log(folder: Path) -> Path:
    return folder / "log"


class Synced:
    """The copies of a journal's files as they were last synced."""

    def __init__(self, path: str) -> None:
        self._files = (Path(path), Path(f"{path}-wal"))
        self._folder = Path(f"{path}.synced")
        self._folder.mkdir(exist_ok=True)
        self._copied: tuple[int, int] | None = None
        """Size and time of the database that was copied last."""

    def newest(self) -> Path | None:
        """The folder of the newest whole copies."""
        return max(self._folder.glob("[0-9]*"), default=None)

    def keep(self) -> None:
        """Copy both files; a kill in the middle leaves the copies before."""
        before = self.newest()
        copies = self._folder / "unfinished"
        shutil.rmtree(copies, ignore_errors=True)
        copies.mkdir()
        status = self._files[0].stat()
        state = (status.st_size, status.st_mtime_ns)
        if before and state == self._copied:
            os.link(database(before), database(copies))
        else:
            shutil.copyfile(self._files[0], database(copies))
        shutil.copyfile(self._files[1], log(copies))
        self._copied = state
        copies.rename(self._folder / f"{int(before.name) + 1 if before else 0:09}")
        if before:
            shutil.rmtree(before)

    def cut_power(self, seed: str) -> None:
        """Leave in the files what a power cut may leave of them."""
        synced = self.newest()
        if synced is None:
            return
        chooser = Random(f"{seed} {synced.name}")
        written = [file.read_bytes() for file in self._files]
        safe = [database(synced).read_bytes(), log(synced).read_bytes()]
        left = power_cut(safe, written, chooser)
        for file, data in zip(self._files, left, strict=True):
            file.write_bytes(data)
        Path(f"{self._files[0]}-shm").unlink(missing_ok=True)
        tell(
            "power_cut",
            transactions=int(synced.name),
            unsynced_sectors=[*map(changed_sectors, safe, written)],
            kept_sectors=[*map(changed_sectors, safe, left)],
        )


def power_cut(safe: list[bytes], written: list[bytes], chooser: Random) -> list[bytes]:
    """Return what is left of the database and its log."""
    if written[0] != safe[0]:
        # A checkpoint was under way. It begins after the log is synced.
        return [mixed(safe[0], written[0], chooser), written[1]]
    log_safe, log_written = safe[1], written[1]
    if log_safe[:LOG_HEADER] != log_written[:LOG_HEADER]:
        if chooser.random() < 0.3:
            return safe
        log_safe = log_written[:LOG_HEADER] + log_safe[LOG_HEADER:]
    left = mixed(log_safe, log_written, chooser)
    if chooser.random() < 0.5:
        left += chooser.randbytes(chooser.randrange(MAX_GARBAGE))
    return [safe[0], left]


def mixed(safe: bytes, written: bytes, chooser: Random) -> bytes:
    """Return a file of which some sectors reached the disk, and others did not."""
    share = chooser.choice([0.0, 1.0, chooser.random()])
    left = bytearray(safe)
    for at in range(0, len(written), SECTOR):
        sector = written[at : at + SECTOR]
        if sector != safe[at : at + SECTOR] and chooser.random() < share:
            left.extend(bytes(max(0, at - len(left))))
            left[at : at + len(sector)] = sector
    return bytes(left)


def changed_sectors(before: bytes, after: bytes) -> int:
    end = max(len(before), len(after))
    return sum(before[at : at + SECTOR] != after[at : at + SECTOR] for at in range(0, end, SECTOR))


def tell(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, "level": "info", **fields}), file=sys.stderr, flush=True)


def main(fault: str, seed: str, arguments: list[str]) -> int:
    path = read_settings(arguments).journal
    assert path is not None
    synced = Synced(path)
    synced.cut_power(seed)
    transaction = SQLiteJournal._transaction

    @contextmanager
    def kept_transaction(journal: SQLiteJournal) -> Iterator[None]:
        with transaction(journal):
            yield
        synced.keep()

    vars(sqlite)["SQLiteJournal"]._transaction = kept_transaction
    FAULTS[fault]()
    return serve.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
