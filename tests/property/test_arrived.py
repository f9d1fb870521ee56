"""What has arrived at an edge against a list: whatever arrives, is routed, put back and changed."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from maze.core import Decoder, Position, Run
from maze.feed.arrived import Arrived
from maze.journal.journal import Batch, Bounds
from maze.pipeline.ready_queue import RUN_BYTES

FIRST = 3
BOUNDS = Bounds(1, 2, 3)
NUMBERS = st.lists(st.booleans(), max_size=8)
"""For each number of a batch: whether it has a line, or was given up."""


class Event(NamedTuple):
    """An event, or a number that was given up, or a change."""

    position: Position
    """Position of the number; that at which a change is made."""
    line: bytes = b""
    change: Batch | None = None


def events_of(runs: list[Run]) -> list[tuple[int, bytes]]:
    return [(number, run.line(number)) for run in runs for number in range(run.first, run.end)]


class ArrivedMachine(RuleBasedStateMachine):
    """Has batches arrive, and knows what has to come out."""

    @initialize(epoch=st.integers(1, 3), max_bytes=st.sampled_from([1, 1 << 30]))
    def start(self, epoch: int, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.end = self.position = Position(epoch, FIRST)
        self.buffer = Arrived(Position(0, 1), max_bytes=max_bytes)
        self.buffer.begin(self.end)
        self.coming: list[Event] = []

    @rule(lines=NUMBERS, has_bounds=st.sampled_from([False, False, False, True]))
    def arrive(self, lines: list[bool], has_bounds: bool) -> None:
        """A batch arrives; that with the bounds of the graph is a change."""
        if not lines:
            return
        epoch, first = self.end
        events = [
            Event(Position(epoch, number), b"%d|B\n" % number if has_line else b"")
            for number, has_line in enumerate(lines, first)
        ]
        body = b"".join(event.line for event in events)
        batch = Batch(epoch, first, first + len(lines), body, BOUNDS if has_bounds else None)
        self._add(batch, events)

    @rule(later=st.integers(1, 2), first=st.sampled_from([0, FIRST, 50]), has_bounds=st.booleans())
    def arrive_with_an_epoch(self, later: int, first: int, has_bounds: bool) -> None:
        epoch = self.end.epoch + later
        self._add(Batch(epoch, first, first, b"", BOUNDS if has_bounds else None), [])

    def _add(self, batch: Batch, events: list[Event]) -> None:
        if batch.bounds or batch.epoch != self.end.epoch:
            self.coming.append(Event(Position(*batch[:2]), change=batch))
        self.coming += events
        self.buffer.add(batch, Decoder().feed(batch.body)[0])
        self.end = batch.position

    def _ready(self) -> list[tuple[int, bytes]]:
        """Return the events before the next change."""
        ready = []
        for event in self.coming:
            if event.change:
                break
            if event.line:
                ready.append((event.position.next, event.line))
        return ready

    def _pass(self, count: int) -> None:
        """Pass events that were routed, and the given-up numbers before each of them."""
        while count:
            event = self.coming.pop(0)
            count -= bool(event.line)
            self.position = event.position._replace(next=event.position.next + 1)

    @rule(limit=st.integers(1, 20), routed=st.integers(0, 20))
    def route(self, limit: int, routed: int) -> None:
        """Take some runs; if fewer events are routed than were taken, put the others back."""
        runs = self.buffer.take_ready(limit)
        taken = events_of(runs)
        assert taken == self._ready()[: len(taken)]
        assert len(taken) >= min(limit, len(self._ready()))
        if routed < len(taken):
            first = taken[routed][0]
            self.buffer.put_back(
                [run.clip(max(run.first, first), run.end) for run in runs if run.end > first]
            )
            # Numbers that were given up right before it count as passed.
            self._pass(routed)
            while not self.coming[0].line:
                self.coming.pop(0)
            self.position = self.coming[0].position
        else:
            self._pass(len(taken))

    @precondition(lambda self: self.buffer.can_skip)
    @rule()
    def skip(self) -> None:
        assert not self._ready()
        while self.coming and not self.coming[0].change:
            epoch, number = self.coming.pop(0).position
            self.position = Position(epoch, number + 1)
        self.buffer.skip()

    @precondition(lambda self: self.buffer.change is not None)
    @rule()
    def change(self) -> None:
        """Make the next change; numbers given up before it are passed."""
        while not self.coming[0].change:
            assert not self.coming.pop(0).line
        event = self.coming.pop(0)
        assert self.buffer.change == event.change
        self.buffer.make_change()
        self.position = event.position

    @rule(events=st.integers(1, 50))
    def begin_later(self, events: int) -> None:
        """Drop what has arrived, as an edge does that is behind what is kept."""
        self.end = self.position = Position(self.end.epoch, self.end.next + events)
        self.coming = []
        self.buffer.begin(self.end)

    @precondition(lambda self: hasattr(self, "buffer"))
    @invariant()
    def counts_agree(self) -> None:
        buffer, ready = self.buffer, self._ready()
        lines = sum(bool(event.line) for event in self.coming)
        changes = [event.change for event in self.coming if event.change]
        assert buffer.ready == len(ready)
        assert buffer.events == lines
        assert buffer.position == self.position
        assert buffer.end == self.end
        assert buffer.change == (changes[0] if changes and not ready else None)
        is_given_up = bool(self.coming) and not self.coming[0].change
        assert buffer.can_skip == (not ready and is_given_up)
        assert buffer.is_full == (lines > 0 and self.max_bytes == 1)
        assert (buffer.ready_bytes == 0) == (not ready)
        assert buffer.ready_bytes >= RUN_BYTES * bool(ready)


TestArrived = ArrivedMachine.TestCase
