"""The two twins side by side: the same bytes in, the same of everything out."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, rule

from maze.core import (
    BehindError,
    Payload,
    Reject,
    ReorderBuffer,
    Run,
    events,
    fanout,
    graph,
    recent,
    replay,
)

from .streams import LINE_LIMIT, lines_of_any_kind

_events: Any = pytest.importorskip(
    "maze.core._compiled.events", reason="the compiled core is not built"
)
_graph: Any = pytest.importorskip("maze.core._compiled.graph")
_fanout: Any = pytest.importorskip("maze.core._compiled.fanout")
_replay: Any = pytest.importorskip("maze.core._compiled.replay")

USERS = [0, 1, 2, 3, 10**17, 10**18, 2**63 - 1]
users = st.sampled_from(USERS)
numbers = st.one_of(users, st.integers(0, 60), st.integers(2**63 - 4, 2**63 + 4))


@st.composite
def event_lines(draw: st.DrawFn, sequence: int) -> bytes:
    """A valid line; a few broadcasts are so long that slices of the tape are referred to."""
    kind = draw(st.sampled_from("FFUBBPSS"))
    terminator = draw(st.sampled_from([b"\n", b"\n", b"\r\n"]))
    if kind == "B":
        width = draw(st.sampled_from([1, 1, 30, 2_000, fanout.SLICE_BYTES - 3]))
        return b"%0*d|B" % (width, sequence) + terminator
    fields = [draw(users) for _ in range(events.FIELD_COUNT[kind.encode()] - 2)]
    return "|".join(map(str, [sequence, kind, *fields])).encode() + terminator


def shown(run: Run) -> tuple[object, ...]:
    return run.first, run.end, len(run), run.void, run.events


class Twin:
    """One twin of everything; each method returns, as plain values, all that can be seen."""

    def __init__(
        self,
        events: ModuleType,
        graph: ModuleType,
        fanout: ModuleType,
        recent: ModuleType,
        replay: ModuleType,
        bounds: tuple[int, int],
        at_once: int,
        kept: int,
        keeps_undelivered: bool,
    ) -> None:
        self.recent = recent.Recent(kept, 10**9)
        self.replays: list[Any] = []
        self.new_replay, self.new_walk = replay.Replay, replay.UserWalk
        self.decoder = events.Decoder()
        self.reorder = ReorderBuffer(limit=20)
        self.graph = graph.FollowGraph(*bounds, at_once=at_once)
        self.fanout = fanout.Fanout(self.graph, keeps_undelivered=keeps_undelivered)
        self.new_recipient = graph.Recipient
        self.recipients: dict[int, Any] = {}
        self.held: list[Payload] = []

    def feed(self, data: bytes) -> tuple[object, ...]:
        runs, rejects = self.decoder.feed(data)
        seen = [shown(run) for run in runs]
        repeated: list[Reject] = []
        for run in runs:
            repeated += self.reorder.add(run)
        skipped = self.reorder.enforce_limit()
        self.reorder._check()
        state = self.reorder.next_sequence, self.reorder.ready, self.reorder.waiting
        return seen, rejects, repeated, skipped, state, self.decoder.overflowed

    def route(self, limit: int, payload_bytes: int, batch_bytes: int) -> tuple[object, ...]:
        runs = self.reorder.take_ready(limit)
        payloads, rest = self.fanout.route(runs, payload_bytes, batch_bytes)
        self.reorder.put_back(rest)
        self.recent.add(runs, self.reorder.next_sequence)
        names = {recipient: name for name, recipient in self.recipients.items()}
        by_name = sorted((names[recipient], payload) for recipient, payload in payloads)
        seen = []
        for name, payload in by_name:
            parts = [bytes(part) for part in payload.parts]
            seen.append((name, parts, payload.size, payload.own_size, payload.hold()))
            self.held.append(payload)
        routed = [shown(run) for run in runs]
        left = list(map(shown, rest))
        aside = self.fanout.refused, self.fanout.undelivered
        counts = self.fanout.tallies(), self.fanout.undelivered_counts()
        return seen, routed, left, aside, counts, self.kept()

    def kept(self) -> tuple[object, ...]:
        """What is kept of the events that were routed last."""
        kept = self.recent
        runs = list(map(shown, kept.runs_from(kept.kept_from)))
        assert list(map(shown, kept.runs_before(kept.end))) == runs[::-1]
        return kept.kept_from, kept.end, kept.events, kept.times_begun, runs

    def resume(self, user: int, back: int) -> str:
        """Begin a replay; return the error if there is one."""
        number = max(self.recent.end - back, 0)
        try:
            new = self.new_replay(self.recent, user, self.graph.following(user), number)
        except (BehindError, ValueError) as error:
            return str(error)
        self.replays.append(new)
        return ""

    def step(self, index: int, max_events: int, max_bytes: int) -> tuple[object, ...]:
        chosen = self.replays[index]
        try:
            lines: object = chosen.step(max_events, max_bytes)
        except BehindError as error:
            lines = str(error)
        return lines, chosen.next, chosen.is_complete

    def walk(self, user: int, first: int, end: int, max_bytes: int) -> list[object]:
        """Walk over all that is kept, in each of the ways there are."""
        runs = list(self.recent.runs_from(0))
        walk = self.new_walk(user, self.graph.following(user))
        seen: list[object] = [walk.user, walk.following]
        for run in runs:
            walk.note(run, first, end)
        walk.undo_noted()
        seen.append(walk.following)
        seen += [walk.collect(run, first, end, max_bytes) for run in runs]
        seen.append(walk.following)
        for run in reversed(runs):
            walk.undo(run, first, end)
        seen.append(walk.following)
        assert seen[2] == seen[-1]
        return seen

    def release(self, index: int) -> int:
        return self.held.pop(index).release()

    def connect(self, name: int, user: int) -> None:
        self.recipients[name] = self.new_recipient(user)
        self.graph.connect(self.recipients[name])

    def disconnect(self, name: int) -> None:
        self.graph.disconnect(self.recipients.pop(name))

    def settle(self, limit: int) -> None:
        """Which audiences are entered first is a twin's own affair, and so when all are."""
        self.graph.settle(limit)

    def settle_all(self) -> list[int]:
        assert not self.graph.settle(1_000)
        assert self.graph.entering == 0
        return sorted(self.graph._users())

    def clear(self) -> None:
        self.graph.clear()
        self.recent.begin(self.reorder.next_sequence)

    def end_stream(self) -> list[Reject]:
        rejects: list[Reject] = self.decoder.finish()
        return self.reorder.give_up_gaps() + rejects

    def people(self) -> tuple[object, ...]:
        """The whole graph, and whether it agrees with itself."""
        self.graph._check()
        names = {recipient: name for name, recipient in self.recipients.items()}
        size = self.graph.users, self.graph.follows, self.graph.listeners
        return (
            size,
            [
                (
                    self.graph.following(user),
                    self.graph.session_count(user),
                    [names[recipient] for recipient in self.graph.of_user(user)],
                    sorted(names[recipient] for recipient in self.graph.audience(user)),
                )
                for user in USERS
            ],
        )


