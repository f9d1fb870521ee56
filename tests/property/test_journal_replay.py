"""What a client that comes back gets from the journal, while the stream goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maze.core import Position, Replay
from maze.journal.journal import Batch
from maze.journal.memory import MemoryJournal
from maze.pipeline import journal_blocks
from maze.pipeline.committed import Committed
from maze.pipeline.journal_blocks import JournalBlocks
from maze.pipeline.journal_replay import JournalReplay
from maze.pipeline.unwritten_marks import UnwrittenMarks

from .test_replay import MANY, World, batch_bounds, few, texts, users

EPOCH = 7


class JournalWorld(World):
    """A stream that is written before it is routed; every part goes on by itself."""

    def __init__(
        self, first: int, bounds: tuple[int, int, int], max_events: int, max_block_bytes: int
    ) -> None:
        super().__init__(first, bounds, max_events, MANY)
        start = Position(EPOCH, first)
        self.journal = MemoryJournal(start)
        self.fence = self.journal.lease()
        self.marks = UnwrittenMarks()
        self.marks.begin(first)
        self.blocks = JournalBlocks(self.journal, self.marks.all, self.recent, max_block_bytes)
        self.flying: deque[Batch] = deque()
        self.committed = Committed(self.put, start)

    def put(self, batch: Batch) -> None:
        self.flying.append(batch._replace(unchanged=self.marks.carry(batch.end)))

    def commit(self, count: int) -> None:
        for _ in range(min(count, len(self.flying))):
            position = self.journal.append([self.flying.popleft()], self.fence)
            self.committed.on_committed(position)
            self.marks.on_committed(position.next)

    def route(self, limit: int, payload_bytes: int, batch_bytes: int) -> None:
        runs = self.committed.take_ready(limit)
        _, rest = self.fanout.route(runs, payload_bytes, batch_bytes)
        self.committed.put_back(rest)
        end = self.committed.next_sequence
        self.recent.add(runs, end)
        self.marks.add(runs, end)
        for number in sorted(self.unrouted):
            if number < end:
                self.model.route(number, self.unrouted.pop(number))

    def replay(self, user: int, first: int, max_bytes: int, between: Callable[[], None]) -> bytes:
        """Return what a client gets that comes back with a position."""
        if first >= self.recent.kept_from:
            replay = Replay(self.recent, user, self.fanout.graph.following(user), first)
            return self.finish(replay, max_bytes)
        deep = JournalReplay(self.blocks, self.recent, user, Position(EPOCH, first))
        while deep.goes_back:
            deep.go_back(self.fanout.graph)
            between()
        got = b""
        while not deep.is_complete:
            got += deep.step(max_bytes)
            between()
        replay = Replay(self.recent, user, deep.following, deep.next, goes_back=False)
        return got + self.finish(replay, max_bytes)

    @staticmethod
    def finish(replay: Replay, max_bytes: int) -> bytes:
        got = b""
        while not replay.is_complete:
            got += replay.step(MANY, max_bytes)
        return got


@given(st.data())
def test_who_comes_back_gets_from_the_journal_what_it_would_have_got(data: st.DataObject) -> None:
    draw = data.draw
    world = JournalWorld(
        draw(st.sampled_from([1, 0, 2**63 - 1_000])),
        draw(st.sampled_from([(MANY, MANY, MANY), (2, MANY, MANY), (MANY, 3, MANY), (3, 5, 2)])),
        draw(st.sampled_from([0, 5, 20])),
        draw(st.sampled_from([0, 2_000, 10_000, MANY])),
    )
    start = world.first

    def go_on() -> None:
        lines = world.lines(draw(st.lists(texts, max_size=8)))
        world.feed(lines, draw(st.sampled_from([1, 5, MANY])))
        world.committed.take_from(world.reorder)
        world.commit(draw(st.integers(0, 3)))
        world.route(draw(few), *draw(batch_bounds))

    def run_in_thread(call: Callable[..., object], *arguments: object) -> object:
        if draw(st.booleans()):
            go_on()  # the stream goes on while a thread reads
        return call(*arguments)

    for _ in range(draw(st.integers(2, 6))):
        go_on()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_blocks, "run_in_thread", run_in_thread)
        patch.setattr(journal_blocks, "READ_BYTES", draw(st.sampled_from([1, 60, MANY])))
        for _ in range(3):
            user, first = draw(users), draw(st.integers(start, world.recent.end))
            got = world.replay(user, first, draw(st.sampled_from([1, 20, MANY])), go_on)
            assert got == world.model.missed(user, first, world.recent.end)
            go_on()
