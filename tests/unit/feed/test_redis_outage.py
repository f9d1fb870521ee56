"""An edge's reader of a journal in Redis: when Redis counts as lost."""

from __future__ import annotations

from typing import Any

import pytest

from maze.core import Position
from maze.feed import redis_follower
from maze.feed.redis_follower import RedisFollower
from maze.journal.journal import AheadError, Batch, OtherEpochError, UnavailableError

START = Position(1, 1)


class FakeReader:
    """A journal of which one batch is read at a time."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def position(self) -> Position:
        if isinstance(self.error, UnavailableError):
            raise self.error
        return Position(1, 9)

    def wait(self, after: Position, *_: Any) -> list[Batch]:
        return self.read(after)

    def read(self, after: Position, *_: Any) -> list[Batch]:
        if self.error:
            raise self.error
        return [Batch(1, after.next, after.next + 1, b"%d|B\n" % after.next)]

    def close(self) -> None:
        pass


@pytest.fixture
def reader() -> FakeReader:
    return FakeReader()


@pytest.fixture
def follower(reader: FakeReader) -> Any:
    follower = RedisFollower(reader)  # type: ignore[arg-type]
    yield follower
    follower.close()


def test_a_request_fails_as_long_as_redis_cannot_be_reached(
    reader: FakeReader, follower: RedisFollower
) -> None:
    """An edge takes the feed for back as soon as a request succeeds."""
    reader.error = UnavailableError("away")
    for _ in range(2):
        with pytest.raises(UnavailableError):
            follower.request(START, 100)
    reader.error = None
    follower.request(START, 100)
    assert len(follower.receive()) == 1
    follower.request(START, 100)
    reader.error = UnavailableError("away")
    with pytest.raises(UnavailableError):
        follower.receive()
    with pytest.raises(UnavailableError):
        follower.request(START, 100)


def test_what_redis_has_lost_is_unavailable_at_first(
    reader: FakeReader, follower: RedisFollower, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader.error = AheadError("1-1 is ahead")
    with pytest.raises(UnavailableError, match="1-1 is ahead; the ingest should append it again"):
        follower.request(START, 100)
    monkeypatch.setattr(redis_follower, "LOST_SECONDS", 0.0)
    with pytest.raises(AheadError):
        follower.request(START, 100)


class Clock:
    """The time that the follower sees."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(redis_follower, "monotonic", clock)
    return clock


def test_another_outage_begins_the_patience_anew(
    reader: FakeReader, follower: RedisFollower, clock: Clock
) -> None:
    """The ingest cannot append anything again before Redis is back."""
    for error in (AheadError("1-1 is ahead"), UnavailableError("away"), AheadError("1-1 is ahead")):
        reader.error = error
        with pytest.raises(UnavailableError):
            follower.request(START, 100)
        clock.now += 20.0
    with pytest.raises(AheadError):
        follower.request(START, 100)


def test_whoever_reads_besides_has_the_same_patience(
    reader: FakeReader, follower: RedisFollower, clock: Clock
) -> None:
    reader.error = AheadError("1-1 is ahead")
    with pytest.raises(UnavailableError, match="the ingest should append it again"):
        follower.read(START, 100)
    clock.now += 20.0
    with pytest.raises(UnavailableError):  # that one has a patience of its own
        follower.request(START, 100)
    with pytest.raises(AheadError):
        follower.read(START, 100)
    reader.error = None
    assert follower.read(START, 100)
    reader.error = AheadError("1-1 is ahead")
    with pytest.raises(UnavailableError):
        follower.read(START, 100)
    reader.error = OtherEpochError("no batch ends there")
    with pytest.raises(OtherEpochError):  # a client may have made its position up
        follower.read(START, 100)
    with pytest.raises(UnavailableError):  # the begin of the epoch was lost
        follower.read(Position(2, 1), 100)
