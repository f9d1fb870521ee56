"""The core against the model: whatever comes, every client gets the same bytes."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, rule

from maze.core import Decoder, Fanout, FollowGraph, Recipient, ReorderBuffer

from .pair import Pair
from .streams import USERS, chunks, event_lines, lines_of_any_kind, streams

users = st.sampled_from(USERS)
firsts = st.sampled_from([1, 1, 0, 1000, 2**63 - 20])
limits = st.sampled_from([1, 2, 3, 5, 10, 100_000])
policies = st.sampled_from(["skip", "skip", "fail"])
batches = st.sampled_from([1, 2, 5, 1_000_000])
steps = st.sampled_from([1, 2, 1_000_000])
few = st.sampled_from([0, 1, 2, 1_000])


@given(st.data())
def test_every_client_gets_the_bytes_that_the_model_gives(data: st.DataObject) -> None:
    first = data.draw(firsts)
    pair = Pair(
        first, data.draw(limits), data.draw(policies), data.draw(steps), at_once=data.draw(few)
    )
    connected = [pair.connect(user) for user in data.draw(st.lists(users, max_size=6))]
    for _ in range(data.draw(st.integers(1, 2))):
        for chunk in data.draw(streams(first).flatmap(chunks)):
            if not pair.feed(0, chunk):
                break
            if data.draw(st.integers(0, 3)):
                pair.route(data.draw(batches))
            pair.settle(data.draw(few))
            if connected and not data.draw(st.integers(0, 3)):
                pair.disconnect(connected.pop(data.draw(st.integers(0, len(connected) - 1))))
            if not data.draw(st.integers(0, 3)):
                connected.append(pair.connect(data.draw(users)))
        pair.close(0)
        if data.draw(st.booleans()):
            pair.end_stream(data.draw(batches))
    pair.route()


@given(st.data())
def test_two_feeds_of_one_stream_deliver_what_the_model_delivers(data: st.DataObject) -> None:
    pair = Pair(limit=data.draw(limits))
    for user in USERS:
        pair.connect(user)
    stream = data.draw(streams())
    feeds = [data.draw(chunks(stream)), data.draw(chunks(stream))]
    while any(feeds):
        source = data.draw(st.sampled_from([index for index in (0, 1) if feeds[index]]))
        if not pair.feed(source, feeds[source].pop(0)):
            feeds[source].clear()
        pair.route()
    for source in (0, 1):
        pair.close(source)
    pair.end_stream()


def delivered(pieces: list[bytes], batch: int, first: int = 1) -> dict[int, bytes]:
    """What a session of each user gets of a stream, without a limit."""
    decoder, reorder, fanout = Decoder(), ReorderBuffer(first), Fanout(FollowGraph())
    received = dict.fromkeys(USERS, b"")
    for user in USERS:
        fanout.graph.connect(Recipient(user))
    for piece in pieces:
        for run in decoder.feed(piece)[0]:
            assert reorder.add(run) == []
        while reorder.ready:
            payloads, _ = fanout.route(reorder.take_ready(batch))
            for recipient, payload in payloads:
                received[recipient.user] += b"".join(payload.parts)
    assert reorder.waiting == 0
    return received


@given(st.data())
def test_what_is_delivered_depends_neither_on_arrival_nor_on_cuts_nor_on_batches(
    data: st.DataObject,
) -> None:
    lines = [data.draw(event_lines(number)) for number in range(1, data.draw(st.integers(1, 40)))]
    shuffled = b"".join(data.draw(st.permutations(lines)))
    in_order = delivered(lines, 1)
    assert delivered(data.draw(chunks(shuffled)), data.draw(batches)) == in_order
    for received in in_order.values():
        places = [lines.index(line) for line in received.splitlines(keepends=True)]
        assert places == sorted(set(places))


class Maze(RuleBasedStateMachine):
    """Sources, clients and the router, each doing what it does at any time."""

    sessions = Bundle("sessions")

    @initialize(first=firsts, limit=limits, policy=policies, step=steps, at_once=few)
    def start(self, first: int, limit: int, policy: str, step: int, at_once: int) -> None:
        self.pair = Pair(first, limit, policy, step, at_once)
        self.unsent = {0: b"", 1: b""}

    @rule(target=sessions, user=users)
    def connect(self, user: int) -> str:
        return self.pair.connect(user)

    @rule(session=consumes(sessions))
    def disconnect(self, session: str) -> None:
        self.pair.disconnect(session)

    @rule(
        source=st.sampled_from([0, 0, 0, 1]),
        offsets=st.lists(st.integers(-4, 12), min_size=1, max_size=12),
        data=st.data(),
    )
    def send(self, source: int, offsets: list[int], data: st.DataObject) -> None:
        """Send lines with numbers around the one that is missing, up to any byte of the last."""
        near = [min(max(0, self.pair.model.missing() + offset), 2**63 - 1) for offset in offsets]
        lines = [data.draw(lines_of_any_kind(number)) for number in near]
        stream = self.unsent[source] + b"".join(lines)
        cut = len(stream) - data.draw(st.integers(0, len(lines[-1])))
        self.unsent[source] = stream[cut:]
        if not self.pair.feed(source, stream[:cut]):
            self.close(source)

    @rule(source=st.sampled_from([0, 1]))
    def fill_the_gap(self, source: int) -> None:
        """Send the number that is missing, behind what the source has not sent yet."""
        missing = b"%d|B\n" % min(self.pair.model.missing(), 2**63 - 1)
        stream, self.unsent[source] = self.unsent[source] + missing, b""
        if not self.pair.feed(source, stream):
            self.close(source)

    @rule(source=st.sampled_from([0, 1]))
    def leave(self, source: int) -> None:
        self.close(source)

    @rule(limit=st.sampled_from([1, 1, 2, 5]))
    def settle(self, limit: int) -> None:
        self.pair.settle(limit)

    @rule(offset=st.integers(-2, 14))
    def give_up_gaps(self, offset: int) -> None:
        """Give up the missing numbers below a number around the one that is missing."""
        self.pair.give_up_gaps(max(0, self.pair.model.missing() + offset))

    @rule()
    def give_up_what_has_waited(self) -> None:
        """Give up the missing numbers below the highest number that waits."""
        self.pair.give_up_gaps(self.pair.core.reorder.end)

    @rule(batch=batches)
    def route(self, batch: int) -> None:
        self.pair.route(batch)

    @rule(batch=batches)
    def end_stream(self, batch: int) -> None:
        for source in (0, 1):
            self.close(source)
        self.pair.end_stream(batch)

    def close(self, source: int) -> None:
        self.unsent[source] = b""
        self.pair.close(source)


TestMaze = Maze.TestCase
TestMaze.settings = settings(stateful_step_count=40)
