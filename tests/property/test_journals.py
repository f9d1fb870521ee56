"""Every journal against a list: whatever is appended, repeated, skipped, fenced or trimmed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from maze.core import Position
from maze.journal.journal import (
    AheadError,
    Batch,
    FencedError,
    GapError,
    Journal,
    OtherEpochError,
    TrimmedError,
)
from maze.journal.memory import MemoryJournal
from maze.journal.sqlite import SQLiteJournal

LARGEST = 2**63 - 1
BODIES = st.binary(max_size=20)
SIZES = st.integers(1, 3)


class JournalMachine(RuleBasedStateMachine):
    """Does the same to a journal and to a list of batches."""

    journal: Any

    @initialize(epoch=st.integers(1, 3), first=st.sampled_from([0, 1, 7, LARGEST - 5]))
    def start(self, epoch: int, first: int) -> None:
        self.kept_from = self.position = Position(epoch, first)
        self.batches: list[Batch] = []
        self.journal: Journal = self.open(self.position)
        self.old_fence, self.fence = 0, self.journal.lease()

    def open(self, start: Position) -> Journal:
        raise NotImplementedError

    def _next(self, size: int, body: bytes) -> Batch:
        epoch, first = self.position
        return Batch(epoch, first, min(first + size, LARGEST + 1), body)

    def _keep(self, batch: Batch) -> None:
        if batch.position > self.position:
            self.batches.append(batch)
            self.position = batch.position

    @rule(parts=st.lists(st.tuples(SIZES, BODIES), max_size=3), repeated=st.integers(0, 3))
    def append(self, parts: list[tuple[int, bytes]], repeated: int) -> None:
        """Append some batches, after repeating some that are there."""
        batches = self.batches[len(self.batches) - min(repeated, len(self.batches)) :]
        for part in parts:
            batch = self._next(*part)
            batches.append(batch)
            self._keep(batch)
        assert self.journal.append(batches, self.fence) == self.position

    @rule(offset=st.sampled_from([-1, 1, 2]), size=SIZES)
    def append_with_a_gap_or_overlap(self, offset: int, size: int) -> None:
        epoch, first = self.position
        wrong = Batch(epoch, first + offset, first + offset + 1 + size, b"lost")
        good = self._next(1, b"not kept either")
        if not 0 <= wrong.first <= wrong.end <= LARGEST + 1 or good.end + offset == wrong.first:
            return
        with pytest.raises(GapError) as error:
            self.journal.append([wrong], self.fence)
        assert error.value.position == self.position
        if good.end != wrong.first and good.position > self.position and wrong.end > good.end:
            with pytest.raises(GapError):
                self.journal.append([good, wrong], self.fence)

    @rule(later=st.integers(1, 2), first=st.sampled_from([0, 1, 9]))
    def begin_an_epoch(self, later: int, first: int) -> None:
        epoch = self.position.epoch + later
        with pytest.raises(OtherEpochError):
            self.journal.append([Batch(epoch, first, first + 1, b"too early")], self.fence)
        reset = Batch(epoch, first, first, b"")
        self._keep(reset)
        assert self.journal.append([reset], self.fence) == self.position

    @rule()
    def take_the_lease(self) -> None:
        self.old_fence, self.fence = self.fence, self.journal.lease()
        assert self.fence > self.old_fence

    @rule(size=SIZES)
    def write_without_the_lease(self, size: int) -> None:
        for fence in (self.old_fence, self.fence + 1):
            with pytest.raises(FencedError):
                self.journal.append([self._next(size, b"fenced")], fence)
            with pytest.raises(FencedError):
                self.journal.trim(self.position, fence)

    @rule(count=st.integers(0, 5), offset=st.sampled_from([0, 1]))
    def trim(self, count: int, offset: int) -> None:
        before = self.batches[:count][-1].position if self.batches[:count] else self.kept_from
        before = before._replace(next=before.next + offset)
        self.journal.trim(before, self.fence)
        while self.batches and self.batches[0].position <= before:
            self.kept_from = self.batches.pop(0).position

    @rule(max_bytes=st.integers(0, 60), data=st.data())
    def read(self, max_bytes: int, data: st.DataObject) -> None:
        """Read after every kind of position: an end, within a batch, trimmed, ahead, unknown."""
        ends = [self.kept_from, *(batch.position for batch in self.batches)]
        epoch, number = data.draw(st.sampled_from(ends))
        after = Position(
            max(0, epoch + data.draw(st.sampled_from([0, 0, 0, -1, 1]))),
            max(0, number + data.draw(st.sampled_from([0, 0, -1, 1, 2]))),
        )
        expected = self._expected(after, max_bytes)
        if isinstance(expected, list):
            assert self.journal.read(after, max_bytes) == expected
        else:
            with pytest.raises(expected):
                self.journal.read(after, max_bytes)

    def _expected(self, after: Position, max_bytes: int) -> list[Batch] | type[Exception]:
        if after > self.position:
            return AheadError if after.epoch == self.position.epoch else OtherEpochError
        if after < self.kept_from:
            return TrimmedError
        following = [batch for batch in self.batches if batch.position > after]
        ends = {self.kept_from, *(batch.position for batch in self.batches)}
        first = following[0] if following else None
        within = first and first.epoch == after.epoch and first.first <= after.next
        if after not in ends and not within:
            return OtherEpochError
        found = following[:1]
        for batch in following[1:]:
            if sum(len(each.body) for each in [*found, batch]) > max_bytes:
                break
            found.append(batch)
        return found

    @precondition(lambda self: hasattr(self, "journal"))
    @invariant()
    def positions_agree(self) -> None:
        assert self.journal.position() == self.position


class MemoryMachine(JournalMachine):
    def open(self, start: Position) -> Journal:
        return MemoryJournal(start)


class SQLiteMachine(JournalMachine):
    def open(self, start: Position) -> Journal:
        self.folder = tempfile.TemporaryDirectory()
        self.path = str(Path(self.folder.name) / "journal")
        return SQLiteJournal(self.path, start, synchronous="OFF")

    @rule()
    def open_again(self) -> None:
        """What was appended outlives the connection, and where a file begins is its own."""
        self.journal.close()
        self.journal = SQLiteJournal(self.path, Position(99, 99), synchronous="OFF")

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.journal.close()
            self.folder.cleanup()


TestMemory = MemoryMachine.TestCase
TestSQLite = SQLiteMachine.TestCase
