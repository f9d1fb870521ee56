"""A lease is taken once it is free, and renewed until it is lost."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event
from gevent.queue import Queue
from structlog.testing import capture_logs

from maze.journal.journal import (
    FencedError,
    JournalError,
    JournalServerError,
    UnavailableError,
)
from maze.pipeline.lease_keeper import LeaseKeeper

PATIENCE = 30.0


class Lease:
    """A lease; each attempt and each renewal has the outcome that is next."""

    seconds = 0.003
    is_awaited = False

    def __init__(
        self,
        attempts: list[int | Exception | None],
        renewals: list[Exception | None] | None = None,
    ) -> None:
        self._attempts = attempts
        self._renewals = renewals or []

    def take(self) -> int | None:
        outcome = self._attempts.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        self.is_awaited = outcome is None
        return outcome

    def renew(self, fence: int) -> None:
        assert fence == 7
        if self._renewals and (error := self._renewals.pop(0)):
            raise error


class Kept:
    """The keeper of a lease, and what it has told."""

    def __init__(self, lease: Lease) -> None:
        stand_in: Any = lease
        self.watched = 0
        self.renewals: Queue[None] = Queue()
        self.lost: list[JournalError] = []
        self.is_lost = Event()
        self.waits = 0
        self.keeper = LeaseKeeper(
            stand_in,
            watch=self._watch,
            on_renewal=lambda: self.renewals.put(None),
            on_lost=self._lose,
        )

    def _watch(self) -> None:
        self.watched += 1

    def _lose(self, error: JournalError) -> None:
        self.lost.append(error)
        self.is_lost.set()

    def _wait(self) -> None:
        self.waits += 1

    def take(self) -> int:
        with gevent.Timeout(PATIENCE):
            return self.keeper.take(self._wait)

    def await_renewals(self, count: int) -> None:
        for _ in range(count):
            self.renewals.get(timeout=PATIENCE)


def test_a_free_lease_is_taken_at_once_and_renewed() -> None:
    kept = Kept(Lease([7]))
    assert kept.take() == 7
    kept.await_renewals(3)
    kept.keeper.close()
    kept.keeper.check()
    assert (kept.waits, kept.lost) == (0, [])
    assert kept.watched >= 3


def test_each_reason_to_wait_is_told_once() -> None:
    away = UnavailableError("away")
    kept = Kept(Lease([None, None, away, away, None, 7]))
    with capture_logs() as entries:
        assert kept.take() == 7
    kept.keeper.close()
    held = "another process writes the journal"
    assert [(entry["event"], entry["because"]) for entry in entries] == [
        ("lease_waits", held),
        ("lease_waits", "away"),
        ("lease_waits", held),
    ]
    assert kept.waits == 3


def test_a_server_that_finds_redis_away_does_not_wait() -> None:
    with pytest.raises(UnavailableError):
        Kept(Lease([UnavailableError("away")])).take()


def test_renewals_go_on_while_redis_is_away() -> None:
    kept = Kept(Lease([7], [None, UnavailableError("away"), UnavailableError("away"), None]))
    kept.take()
    kept.await_renewals(4)
    kept.keeper.close()
    kept.keeper.check()
    assert kept.lost == []


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FencedError(), FencedError),
        (ZeroDivisionError("nobody expects it"), JournalServerError),
    ],
)
def test_an_error_that_ends_the_renewals_is_told(
    error: Exception, told: type[JournalError]
) -> None:
    kept = Kept(Lease([7], [None, error]))
    kept.take()
    assert kept.is_lost.wait(PATIENCE)
    (lost,) = kept.lost
    assert type(lost) is told
    assert str(error) in str(lost)
    with pytest.raises(told):
        kept.keeper.check()
    assert kept.renewals.qsize() == 1


def test_nothing_is_renewed_after_the_end() -> None:
    kept = Kept(Lease([7]))
    kept.take()
    kept.await_renewals(1)
    kept.keeper.close()
    renewing = kept.keeper._renewing
    assert renewing is not None
    renewing.join(PATIENCE)
    assert renewing.dead