class Twins(RuleBasedStateMachine):
    """Whatever is done, is done to both."""

    sessions = Bundle("sessions")

    def __init__(self) -> None:
        super().__init__()
        self.twins: list[Twin] = []
        self.names = 0

    @initialize(
        bounds=st.sampled_from([(100, 100), (2, 100), (100, 3), (2, 4)]),
        at_once=st.sampled_from([0, 1, 2, 1_000]),
        kept=st.sampled_from([0, 20, 1_000, 1_000]),
        keeps=st.booleans(),
    )
    def begin(self, bounds: tuple[int, int], at_once: int, kept: int, keeps: bool) -> None:
        """The bounds on the graph: one that is never reached, and ones that are."""
        given = bounds, at_once, kept, keeps
        self.twins = [
            Twin(events, graph, fanout, recent, replay, *given),
            Twin(_events, _graph, _fanout, _replay, _replay, *given),
        ]

    def both(self, act: Callable[[Twin], object]) -> None:
        pure, compiled = map(act, self.twins)
        assert pure == compiled
        pure, compiled = (twin.people() for twin in self.twins)
        assert pure == compiled

    @rule(target=sessions, user=users)
    def connect(self, user: int) -> int:
        self.names += 1
        self.both(lambda twin: twin.connect(self.names, user))
        return self.names

    @rule(name=consumes(sessions))
    def disconnect(self, name: int) -> None:
        self.both(lambda twin: twin.disconnect(name))

    @rule(offsets=st.lists(st.integers(-3, 12), min_size=1, max_size=15), data=st.data())
    def feed(self, offsets: list[int], data: st.DataObject) -> None:
        """Feed lines around the number that is missing, in any order, up to any byte."""
        missing = self.twins[0].reorder.missing_sequence
        near = [max(0, missing + offset) for offset in offsets]
        odd = data.draw(st.integers(0, 9)) == 0
        lines = lines_of_any_kind if odd else event_lines
        self.feed_bytes(b"".join(data.draw(lines(number)) for number in near), data)

    @rule(count=st.integers(1, 40), data=st.data())
    def feed_in_order(self, count: int, data: st.DataObject) -> None:
        missing = self.twins[0].reorder.missing_sequence
        lines = [data.draw(event_lines(missing + index)) for index in range(count)]
        self.feed_bytes(b"".join(data.draw(st.permutations(lines))), data)

    def feed_bytes(self, stream: bytes, data: st.DataObject) -> None:
        cut = data.draw(st.integers(0, len(stream)))
        for part in (stream[:cut], stream[cut:]):
            self.both(lambda twin, part=part: twin.feed(part))  # type: ignore[misc]

    @rule(
        limit=st.sampled_from([1, 5, 1_000]),
        payload_bytes=st.sampled_from([1, 50, 5_000, 10**9]),
        batch_bytes=st.sampled_from([1, 100, 20_000, 10**9]),
    )
    def route(self, limit: int, payload_bytes: int, batch_bytes: int) -> None:
        self.both(lambda twin: twin.route(limit, payload_bytes, batch_bytes))

    @rule(user=users, back=st.integers(-1, 40))
    def resume(self, user: int, back: int) -> None:
        self.both(lambda twin: twin.resume(user, back))

    @rule(
        max_events=st.sampled_from([1, 2, 5, 1_000]),
        max_bytes=st.sampled_from([0, 1, 50, 10**9]),
        data=st.data(),
    )
    def step(self, max_events: int, max_bytes: int, data: st.DataObject) -> None:
        if self.twins[0].replays:
            index = data.draw(st.integers(0, len(self.twins[0].replays) - 1))
            self.both(lambda twin: twin.step(index, max_events, max_bytes))

    @rule(user=users, offsets=st.tuples(*[st.integers(-50, 5)] * 2), max_bytes=st.integers(0, 200))
    def walk(self, user: int, offsets: tuple[int, int], max_bytes: int) -> None:
        first, end = (max(self.twins[0].recent.end + offset, 0) for offset in offsets)
        self.both(lambda twin: twin.walk(user, first, end, max_bytes))

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        if self.twins[0].held:
            index = data.draw(st.integers(0, len(self.twins[0].held) - 1))
            self.both(lambda twin: twin.release(index))

    @rule(limit=st.sampled_from([1, 1, 2, 5]))
    def settle(self, limit: int) -> None:
        self.both(lambda twin: twin.settle(limit))

    @rule()
    def settle_all(self) -> None:
        self.both(Twin.settle_all)

    @rule()
    def end_stream(self) -> None:
        self.both(Twin.end_stream)

    @rule()
    def clear(self) -> None:
        self.both(Twin.clear)

    def teardown(self) -> None:
        while self.twins and self.twins[0].reorder.ready:
            self.both(lambda twin: twin.route(7, 1_000, 10_000))
        while self.twins and self.twins[0].held:
            self.both(lambda twin: twin.release(0))
        self.both(Twin.settle_all)


