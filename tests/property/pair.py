"""Core and model side by side: whatever is done, is done to both, and compared."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

import pytest

from maze.core import (
    Decoder,
    Fanout,
    FollowGraph,
    Recipient,
    Reject,
    ReorderBuffer,
    ReorderBufferFullError,
)
from maze.core.graph import AT_ONCE
from maze.core.reorder import STEP_READY

from .grammar import parse
from .model import Model
from .streams import LINE_LIMIT, USERS


class Core:
    """The core, put together as the server does it."""

    def __init__(self, first: int, limit: int, gap_policy: str, step: int, at_once: int) -> None:
        self.decoders: dict[int, Decoder] = {}
        self.reorder = ReorderBuffer(first, limit, gap_policy, step=step)
        self.fanout = Fanout(FollowGraph(at_once=at_once), keeps_undelivered=True)
        self.undelivered: list[bytes] = []
        self.rejects = Counter[str]()
        self.recipients: dict[str, Recipient] = {}
        self.received: defaultdict[str, bytes] = defaultdict(bytes)

    def count(self, rejects: Iterable[Reject]) -> None:
        for reject in rejects:
            self.rejects[reject.reason.value] += reject.count

    def feed(self, source: int, data: bytes) -> bool:
        decoder = self.decoders.setdefault(source, Decoder(LINE_LIMIT))
        runs, rejects = decoder.feed(data)
        self.count(rejects)
        for run in runs:
            self.count(self.reorder.add(run))
            self.reorder._check()
        return not decoder.overflowed

    def in_steps(self, give_up: Callable[[], list[Reject]]) -> None:
        """Have the reorder buffer finish what it does in steps."""
        while (rejects := give_up()) or self.reorder.advance():
            self.count(rejects)
            self.reorder._check()

    def route(self, batch: int) -> None:
        while self.reorder.ready:
            payloads, rest = self.fanout.route(self.reorder.take_ready(batch), batch, 5 * batch)
            self.reorder.put_back(rest)
            self.reorder._check()
            self.undelivered += [event.line for event in self.fanout.undelivered]
            received = dict(payloads)
            assert len(received) == len(payloads)
            for name, recipient in self.recipients.items():
                if payload := received.pop(recipient, None):
                    data = b"".join(payload.parts)
                    assert len(data) == payload.size
                    assert data.endswith(b"\n")
                    self.received[name] += data
            assert not received


class Pair:
    """Both of them; every method checks the invariants and compares."""

    def __init__(
        self,
        first: int = 1,
        limit: int = 100_000,
        gap_policy: str = "skip",
        step: int = STEP_READY,
        at_once: int = AT_ONCE,
    ) -> None:
        self.limit, self.gap_policy = limit, gap_policy
        self.core = Core(first, limit, gap_policy, step, at_once)
        self.model = Model(first, LINE_LIMIT)
        self.sessions = 0

    def connect(self, user: int) -> str:
        self.sessions += 1
        name = f"session {self.sessions} of user {user}"
        self.model.clients[name] = (user, [])
        self.core.recipients[name] = Recipient(user)
        self.core.fanout.graph.connect(self.core.recipients[name])
        self.compare()
        return name

    def disconnect(self, name: str) -> None:
        self.core.fanout.graph.disconnect(self.core.recipients.pop(name))
        del self.model.clients[name]
        self.core.received.pop(name, None)
        self.compare()

    def settle(self, limit: int) -> None:
        """Enter and leave some audiences, of which the model knows nothing."""
        self.core.fanout.graph.settle(limit)
        self.compare()

    def feed(self, source: int, data: bytes) -> bool:
        """Take a chunk in and apply the gap policy; false if the source has to be closed."""
        fits = self.core.feed(source, data)
        assert self.model.feed(source, data) == fits
        waiting = len(self.model.waiting())
        if self.gap_policy == "fail" and waiting > self.limit:
            with pytest.raises(ReorderBufferFullError) as full:
                self.core.in_steps(self.core.reorder.enforce_limit)
            assert (full.value.missing, full.value.waiting) == (self.model.missing(), waiting)
            fits = False
        else:
            self.core.in_steps(self.core.reorder.enforce_limit)
            self.model.give_up_gaps(self.limit)
        self.compare()
        return fits

    def route(self, batch: int = 1_000_000) -> None:
        self.core.route(batch)
        self.model.route()
        self.compare()
        assert self.core.reorder.next_sequence == self.model.next

    def give_up_gaps(self, below: int) -> None:
        """Give up the missing numbers below a number."""
        reorder = self.core.reorder
        self.core.in_steps(lambda: reorder.give_up_gaps(below))
        self.model.give_up_gaps(below=below)
        self.compare()
        assert not reorder.waiting or reorder.missing_sequence >= min(below, reorder.end)

    def close(self, source: int) -> None:
        """The source has ended, or was closed: what it left of a line is dropped."""
        self.model.finish(source)
        if source in self.core.decoders:
            self.core.count(self.core.decoders.pop(source).finish())
        self.compare()

    def end_stream(self, batch: int = 1_000_000) -> None:
        """The last source has left, with ``reset``."""
        self.core.in_steps(self.core.reorder.give_up_gaps)
        self.model.give_up_gaps()
        self.compare()
        assert self.core.reorder.waiting == 0
        self.route(batch)
        self.core.fanout.graph.clear()
        self.core.reorder.reset()
        self.model.reset()
        self.compare()

    def compare(self) -> None:
        core, model = self.core, self.model
        core.reorder._check()
        core.fanout.graph._check()
        assert core.rejects == +model.rejects
        assert core.undelivered == model.undelivered
        kinds = Counter(parse(line)[2] for line in model.undelivered)
        assert Counter(core.fanout.undelivered_counts()) == kinds
        missing = model.missing()
        assert core.reorder.missing_sequence == missing
        assert core.reorder.waiting == len(model.waiting())
        assert core.reorder.ready == sum(number < missing for number in model.held)
        assert core.reorder.end == max([missing, *(number + 1 for number in model.held)])
        waiting = model.waiting()
        assert core.reorder.gap == ((missing, waiting[0]) if waiting else None)
        for user in {*USERS, *model.follows}:
            assert core.fanout.graph.following(user) == model.follows.get(user, set())
        for name, (_, received) in model.clients.items():
            assert core.received[name] == b"".join(received)
