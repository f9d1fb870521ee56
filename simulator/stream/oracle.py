"""Compute from the protocol which bytes each connected client must receive.

The expected bytes of ten million events and 100 clients are 3.5 GB, so they are not kept. A
client's expectation is a list of digests of consecutive blocks of its stream. Diagnosis generates
the bytes again.
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
"""Bounds of the size of a block; bytes."""

_MAX_ALL_BLOCKS = 64 * 1024 * 1024
"""Maximum total size of one block per client; bytes. MIN_BLOCK takes precedence."""

digest = hashlib.sha256
"""Digest of a block. 64 KiB take 48 us with SHA-256 (on a processor with instructions for it),
20 us with CRC-32 and 90 us with BLAKE2b, so a strong digest costs only 2 s more for 3.5 GB."""


def block_size(clients: int) -> int:
    """Return the largest block size in bytes that the bounds allow for so many clients."""
    size = MAX_BLOCK
    while size > MIN_BLOCK and size * clients > _MAX_ALL_BLOCKS:
        size //= 2
    return size


class Oracle:
    """Routes the stream to the given users, and keeps only the follows by them.

    Follows by other users change nothing that a connected client receives.
    """

    def __init__(self, users: Sequence[int]) -> None:
        self._client_of = {user: client for client, user in enumerate(users)}
        self._followers: dict[int, set[int]] = {}

    def route(self, step: Step) -> Iterator[list[int]]:
        """Yield for each client the ascending indices of the events in the step that it receives.

        Clients that receive only broadcasts share one list.
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
            # Sorting merges two ascending runs in one pass.
            yield sorted(events + broadcasts) if events else broadcasts

    def _change(self, kind: int, client: int, followed: int) -> None:
        if kind == FOLLOW:
            self._followers.setdefault(followed, set()).add(client)
        else:
            self._followers.get(followed, set()).discard(client)


class Expectation:
    """The stream that one client must receive: its size, and the digests of its blocks.

    The last block may be short.
    """

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
        """Append the next bytes of the stream."""
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
        """Close the last block."""
        if self._room < self.block:
            self._close_block()

    def size_of(self, number: int) -> int:
        """Return the bytes in block ``number``, counted from 0; 0 after the last block."""
        return max(0, min(self.block, self.bytes - number * self.block))

    def _close_block(self) -> None:
        self.digests.append(self._open.digest())
        self._open = digest()
        self._room = self.block


class Prepared(NamedTuple):
    """The prepared stream: what is sent, and what must be received."""

    feeds: list[list[Chunk]]  # one for each source
    expectations: list[Expectation]  # one for each client, in the order of connecting


def prepare(workload: Workload, block: int, progress: Callable[[int], None]) -> Prepared:
    """Prepare the whole stream as each source sends it, and what each client must receive.

    Call ``progress`` after every step with the number of events prepared so far.
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
