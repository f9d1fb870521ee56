"""The buffer behind the reorder buffer, against lists: whatever is put, committed and put back."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from maze.core import Decoder, Position, ReorderBuffer, Run
from maze.journal.journal import Batch
from maze.pipeline.committed import Committed
from maze.pipeline.ready_queue import RUN_BYTES

FIRST = 3
LINES = [b"%d|B\n", b"%d|S|4\r\n", b"%d|X\n"]
"""The last is malformed, but uses its number."""

Events = list[tuple[int, bytes]]


def events_of(runs: list[Run]) -> Events:
    """The numbers that the runs use, with their lines."""
    return [(number, run.line(number)) for run in runs for number in range(run.first, run.end)]


def body_of(events: Events) -> bytes:
    return b"".join(line for _, line in events if b"X" not in line)


class CommittedMachine(RuleBasedStateMachine):
    """Sends a stream through, and knows what has to come out."""

    reorder: Any

    @initialize(max_events=st.integers(1, 12), max_bytes=st.sampled_from([1, 2_000, 1 << 30]))
    def start(self, max_events: int, max_bytes: int) -> None:
        self.bounds = max_events, max_bytes
        self.reorder = ReorderBuffer(FIRST)
        self.sent = FIRST
        self.end = self.position = Position(1, FIRST)
        self.buffer = Committed(self.on_put, self.end, max_events=max_events, max_bytes=max_bytes)
        self.batches: list[Batch] = []
        self.in_flight: list[tuple[Batch, Events]] = []
        self.committed: list[tuple[Batch, Events]] = []
        self.ready: Events = []

    def on_put(self, batch: Batch) -> None:
        self.batches.append(batch)

    @rule(
        kinds=st.lists(st.sampled_from(LINES), min_size=1, max_size=12),
        gap=st.sampled_from([0, 0, 1, 3]),
        cuts=st.integers(1, 6),
    )
    def send(self, kinds: list[bytes], gap: int, cuts: int) -> None:
        """Send events in pieces, some behind numbers that are given up."""
        lines = [line % number for number, line in enumerate(kinds, self.sent + gap)]
        for start in range(0, len(lines), cuts):
            self.reorder.add(*Decoder().feed(b"".join(lines[start : start + cuts]))[0])
        self.reorder.give_up_gaps()
        self.sent += gap + len(kinds)

    @rule()
    def take(self) -> None:
        held = self.buffer.ready + self.buffer.in_flight
        held_bytes = self.buffer.ready_bytes + self.buffer.in_flight_bytes
        is_full = held >= self.bounds[0] or held_bytes >= self.bounds[1]
        taken: list[Run] = []
        reorder = _Watched(self.reorder, taken)
        put = self.buffer.take_from(reorder)  # type: ignore[arg-type]
        assert put == bool(taken)
        if is_full:
            assert not put
        if not put:
            assert is_full or not self.reorder.ready
            return
        events = events_of(taken)
        batch = Batch(self.end.epoch, self.end.next, events[-1][0] + 1, body_of(events))
        assert self.batches.pop() == batch
        self.in_flight.append((batch, events))
        self.end = batch.position

    @rule(count=st.integers(0, 3), within=st.booleans())
    def commit(self, count: int, within: bool) -> None:
        """Commit some batches, and at times a part of the next, which changes nothing."""
        if not (done := self.in_flight[:count]):
            return
        position = done[-1][0].position
        following = self.in_flight[count : count + 1]
        if within and following and following[0][0].end > following[0][0].first + 1:
            position = position._replace(next=position.next + 1)
        self.buffer.on_committed(position)
        del self.in_flight[:count]
        self.committed += done
        self._make_ready()

    def _make_ready(self) -> None:
        while self.committed and self.committed[0][1]:
            self.ready += self.committed.pop(0)[1]

    @rule(limit=st.integers(1, 20), routed=st.integers(0, 20))
    def route(self, limit: int, routed: int) -> None:
        """Take some runs; if fewer events are routed than were taken, put the others back."""
        runs = self.buffer.take_ready(limit)
        taken = events_of(runs)
        assert taken == self.ready[: len(taken)]
        assert len(taken) >= min(limit, len(self.ready))
        assert len(taken) - len(runs[-1] if runs else ()) < limit
        if routed < len(taken):
            first = taken[routed][0]
            self.buffer.put_back(
                [run.clip(max(run.first, first), run.end) for run in runs if run.end > first]
            )
        elif taken:
            first = taken[-1][0] + 1
        else:
            return
        del self.ready[: min(routed, len(taken))]
        self.position = Position(self.position.epoch, first)

    @precondition(lambda self: not self.reorder.ready)
    @rule(later=st.integers(1, 3))
    def begin_an_epoch(self, later: int) -> None:
        self.end = Position(self.end.epoch + later, FIRST)
        self.buffer.begin_epoch(self.end)
        self.reorder.reset()
        self.sent = FIRST
        batch = Batch(self.end.epoch, FIRST, FIRST, b"")
        assert self.batches.pop() == batch
        self.in_flight.append((batch, []))

    @precondition(lambda self: self.buffer.epoch_is_due)
    @rule()
    def enter_the_epoch(self) -> None:
        self.buffer.enter_epoch()
        self.position = self.committed.pop(0)[0].position
        self._make_ready()

    @precondition(lambda self: hasattr(self, "reorder"))
    @invariant()
    def counts_agree(self) -> None:
        buffer = self.buffer
        assert not self.batches
        assert buffer.ready == len(self.ready)
        waiting = [events for _, events in [*self.committed, *self.in_flight]]
        assert buffer.in_flight == sum(map(len, waiting))
        assert buffer.position == self.position
        assert buffer.end == self.end
        assert buffer.epoch_is_due == bool(self.committed and not self.ready)
        for count, size in (
            (buffer.ready, buffer.ready_bytes),
            (buffer.in_flight, buffer.in_flight_bytes),
        ):
            assert (size == 0) == (count == 0)
            assert size >= RUN_BYTES * bool(count)


class _Watched:
    """A reorder buffer; keeps the runs that were taken from it."""

    def __init__(self, reorder: ReorderBuffer, taken: list[Run]) -> None:
        self._reorder = reorder
        self._taken = taken

    def take_ready(self, limit: int) -> list[Run]:
        self._taken += self._reorder.take_ready(limit)
        return list(self._taken)


TestCommitted = CommittedMachine.TestCase
