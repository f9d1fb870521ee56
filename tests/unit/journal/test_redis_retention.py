"""What is removed from a journal in Redis."""

from __future__ import annotations

from itertools import count, pairwise

import pytest
from redis_server import RedisServer

from maze.core import Position
from maze.journal.journal import Bounds
from maze.journal.redis import RedisJournal
from maze.journal.redis_entries import ENTRY_BYTES
from maze.journal.retention import Retention

from .files import START, events

OTHER = Bounds(1, 2, 3)


def test_retention_removes_what_is_old_but_nothing_a_start_needs(server: RedisServer) -> None:
    seconds = count()
    journal = RedisJournal(
        server.address, START, retention=Retention(3.0, 10**9), clock=lambda: next(seconds)
    )
    fence = journal.lease()
    for number in range(1, 21):
        journal.append(events(number, number + 1), fence)
    assert journal.statistics().kept_from == START
    journal.put_snapshot(Position(1, 5), OTHER, [b"x"], fence)
    journal.put_snapshot(Position(1, 21), OTHER, [b"x"], fence)
    before = journal.statistics().used_bytes
    journal.append([], fence)
    assert journal.statistics().kept_from == Position(1, 5)
    journal.put_snapshot(Position(1, 21), OTHER, [b"x"], fence)
    journal.append([], fence)
    assert journal.statistics().kept_from == Position(1, 21)
    assert journal.statistics().used_bytes == 2  # the snapshots
    assert before > 20 * ENTRY_BYTES
    assert server.command("XLEN", "{maze}:batches") == b":0\r\n"


def test_retention_keeps_to_a_size_and_removes_a_bounded_part_with_each_append(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maze.journal.redis.MAX_REMOVED_ENTRIES", 3)
    seconds = count()
    journal = RedisJournal(
        server.address, START, retention=Retention(10**9, 500), clock=lambda: next(seconds)
    )
    fence = journal.lease()
    for number in range(1, 21):
        journal.append(events(number, number + 1), fence)
    for _ in range(2):
        journal.put_snapshot(Position(1, 21), OTHER, [], fence)
    kept_from = [journal.statistics().kept_from.next]
    for _ in range(8):
        journal.append([], fence)
        kept_from.append(journal.statistics().kept_from.next)
    assert max(b - a for a, b in pairwise(kept_from)) == 3
    assert kept_from[-1] == kept_from[-2]
    statistics = journal.statistics()
    assert 400 < statistics.used_bytes <= 500
    assert statistics.events == 21 - kept_from[-1]