TestTwins = Twins.TestCase
TestTwins.settings = settings(stateful_step_count=30)


@given(
    lines=st.lists(
        st.one_of(
            st.tuples(numbers, st.sampled_from("FUPSBX"), st.lists(numbers, max_size=3)).map(
                lambda parts: "|".join(map(str, [parts[0], parts[1], *parts[2]])).encode()
            ),
            st.binary(max_size=20),
        ),
        max_size=60,
    ),
    line_limit=st.sampled_from([LINE_LIMIT, 4096]),
    ends=st.lists(st.sampled_from([b"\n", b"\r\n", b"\r\r\n", b""]), min_size=1),
    max_rejects=st.sampled_from([1, 2, 5, 1_000]),
)
def test_both_decode_anything_alike(
    lines: list[bytes], line_limit: int, ends: list[bytes], max_rejects: int
) -> None:
    stream = b"".join(line + ends[index % len(ends)] for index, line in enumerate(lines))
    pure, compiled = (twin.Decoder(line_limit, max_rejects) for twin in (events, _events))
    data = stream
    while data or pure.unread:
        (runs, rejects), (same_runs, same_rejects) = pure.feed(data), compiled.feed(data)
        assert list(map(shown, runs)) == list(map(shown, same_runs))
        assert rejects == same_rejects
        assert (pure.overflowed, pure.unread) == (compiled.overflowed, compiled.unread)
        data = b""
    assert pure.finish() == compiled.finish()


