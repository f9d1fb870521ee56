"""The ring against a list: what is added, what is forgotten, and what is found after a position."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from maze.core import Position
from maze.feed.messages import encode_batch
from maze.feed.ring import Ring
from maze.journal.journal import Batch

PARTS = st.tuples(st.sampled_from([0, 1, 1, 3]), st.sampled_from([0, 1, 50, 400]))
"""Numbers of a batch (none: it begins an epoch), and bytes of its lines."""


class RingMachine(RuleBasedStateMachine):
    """Does the same to a ring and to a list of batches."""

    @initialize(epoch=st.integers(1, 3), first=st.integers(0, 5), max_bytes=st.integers(0, 1_000))
    def start(self, epoch: int, first: int, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.ring = Ring(Position(epoch, first), max_bytes)
        self.empty(Position(epoch, first))

    def empty(self, position: Position) -> None:
        self.start_position = self.position = position
        self.kept: list[Batch] = []

    def size(self, batches: list[Batch]) -> int:
        return sum(len(encode_batch(batch)) for batch in batches)

    @rule(parts=st.lists(PARTS, max_size=6), first=st.integers(0, 5))
    def add(self, parts: list[tuple[int, int]], first: int) -> None:
        batches = []
        for numbers, size in parts:
            epoch, number = self.position
            if numbers:
                batch = Batch(epoch, number, number + numbers, b"x" * size)
            else:
                batch = Batch(epoch + 1, first, first, b"")
            batches.append(batch)
            self.position = batch.position
        self.ring.add(batches)
        self.kept += batches
        while len(self.kept) > 1 and self.size(self.kept) > self.max_bytes:
            self.start_position = self.kept.pop(0).position

    @rule(later=st.integers(0, 1), first=st.integers(0, 5))
    def begin(self, later: int, first: int) -> None:
        """Begin anew, at an earlier position or at a later one."""
        self.empty(Position(self.position.epoch + later, first))
        self.ring.begin(self.position)

    @rule(max_bytes=st.integers(0, 1_000), offset=st.integers(-1, 1), data=st.data())
    def look(self, max_bytes: int, offset: int, data: st.DataObject) -> None:
        """Look for what comes after each kind of position: an end, within a batch, forgotten."""
        ends = [self.start_position, *(batch.position for batch in self.kept)]
        epoch, number = data.draw(st.sampled_from(ends))
        position = Position(epoch, max(0, number + offset))
        if position not in ends:
            assert self.ring.frames_after(position, max_bytes) is None
            return
        following = [batch for batch in self.kept if batch.position > position]
        found = following[:1]
        for batch in following[1:]:
            if self.size([*found, batch]) > max_bytes:
                break
            found.append(batch)
        assert self.ring.frames_after(position, max_bytes) == list(map(encode_batch, found))

    @precondition(lambda self: hasattr(self, "ring"))
    @invariant()
    def bounds_hold(self) -> None:
        assert self.ring.position == self.position
        assert self.ring.bytes == self.size(self.kept)
        assert self.ring.bytes <= self.max_bytes or len(self.kept) == 1
        # What was forgotten is removed before it is as much as what is kept.
        assert len(self.ring._frames) <= 2 * len(self.kept) + 1


TestRing = RingMachine.TestCase
