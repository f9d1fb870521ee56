"""What a client that comes back gets, against what one that never left would have got."""

from collections import defaultdict
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maze.core import (
    BehindError,
    Decoder,
    Fanout,
    FollowGraph,
    Recent,
    Recipient,
    ReorderBuffer,
    Replay,
    lines_of,
)
from maze.core.recent import RUN_BYTES

USERS = range(3)
MANY = 10**9

users = st.sampled_from(USERS)
ends = st.sampled_from(["\n", "\n", "\r\n"])
texts = st.one_of(
    st.tuples(st.sampled_from("FFFUU"), users, users, ends),
    st.tuples(st.sampled_from("FFFUUP"), users, users, ends),
    st.tuples(st.just("S"), users, ends),
    st.tuples(st.just("S"), users, ends),
    st.sampled_from([("B", "\n"), ("X", "\n"), ("gap",)]),  # X: a void line
)
batch_bounds = st.sampled_from([(MANY, MANY), (MANY, MANY), (20, MANY), (MANY, 50), (1, 1)])
recent_bounds = st.sampled_from(
    [(MANY, MANY), (MANY, MANY), (20, MANY), (5, MANY), (0, MANY), (MANY, 3_000), (20, 700)]
)
few = st.sampled_from([1, 2, 3, 7, MANY])


class Model:
    """Who follows whom, and the lines of each user by number; one event at a time."""

    def __init__(self, max_users: int, max_follows: int, max_follows_per_user: int) -> None:
        self.max_users, self.max_follows = max_users, max_follows
        self.max_per_user = max_follows_per_user
        self.reset()

    def reset(self) -> None:
        self.following = defaultdict[int, set[int]](set)
        self.lines = dict[int, bytes]()
        self.owned = defaultdict[int, dict[int, bytes]](dict)

    def follow(self, follower: int, followed: int) -> None:
        mine = self.following[follower]
        follows = sum(map(len, self.following.values()))
        newcomer = not mine and sum(map(bool, self.following.values())) >= self.max_users
        if follows < self.max_follows and len(mine) < self.max_per_user and not newcomer:
            mine.add(followed)

    def route(self, number: int, line: bytes) -> None:
        self.lines[number] = line
        kind, *fields = line.decode().split("|")[1:]
        ids = list(map(int, fields))
        if kind == "F":
            self.follow(*ids)
        elif kind == "U":
            self.following[ids[0]].discard(ids[1])
        for user in USERS:
            to_target = kind in "FP" and ids[1] == user
            to_follower = kind == "S" and ids[0] in self.following[user]
            if kind.startswith("B") or to_target or to_follower:
                self.owned[user][number] = line

    def missed(self, user: int, first: int, end: int) -> bytes:
        owned = self.owned[user]
        return b"".join(owned[number] for number in sorted(owned) if first <= number < end)


@dataclass
class Client:
    """A client that came back, and what it got so far."""

    user: int
    first: int
    replay: Replay
    times_begun: int
    got: bytes = b""


