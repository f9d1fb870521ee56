"""Owns the truth: which bytes the protocol says each connected client must receive.

Must never know sockets, or what a server did. The expected bytes of ten million events and 100
clients are 3.5 GB, so they are never kept: a client's expectation is a list of digests of
consecutive blocks of its stream, and diagnosis makes the bytes of a block again when it needs them.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from simulator.stream.workload import (
    BROADCAST,
    FOLLOW,
    PRIVATE,
    STATUS,
    Chunk,
    Shuffler,
    Step,
    Workload,
)

MAX_BLOCK = 64 * 1024
MIN_BLOCK = 4 * 1024
_ALL_BLOCKS = 64 * 1024 * 1024

# A block of 64 KiB takes 48 us with SHA-256 (1.4 GB/s, where the processor has instructions for
# it), 20 us with crc32, 90 us with blake2b: strong costs 2 s more for 3.5 GB, so strong it is.
digest = hashlib.sha256


def block_size(clients: int) -> int:
    """The block in bytes: each client has a buffer of one, and all of them fit into 64 MiB."""
    size = MAX_BLOCK
    while size > MIN_BLOCK and size * clients > _ALL_BLOCKS:
        size //= 2
    return size


class Oracle:
    """Routes the stream for the users given; everybody else's part of the graph is not kept.

    Nothing is lost by that: who follows a user matters only for those followers who are connected,
    and a follow or unfollow by anybody else changes nothing that a connected client can see.
    """

    def __init__(self, users: Sequence[int]) -> None:
        self._client_of = {user: client for client, user in enumerate(users)}
        self._followers: dict[int, set[int]] = {}

    def route(self, step: Step) -> Iterator[list[int]]:
        """For each client in turn, which of the step's events it receives, as ascending indices.

        Clients with nothing of their own are all given the same list, that of the broadcasts.
        """
        own: list[list[int]] = [[] for _ in self._client_of]
        broadcasts: list[int] = []
        client_of, followers = self._client_of, self._followers
        columns = zip(step.kinds, step.senders, step.recipients, strict=True)
        for index, (kind, sender, recipient) in enumerate(columns):
            if kind == STATUS:
                for client in followers.get(sender, ()):
                    own[client].append(index)
            elif kind == BROADCAST:
                broadcasts.append(index)
            else:
                if kind in (FOLLOW, PRIVATE) and recipient in client_of:
                    own[client_of[recipient]].append(index)
                if kind != PRIVATE and sender in client_of:
                    self._change(kind, client_of[sender], recipient)
        for events in own:
            # Two ascending runs: sorting merges them in one pass.
            yield sorted(events + broadcasts) if events else broadcasts

    def _change(self, kind: int, client: int, followed: int) -> None:
        if kind == FOLLOW:
            self._followers.setdefault(followed, set()).add(client)
        else:
            self._followers.get(followed, set()).discard(client)


class Expectation:
    """What one client must receive: digests of whole blocks, then one of the rest, and the size."""

    def __init__(self, block: int) -> None:
        self.block = block
        self.digests: list[bytes] = []
        self.bytes = 0
        self.events = 0
        self.last_line = b""
        self.last_number = 0
        self._open = digest()
        self._room = block

    def add(self, payload: bytes, events: int) -> None:
        """Appends the next bytes of the stream."""
        self.events += events
        self.bytes += len(payload)
        rest = memoryview(payload)
        while len(rest) >= self._room:
            self._open.update(rest[: self._room])
            rest = rest[self._room :]
            self._close_block()
        self._open.update(rest)
        self._room -= len(rest)

    def finish(self) -> None:
        """No more bytes come: the block that is open, if it has any, is the last."""
        if self._room < self.block:
            self._close_block()

    def size_of(self, number: int) -> int:
        """The bytes in block `number`, counted from 0; 0 behind the last."""
        return max(0, min(self.block, self.bytes - number * self.block))

    def _close_block(self) -> None:
        self.digests.append(self._open.digest())
        self._open = digest()
        self._room = self.block


class Prepared(NamedTuple):
    """All that a play needs."""

    feeds: list[list[Chunk]]  # one for each source
    expectations: list[Expectation]  # one for each client, in the order of connecting


def prepare(workload: Workload, block: int, progress: Callable[[int], None]) -> Prepared:
    """The whole stream as each source will send it, and what each client must receive.

    `progress` is told the number of events prepared after every step.
    """
    oracle = Oracle(workload.connected)
    shufflers = [Shuffler(workload, feed) for feed in range(workload.sources)]
    expectations = [Expectation(block) for _ in workload.connected]
    feeds: list[list[Chunk]] = [[] for _ in shufflers]
    for step in workload.steps():
        for chunks, shuffler in zip(feeds, shufflers, strict=True):
            chunks.append(shuffler.add(step.lines))
        _expect(expectations, oracle.route(step), step)
        progress(step.first + len(step.lines) - 1)
    for chunks, shuffler in zip(feeds, shufflers, strict=True):
        chunks.append(shuffler.rest())
    for expectation in expectations:
        expectation.finish()
    return Prepared([[chunk for chunk in chunks if chunk.events] for chunks in feeds], expectations)


def _expect(expectations: list[Expectation], routed: Iterator[list[int]], step: Step) -> None:
    line_at = step.lines.__getitem__
    previous: list[int] = []
    payload = b""
    for expectation, indices in zip(expectations, routed, strict=True):
        if indices is not previous:
            payload = b"".join(map(line_at, indices))
            previous = indices
        expectation.add(payload, len(indices))
        if indices:
            expectation.last_line = line_at(indices[-1])
            expectation.last_number = step.first + indices[-1]
