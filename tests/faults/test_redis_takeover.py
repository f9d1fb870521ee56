"""Redis goes away while a process that has the lease reads the journal."""

from __future__ import annotations

from collections.abc import Iterator

import gevent
import pytest
from redis_server import RedisServer, running
from structlog.testing import capture_logs

from maze.core import FollowGraph, Position, Recent
from maze.errors import JournalUnusableError
from maze.journal.journal import (
    AheadError,
    Batch,
    Bounds,
    JournalError,
    OtherEpochError,
    TrimmedError,
    UnavailableError,
)
from maze.journal.redis import RedisJournal
from maze.journal.sqlite import SQLiteJournal
from maze.pipeline.journaling import Journaling
from maze.settings.options import Settings

START = Position(1000, 1)

passing_errors = pytest.mark.parametrize(
    "error", [UnavailableError, TrimmedError, AheadError, OtherEpochError]
)
"""Errors that Redis was away, or has another journal than a moment ago."""


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with running() as server:
        yield server


def journaling_of(journal: str) -> Journaling:
    settings = Settings(journal=journal, lease=0.5)
    return Journaling(settings, on_commit=lambda: None, fail=lambda *_, **__: None)


def recover(journaling: Journaling, graph: FollowGraph | None = None) -> Position:
    graph = graph or FollowGraph(100, 100, 100)
    return journaling.recover(graph, Recent(10, 1000), lambda position: None)


@passing_errors
def test_a_takeover_goes_on_once_redis_is_back(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch, error: type[JournalError]
) -> None:
    writer = RedisJournal(redis.address, START)
    fence = writer.lease()
    for number in range(1, 4):
        line = b"%d|F|%d|9\n" % (number, number)
        bounds = Bounds(100, 100, 100) if number == 1 else None
        writer.append([Batch(1000, number, number + 1, line, bounds)], fence)
    reads, read = 0, RedisJournal.read

    def interrupted(self: RedisJournal, after: Position, _: int) -> list[Batch]:
        nonlocal reads
        reads += 1
        if reads in (2, 3):
            raise error("away")
        return read(self, after, 1)

    monkeypatch.setattr(RedisJournal, "read", interrupted)
    graph = FollowGraph(100, 100, 100)
    writer.release_lease(fence)
    journaling = journaling_of(f"unix://{redis.path}")
    with capture_logs() as logs:
        assert recover(journaling, graph) == Position(1000, 4)
    journaling.close(1.0)
    assert graph.follows == 3
    names = [line["event"] for line in logs]
    assert names.count("journal_unavailable") == names.count("journal_available") == 1


@passing_errors
def test_a_takeover_ends_if_another_process_has_the_lease_meanwhile(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch, error: type[JournalError]
) -> None:
    other = RedisJournal(redis.address, START)

    def away(*_: object) -> list[Batch]:
        other.lease()
        raise error("away")

    journaling = journaling_of(f"unix://{redis.path}")
    monkeypatch.setattr(RedisJournal, "read", away)
    with capture_logs() as logs, gevent.Timeout(30), pytest.raises(JournalUnusableError) as caught:
        recover(journaling)
    journaling.close(1.0)
    assert caught.value.status == 3
    assert [line["event"] for line in logs][-1] == "journal_fenced"


def test_a_file_that_cannot_be_read_prevents_the_start(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    journaling = journaling_of(f"{tmp_path}/journal")

    def away(*_: object) -> list[Batch]:
        raise UnavailableError("away")

    monkeypatch.setattr(SQLiteJournal, "read", away)
    with pytest.raises(JournalUnusableError, match="away"):
        recover(journaling)
    journaling.close(1.0)
