"""The journal in Redis against a list of batches; see ``JournalMachine``."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import count

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test
from redis_server import RedisServer, running

from maze.core import Position
from maze.journal.journal import AheadError, Batch, Bounds, Journal
from maze.journal.redis import RedisJournal

from .journal_machine import SETTINGS, JournalMachine


class RedisMachine(JournalMachine):
    may_read_less = True

    def __init__(self, server: RedisServer) -> None:
        super().__init__()
        self.server = server

    def open(self, start: Position) -> Journal:
        self.server.command("FLUSHALL")
        self.seconds = count()
        return self.open_again_at(start)

    def open_again_at(self, start: Position) -> RedisJournal:
        """Open the journal; its clock goes on by a second whenever it is asked."""
        return RedisJournal(self.server.address, start, clock=lambda: next(self.seconds))

    def trimmed(self, before: Position) -> Position:
        """Batches that were appended together are removed together."""
        kept_from = self.journal.kept_from()
        assert self.kept_from <= kept_from <= max(before, self.kept_from)
        assert kept_from in [self.kept_from, *(batch.position for batch in self.batches)]
        return kept_from  # type: ignore[no-any-return]

    def _expected(self, after: Position, max_bytes: int) -> list[Batch] | type[Exception]:
        """Batches that were appended together are read together."""
        return super()._expected(after, 2**63)

    @rule()
    def open_again(self) -> None:
        """Where a journal begins is its own, and an unfinished snapshot may be continued."""
        self.journal.close()
        self.journal = self.open_again_at(Position(99, 99))

    @rule()
    def forget_scripts(self) -> None:
        self.server.command("SCRIPT", "FLUSH")

    @rule(after=st.integers(0, 3))
    def wait(self, after: int) -> None:
        """What is there already is not waited for."""
        following = self.batches[len(self.batches) - after :] if after <= len(self.batches) else []
        if following:
            ends = [self.kept_from, *(batch.position for batch in self.batches)]
            found = self.journal.wait(ends[-1 - len(following)], 30.0)
            assert found
            assert found == following[: len(found)]
        with pytest.raises(AheadError):
            self.journal.wait(self.position._replace(next=self.position.next + 1), 0.001)

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.check_chunks()
            self.journal.close()

    def check_chunks(self) -> None:
        """Only the chunks of two snapshots are kept."""
        self.journal.put_snapshot(self.position, Bounds(1, 1, 1), [b"last"], self.fence)
        keys = self.server.command("KEYS", "{maze}:snapshot:*").split(b"\r\n")[2::2]
        kept = [snapshot for snapshot in self.snapshots[:1] if snapshot.chunks]
        assert len(keys) == len(kept) + 1


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with running() as started:
        yield started


def test_redis(server: RedisServer) -> None:
    run_state_machine_as_test(partial(RedisMachine, server), settings=SETTINGS)  # type: ignore[arg-type]
