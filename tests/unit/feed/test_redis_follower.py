"""What is known of a journal in Redis that is followed."""

from __future__ import annotations

from typing import Any

import pytest

from maze.core import Position
from maze.feed import redis_follower
from maze.feed.redis_follower import RedisFollower
from maze.journal.journal import Batch


class Reader:
    """A reader that is told what it reads, and where the journal ends."""

    end = Position(1, 9)
    found: list[Batch]

    def position(self) -> Position:
        return self.end

    def wait(self, *_: object) -> list[Batch]:
        return self.found

    read = wait


def receive(follower: Any, reader: Reader, first: int, end: int) -> tuple[Position, bool]:
    """Read one batch, or none; return the position that is known, and whether it is new."""
    reader.found = [Batch(1, first, end, b"")] if first < end else []
    follower.request(Position(1, first), 100)
    follower.receive()
    return follower.state.position, follower.tells_position


def test_more_may_follow_what_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, now = Reader(), 1_000.0
    monkeypatch.setattr(redis_follower, "monotonic", lambda: now)
    follower = RedisFollower(reader)  # type: ignore[arg-type]
    assert receive(follower, reader, 1, 3) == (Position(1, 9), True)
    reader.end = Position(1, 20)
    assert receive(follower, reader, 3, 5) == (Position(1, 9), False)
    assert receive(follower, reader, 5, 12) == (Position(1, 12), False)
    now += redis_follower.POSITION_SECONDS
    assert receive(follower, reader, 12, 15) == (Position(1, 20), True)


def test_nothing_to_read_tells_where_the_journal_ends() -> None:
    reader = Reader()
    follower = RedisFollower(reader)  # type: ignore[arg-type]
    assert receive(follower, reader, 5, 5) == (Position(1, 5), True)
