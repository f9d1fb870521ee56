"""A state machine that does the same to a journal and to a list of batches.

Whatever is appended, repeated, skipped, fenced or trimmed, both have to agree. Snapshots are
written in steps between the others, and some are never finished.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from maze.core import Position
from maze.journal.journal import (
    AheadError,
    Batch,
    Bounds,
    FencedError,
    GapError,
    Journal,
    NoSnapshotError,
    OtherEpochError,
    Snapshot,
    SnapshotReplacedError,
    SnapshotWriter,
    TrimmedError,
)

LARGEST = 2**63 - 1
BODIES = st.binary(max_size=20)
SIZES = st.integers(1, 3)
BOUNDS = st.builds(Bounds, *[st.sampled_from([0, 1, LARGEST])] * 3)
PARTS = st.tuples(SIZES, BODIES, st.one_of(st.none(), BOUNDS), st.binary(max_size=3))
"""Size, body, bounds and marks of a batch."""


class JournalMachine(RuleBasedStateMachine):
    """Does the same to a journal and to a list of batches."""

    journal: Any
    may_read_less = False
    """Whether the journal may return fewer batches than fit."""

    @initialize(epoch=st.integers(1, 3), first=st.sampled_from([0, 1, 7, LARGEST - 5]))
    def start(self, epoch: int, first: int) -> None:
        self.kept_from = self.position = Position(epoch, first)
        self.batches: list[Batch] = []
        self.journal: Journal = self.open(self.position)
        self.old_fence, self.fence = 0, self.journal.lease()
        self.snapshots: list[Snapshot] = []
        self.needs_snapshot = False
        self.writers: list[tuple[SnapshotWriter, Snapshot]] = []
        self.fenced_writers: list[SnapshotWriter] = []

    def open(self, start: Position) -> Journal:
        raise NotImplementedError

    def _next(
        self, size: int, body: bytes, bounds: Bounds | None = None, unchanged: bytes = b""
    ) -> Batch:
        epoch, first = self.position
        return Batch(epoch, first, min(first + size, LARGEST + 1), body, bounds, unchanged)

    def _keep(self, batch: Batch) -> None:
        if batch.position > self.position:
            self.batches.append(batch)
            self.position = batch.position

    @rule(parts=st.lists(PARTS, max_size=3), repeated=st.integers(0, 3))
    def append(self, parts: list[tuple[int, bytes, Bounds | None, bytes]], repeated: int) -> None:
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

    @rule(later=st.integers(1, 2), first=st.sampled_from([0, 1, 9]), bounds=st.none() | BOUNDS)
    def begin_an_epoch(self, later: int, first: int, bounds: Bounds | None) -> None:
        epoch = self.position.epoch + later
        with pytest.raises(OtherEpochError):
            self.journal.append([Batch(epoch, first, first + 1, b"too early")], self.fence)
        reset = Batch(epoch, first, first, b"", bounds)
        self._keep(reset)
        assert self.journal.append([reset], self.fence) == self.position

    @rule()
    def take_the_lease(self) -> None:
        self.old_fence, self.fence = self.fence, self.journal.lease()
        self.fenced_writers = [writer for writer, _ in self.writers]
        assert self.fence > self.old_fence

    @rule(size=SIZES)
    def write_without_the_lease(self, size: int) -> None:
        for fence in (self.old_fence, self.fence + 1):
            with pytest.raises(FencedError):
                self.journal.append([self._next(size, b"fenced")], fence)
            with pytest.raises(FencedError):
                self.journal.trim(self.position, fence)
            with pytest.raises(FencedError):
                self.journal.begin_snapshot(self.position, Bounds(1, 1, 1), fence)

    @rule(count=st.integers(0, 5), offset=st.sampled_from([0, 1]))
    def trim(self, count: int, offset: int) -> None:
        before = self.batches[:count][-1].position if self.batches[:count] else self.kept_from
        before = before._replace(next=before.next + offset)
        self.journal.trim(before, self.fence)
        trimmed = self.trimmed(before)
        while self.batches and self.batches[0].position <= trimmed:
            self.kept_from = self.batches.pop(0).position
            self.needs_snapshot = True

    def trimmed(self, before: Position) -> Position:
        """Return up to where batches were removed that should have been up to ``before``."""
        return before

    @rule(data=st.data(), bounds=BOUNDS)
    def begin_a_snapshot(self, data: st.DataObject, bounds: Bounds) -> None:
        """Begin one at the end of a batch, or fail to at another position."""
        ends = [self.kept_from, *(batch.position for batch in self.batches)]
        epoch, number = data.draw(st.sampled_from(ends))
        position = Position(epoch, max(0, number + data.draw(st.sampled_from([0, 0, 0, -1, 1]))))
        if position in ends:
            writer = self.journal.begin_snapshot(position, bounds, self.fence)
            self.writers.append((writer, Snapshot(position, bounds, [])))
            return
        expected = self._expected(position, 0)
        error = expected if not isinstance(expected, list) else OtherEpochError
        with pytest.raises(error):
            self.journal.begin_snapshot(position, bounds, self.fence)

    @rule(chunk=BODIES, which=st.sampled_from([-1, -1, -1, 0]))
    def add_a_chunk(self, chunk: bytes, which: int) -> None:
        if self.writers:
            writer, snapshot = self.writers[which]
            if self._may_write(writer.add, chunk, which=which):
                snapshot.chunks.append(chunk)

    @rule(which=st.sampled_from([-1, -1, -1, 0]))
    def finish_a_snapshot(self, which: int) -> None:
        if self.writers:
            writer, snapshot = self.writers[which]
            if snapshot.position < self.kept_from and writer is self.writers[-1][0]:
                with pytest.raises((TrimmedError, FencedError)):
                    writer.finish()
            elif self._may_write(writer.finish, which=which):
                self.snapshots.insert(0, snapshot)
                self.snapshots.sort(key=lambda each: each.position, reverse=True)
                del self.snapshots[2:]
                self.needs_snapshot |= snapshot.position == self.kept_from
                self.writers = []

    def _may_write(self, write: Callable[..., None], *values: bytes, which: int) -> bool:
        """Write to a snapshot, unless it was replaced or the lease was lost."""
        is_newest = self.writers[which] is self.writers[-1]
        error: type[Exception] | None = None if is_newest else SnapshotReplacedError
        if self.writers[which][0] in self.fenced_writers:
            error = FencedError
        if error is None:
            write(*values)
            return True
        with pytest.raises(error):
            write(*values)
        return False

    @rule(chunks=st.lists(BODIES, max_size=3), bounds=BOUNDS)
    def put_a_snapshot(self, chunks: list[bytes], bounds: Bounds) -> None:
        snapshot = Snapshot(self.position, bounds, chunks)
        self.journal.put_snapshot(*snapshot, self.fence)
        self.snapshots = [snapshot, *self.snapshots[:1]]
        self.needs_snapshot |= self.position == self.kept_from
        self.writers = []

    @rule()
    def get_a_snapshot(self) -> None:
        reports: list[str] = []
        usable = [each for each in self.snapshots if each.position >= self.kept_from]
        if not usable and self.needs_snapshot:
            with pytest.raises(NoSnapshotError):
                self.journal.get_snapshot(reports.append)
        else:
            expected = usable[0] if usable else None
            assert self.journal.get_snapshot(reports.append) == expected
        passed_over = [] if usable else self.snapshots
        assert len(reports) == len(passed_over)
        assert all("no longer kept" in report for report in reports)

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
            found = self.journal.read(after, max_bytes)
            assert found == expected[: len(found)]
            assert len(found) == len(expected) or (self.may_read_less and found)
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
        size = self._size_after(after)
        found = following[:1]
        for batch in following[1:]:
            if sum(map(size, [*found, batch])) > max_bytes:
                break
            found.append(batch)
        return found

    def _size_after(self, after: Position) -> Callable[[Batch], int]:
        """Return how many bytes a batch counts when it is read after a position."""
        return lambda batch: len(batch.body)

    @precondition(lambda self: hasattr(self, "journal"))
    @invariant()
    def positions_agree(self) -> None:
        assert self.journal.position() == self.position
        assert self.journal.kept_from() == self.kept_from


SETTINGS = settings(stateful_step_count=25, max_examples=settings().max_examples // 3)