@given(
    st.lists(
        st.one_of(
            st.integers(0, 20),
            st.integers(0, 1_000),
            st.integers(0, 2**62),
            st.integers(2**63 - 9, 2**63 - 1),
        ),
        max_size=200,
    )
)
def test_both_cut_the_same_runs_of_a_dense_chunk_and_of_a_sparse_one(numbers: list[int]) -> None:
    """The compiled twin places events by number if they stand close together, else it sorts."""
    chunk = b"".join(b"%d|S|%d\n" % (number, place) for place, number in enumerate(numbers))
    pure, compiled = (list(map(shown, twin.Decoder().feed(chunk)[0])) for twin in (events, _events))
    assert pure == compiled


# What a run keeps from being freed differs: a list of events, or a chunk.


@given(st.lists(st.integers(0, 300), min_size=1, max_size=200))
def test_what_the_runs_of_a_chunk_keep_is_counted_by_both(numbers: list[int]) -> None:
    chunk = b"".join(b"%030d|B\n" % number for number in numbers)
    for twin, most in ((events, 400), (_events, 4 * 24 + 33 + 200)):
        runs = twin.Decoder().feed(chunk)[0]
        chunks = dict(run.memory for run in runs)
        assert len(chunk) < sum(chunks.values()) < most * len(numbers) + 500


def test_a_part_of_a_compiled_run_keeps_the_whole_chunk_and_one_of_a_pure_run_does_not() -> None:
    chunk = b"".join(b"%d|B\n" % number for number in range(1_000))
    (pure,), (compiled,) = (twin.Decoder().feed(chunk)[0] for twin in (events, _events))
    assert compiled.clip(5, 6).memory == compiled.memory
    assert compiled.memory[1] > len(chunk) + 1_000 * 24
    assert pure.clip(5, 6).memory[1] < 500


def test_a_small_run_that_waits_keeps_a_small_chunk() -> None:
    chunk = b"".join(b"%d|B\n" % number for number in [*range(1_000), 2_000])
    large, small = _events.Decoder().feed(chunk)[0]
    assert small.memory[1] < 500 < len(chunk) < large.memory[1]


# What the compiled twin refuses, lest it read or write what is not its own.


def test_a_run_refuses_a_number_that_it_does_not_have() -> None:
    (run,) = _events.Decoder().feed(b"4|B\n5|B\n")[0]
    for number in (0, 3, 6, 2**63 - 1, 2**64, -1):
        with pytest.raises(ValueError, match="does not have"):
            run.line(number)
    for first, end in [(6, 8), (1, 4), (5, 5)]:
        with pytest.raises(ValueError, match="none of these"):
            run.clip(first, end)


def test_a_graph_refuses_a_recipient_twice_and_one_that_is_not_connected() -> None:
    people = _graph.FollowGraph()
    recipient = _graph.Recipient(1)
    with pytest.raises(KeyError):
        people.disconnect(recipient)
    people.connect(recipient)
    with pytest.raises(ValueError, match="connected already"):
        people.connect(recipient)
    with pytest.raises(TypeError):
        people.connect(graph.Recipient(2))
    people._check()


def test_a_fanout_refuses_what_is_not_of_its_twin() -> None:
    with pytest.raises(TypeError):
        _fanout.Fanout(graph.FollowGraph())
    (run,) = events.Decoder().feed(b"1|B\n")[0]
    with pytest.raises(TypeError):
        _fanout.Fanout(_graph.FollowGraph()).route([run])
