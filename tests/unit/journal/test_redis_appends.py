"""Appends to a journal in Redis."""

from __future__ import annotations

import pytest
from redis_server import RedisServer

from maze.core import Position
from maze.journal.journal import (
    Batch,
    Bounds,
    GapError,
    GoneError,
    JournalServerError,
)
from maze.journal.redis import RedisJournal
from maze.journal.redis_reader import RedisReader

from .files import START, events

OTHER = Bounds(1, 2, 3)


@pytest.mark.parametrize(
    "first", [9, 99, 2**31 - 1, 2**53 - 1, 2**53, 2**53 + 1, 10**18 - 1, 2**62, 2**63 - 1]
)
def test_numbers_are_compared_exactly(server: RedisServer, first: int) -> None:
    """A Lua number cannot tell 2**53 from 2**53 + 1, and as a text 9 is more than 10."""
    journal = RedisJournal(server.address, Position(2**53 + 1, first))
    fence = journal.lease()
    position = Position(2**53 + 1, first + 1)
    batch = Batch(2**53 + 1, first, first + 1, b"line")
    for wrong in (first - 1, first + 1):
        with pytest.raises(GapError):
            journal.append([Batch(2**53 + 1, wrong, first + 2, b"")], fence)
    assert journal.append([batch], fence) == position
    assert journal.append([batch], fence) == position
    assert journal.read(Position(2**53 + 1, first)) == [batch]
    reset = Batch(2**53 + 2, 0, 0, b"", OTHER)
    assert journal.append([batch, reset], fence) == (2**53 + 2, 0)
    journal.trim(position, fence)
    assert journal.kept_from() == position
    assert journal.read(position) == [reset]


def test_a_gap_says_where_the_journal_continues(journal: RedisJournal) -> None:
    fence = journal.lease()
    journal.append(events(1, 3), fence)
    with pytest.raises(GapError) as error:
        journal.append(events(5, 6), fence)
    assert error.value.position == Position(1, 3)
    with pytest.raises(GapError):
        journal.append([*events(3, 4), *events(5, 6)], fence)
    assert journal.position() == Position(1, 3)


def test_batches_of_an_append_are_one_entry_and_stay_apart(
    journal: RedisJournal, server: RedisServer
) -> None:
    fence = journal.lease()
    batches = [
        Batch(1, 1, 3, b"1|B\n", OTHER),
        Batch(1, 3, 4, b"", None, b"marks"),
        Batch(1, 4, 5, b"4|B\n"),
    ]
    journal.append(batches, fence)
    assert server.command("XLEN", "{maze}:batches") == b":1\r\n"
    assert journal.read(START) == batches
    assert journal.read(Position(1, 2)) == batches
    assert journal.read(Position(1, 3)) == batches[1:]
    assert journal.read(Position(1, 4), 0) == batches[2:]
    # Those that are there are left out.
    assert journal.append([*batches, *events(5, 6)], fence) == Position(1, 6)
    assert journal.read(Position(1, 5)) == events(5, 6)


def test_a_batch_that_begins_an_epoch_begins_an_entry(
    journal: RedisJournal, server: RedisServer
) -> None:
    fence = journal.lease()
    batches = [
        *events(1, 3),
        Batch(4, 7, 7, b"", OTHER),
        Batch(4, 7, 9, b"7|B\n"),
        Batch(5, 1, 1, b""),
    ]
    journal.append(batches, fence)
    assert server.command("XLEN", "{maze}:batches") == b":3\r\n"
    assert journal.read(START) == batches
    journal.trim(Position(1, 3), fence)
    assert journal.kept_from() == Position(1, 3)
    assert journal.read(Position(1, 3)) == batches[2:]
    assert journal.epoch_begin() == Position(5, 1)
    assert journal.statistics().events == 2


def test_an_append_whose_answer_was_lost_is_not_done_twice(server: RedisServer) -> None:
    """Whether it was done or not, and whatever this object believes."""
    journal, again = (RedisJournal(server.address, START) for _ in range(2))
    fence = journal.lease()
    for number in range(1, 5):
        assert journal.append(events(number, number + 1), fence) == Position(1, number + 1)
        assert again.append(events(1, number + 1), fence) == Position(1, number + 1)
    assert again.append([], fence) == Position(1, 5)
    assert again.read(START) == events(1, 5)


def test_an_append_to_a_journal_that_was_removed_does_not_begin_one(
    journal: RedisJournal, server: RedisServer
) -> None:
    fence = journal.lease()
    server.command("FLUSHALL")
    for call in (
        lambda: journal.append(events(1, 2), fence),
        journal.lease,
        lambda: journal.renew_lease(fence, 1.0),
    ):
        with pytest.raises(GoneError, match=r"'maze' in unix://.* was removed"):
            call()
    assert server.command("DBSIZE") == b":0\r\n"


def test_journals_with_different_names_do_not_meet(
    journal: RedisJournal, server: RedisServer
) -> None:
    other = RedisJournal(server.address, Position(7, 7), "other")
    journal.append(events(1, 2), journal.lease())
    assert other.position() == Position(7, 7)
    with pytest.raises(JournalServerError, match="not a name"):
        RedisReader(server.address, "a}b")
