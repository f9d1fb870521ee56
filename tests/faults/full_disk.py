"""A process whose disk is full for a while: it commits to a journal and prints what it is told.

The limit on a file's size stands in for the disk: writes beyond it fail. At a limit of 0 the
process ends while the disk is full.

    python -m tests.faults.full_disk JOURNAL LIMIT
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Sequence

from gevent.queue import Queue

from maze.core import Position
from maze.journal import group_commit
from maze.journal.group_commit import GroupCommit
from maze.journal.journal import Batch
from maze.journal.sqlite import SQLiteJournal

PATIENCE = 60.0
START = Position(1, 1)
BODIES = [b"first", b"x" * 1_000_000, b"y" * 1_000_000, b"last"]
ATTEMPTS = 5
"""Appends that fail before there is room again."""


def batch(number: int) -> Batch:
    return Batch(1, number, number + 1, BODIES[number - 1])


class Counting(SQLiteJournal):
    """Counts appends, and makes room after some."""

    attempts = 0
    makes_room = True

    def append(self, batches: Sequence[Batch], fence: int) -> Position:
        self.attempts += 1
        if self.attempts == 1 + ATTEMPTS and self.makes_room:
            limit_files(resource.RLIM_INFINITY)
        return super().append(batches, fence)


def limit_files(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def main(path: str, limit: int) -> None:
    group_commit.MIN_RETRY_SECONDS = group_commit.MAX_RETRY_SECONDS = 0.01
    group_commit.SLOW_SECONDS = PATIENCE
    journal = Counting(path, START)
    journal.makes_room = bool(limit)
    told: Queue[object] = Queue()
    commit = GroupCommit(
        journal,
        journal.lease(),
        on_committed=lambda batches: told.put(batches[-1].end),
        on_trouble=told.put,
        on_lost=lambda error: told.put(repr(error)),
    )

    def next_told() -> object:
        what = told.get(timeout=PATIENCE)
        print(json.dumps(what), flush=True)
        return what

    commit.put(batch(1))
    next_told()
    limit_files(limit)
    commit.put(batch(2))
    next_told()
    if not limit:
        os._exit(0)
    commit.put(batch(3))
    commit.put(batch(4))
    while next_told() != 5:
        pass
    assert commit.close(PATIENCE)
    journal.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