class World:
    """A stream that is routed, what is kept of it, and clients that resume at any place of it."""

    def __init__(
        self, first: int, bounds: tuple[int, int, int], max_events: int, max_bytes: int
    ) -> None:
        self.bounds = max_events, max_bytes
        self.reorder = ReorderBuffer(first)
        self.fanout = Fanout(FollowGraph(*bounds, at_once=1))
        self.model = Model(*bounds)
        self.recent = Recent(max_events, max_bytes)
        self.recent.begin(first)
        self.first = self.number = first
        self.unrouted: dict[int, bytes] = {}
        self.clients: list[Client] = []

    def lines(self, events: list[tuple[object, ...]]) -> list[bytes]:
        """Give the events the next numbers."""
        lines = []
        for event in events:
            if event != ("gap",):
                *fields, end = map(str, event)
                line = ("|".join([str(self.number), *fields]) + end).encode()
                lines.append(line)
                if event[0] != "X":
                    self.unrouted[self.number] = line
            self.number += 1
        return lines

    def feed(self, lines: list[bytes], chunk: int) -> None:
        """Feed lines in chunks; gaps are given up."""
        for start in range(0, len(lines), chunk):
            data = b"".join(lines[start : start + chunk])
            assert self.reorder.add(*Decoder().feed(data)[0]) == []
        self.reorder.give_up_gaps()

    def route(self, limit: int, payload_bytes: int, batch_bytes: int) -> None:
        runs = self.reorder.take_ready(limit)
        _, rest = self.fanout.route(runs, payload_bytes, batch_bytes)
        self.reorder.put_back(rest)
        self.recent.add(runs, self.reorder.next_sequence)
        for number in sorted(self.unrouted):
            if number < self.reorder.next_sequence:
                self.model.route(number, self.unrouted.pop(number))
        self.check_recent()

    def check_recent(self) -> None:
        recent = self.recent
        runs = list(recent.runs_from(recent.kept_from))
        assert list(recent.runs_before(recent.end)) == runs[::-1]
        assert not any(run.void for run in runs)
        kept = {n: line for n, line in self.model.lines.items() if n >= recent.kept_from}
        assert lines_of(runs) == b"".join(kept.values())
        assert recent.end == self.reorder.next_sequence
        assert recent.events == len(kept) <= self.bounds[0]
        memory = sum(dict(run.memory for run in runs).values())
        assert recent.bytes == memory + RUN_BYTES * len(runs) <= self.bounds[1]

    def resume(self, user: int, first: int) -> None:
        following = self.fanout.graph.following(user)
        assert following == self.model.following[user]
        replay = Replay(self.recent, user, following, first)
        assert replay.next == first
        assert replay.is_complete == (first == self.recent.end)
        self.clients.append(Client(user, first, replay, self.recent.times_begun))

    def step(self, client: Client, max_events: int, max_bytes: int) -> None:
        """Take a step; forget the client if it is too far behind."""
        replay, before = client.replay, client.replay.next
        if self.recent.kept_from > before or client.times_begun != self.recent.times_begun:
            assert not replay.is_complete
            with pytest.raises(BehindError):
                replay.step(max_events, max_bytes)
            self.clients.remove(client)
            return
        got = replay.step(max_events, max_bytes)
        client.got += got
        assert client.got == self.model.missed(client.user, client.first, replay.next)
        looked_at = sum(before <= number < replay.next for number in self.model.lines)
        assert looked_at <= max_events
        assert sum(map(len, got.splitlines(keepends=True)[:-1])) < max_bytes
        assert replay.is_complete == (replay.next == self.recent.end)

    def reset(self) -> None:
        """Begin another sequence, as when the last source has left."""
        self.reorder.reset()
        self.fanout.graph.clear()
        self.model.reset()
        self.unrouted.clear()
        self.number = self.first
        self.recent.begin(self.first)
        self.check_recent()

    def complete(self, max_events: int, max_bytes: int) -> None:
        """Let all clients catch up."""
        for client in list(self.clients):
            events = sum(number >= client.first for number in self.model.lines)
            for _ in range(2 * events + 3):  # back, forward, and a step that finds nothing
                if client.replay.is_complete or client not in self.clients:
                    break
                self.step(client, max_events, max_bytes)
            else:
                pytest.fail("the replay makes no progress")


@given(st.data())
def test_who_comes_back_gets_what_it_would_have_got(data: st.DataObject) -> None:
    draw = data.draw
    world = World(
        draw(st.sampled_from([1, 0, 2**63 - 1_000])),
        draw(st.sampled_from([(MANY, MANY, MANY), (2, MANY, MANY), (MANY, 3, MANY), (3, 5, 2)])),
        *draw(recent_bounds),
    )
    for user in draw(st.sets(users)):
        world.fanout.graph.connect(Recipient(user))
    for _ in range(draw(st.integers(1, 3))):
        lines = world.lines(draw(st.lists(texts, min_size=10, max_size=30)))
        chunk = draw(st.sampled_from([1, 5, MANY, MANY]))
        world.feed(draw(st.one_of(st.just(lines), st.permutations(lines))), chunk)
        for _ in range(draw(st.integers(1, 4))):
            world.route(draw(few), *draw(batch_bounds))
            if world.clients:
                client = draw(st.sampled_from(world.clients))
                world.step(client, draw(few), draw(st.sampled_from([MANY, 20, 1])))
            world.resume(draw(users), draw(st.integers(world.recent.kept_from, world.recent.end)))
        if draw(st.integers(0, 9)) == 9:
            world.reset()
        world.route(MANY, MANY, MANY)
        for first in draw(st.sets(st.integers(world.recent.kept_from, world.recent.end))):
            for user in USERS:
                world.resume(user, first)
    world.complete(draw(few), draw(st.sampled_from([MANY, 20, 1])))


@given(kept=st.integers(0, 5), before=st.integers(1, 5), after=st.integers(1, 5))
def test_who_is_elsewhere_is_told(kept: int, before: int, after: int) -> None:
    world = World(10, (MANY, MANY, MANY), kept, MANY)
    world.feed(world.lines([("B", "\n")] * 8), 1)
    world.route(MANY, MANY, MANY)
    with pytest.raises(ValueError, match="above all"):
        Replay(world.recent, 1, (), world.recent.end + after)
    with pytest.raises(BehindError):
        Replay(world.recent, 1, (), world.recent.kept_from - before)
