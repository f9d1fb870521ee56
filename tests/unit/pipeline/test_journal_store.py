"""A lease is left to its holder for as long again after Redis was away."""

from __future__ import annotations

from typing import Any

import pytest

from maze.journal.journal import UnavailableError
from maze.pipeline.journal_store import Lease

SECONDS = 3.0


class Journal:
    """A journal whose lease has ended, and another process held it."""

    def __init__(self, seconds: int) -> None:
        self.run = ("first", seconds)
        self.is_away = False

    def server_run(self) -> tuple[str, int]:
        if self.is_away:
            raise UnavailableError("away")
        return self.run

    def try_lease(self, owner: str, seconds: float, *, takes_ended: bool) -> int | None:
        return 7 if takes_ended else None


class Clock:
    """A clock that is set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def lease_of(journal: Journal) -> tuple[Lease, Clock]:
    clock = Clock()
    stand_in: Any = journal
    return Lease(stand_in, SECONDS, clock), clock


def test_a_lease_that_has_ended_is_taken_if_redis_was_always_there() -> None:
    lease, _ = lease_of(Journal(seconds=100))
    assert lease.take() == 7


def test_a_server_that_has_just_started_may_have_been_away() -> None:
    lease, clock = lease_of(Journal(seconds=1))
    assert lease.take() is None
    assert lease.is_awaited
    clock.now += SECONDS - 1.5
    assert lease.take() is None
    clock.now += 0.5
    assert lease.take() == 7


def test_another_run_of_the_server_gives_the_holder_time() -> None:
    journal = Journal(seconds=100)
    lease, clock = lease_of(journal)
    journal.run = ("first", 100)
    lease.take()
    journal.run = ("second", 100)  # a replica that took over, say
    assert lease.take() is None
    clock.now += SECONDS
    assert lease.take() == 7


def test_a_server_that_was_away_gives_the_holder_time() -> None:
    journal = Journal(seconds=100)
    lease, clock = lease_of(journal)
    lease.take()
    journal.is_away = True
    with pytest.raises(UnavailableError):
        lease.take()
    clock.now += 10 * SECONDS
    journal.is_away = False
    assert lease.take() is None
    clock.now += SECONDS
    assert lease.take() == 7
