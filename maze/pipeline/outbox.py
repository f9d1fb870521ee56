"""What waits for one client, and the send that empties it.

Payloads go through a queue and leave in sends of some 48 KB when busy, at once
when idle. Nothing here waits: what the kernel does not take now is left, and
whoever owns the outbox is told to come back. It must never know greenlets.

``maze.core._compiled.outbox`` is the compiled twin; ``implementation`` decides which one serves.
"""

import sys
from collections.abc import Iterable, Sequence
from typing import Protocol, cast

from maze.core import Payload, Recipient
from maze.net.connection import MAX_PARTS, SEND_BYTES, Connection, unsent_parts

PAYLOAD_BYTES = 240
"""what a queued payload takes beside its bytes, measured; of thin traffic it is the larger part"""


class Queue(Protocol):
    """What is needed of a queue of gevent's."""

    def put(self, payload: Payload, /) -> None:
        """Add a payload; never waits."""

    def get(self) -> Payload:
        """Take the oldest payload; only called if there is one."""

    def empty(self) -> bool:
        """Whether there is none."""


class QueuedMemory:
    """The memory that waits for all clients together; what several share counts once."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


class Outbox(Recipient):
    """The queue of one recipient, and the payloads that were sent in part.

    ``connection`` is the client's, whose socket does not block.
    ``queued_bytes`` is what waits for this client, ``held_bytes`` the memory that
    takes, were it not shared, ``pushed_bytes`` all that ever came for it,
    ``sent_bytes`` what of that the kernel has taken. While ``writing``
    is true, its owner sends, and ``flush`` does nothing.

    Payloads stay queued in the clear, so that what sessions share is held once. What the
    connection has encrypted and not sent counts as held, too.
    """

    __slots__ = (
        "_in_hand",
        "_parts",
        "_queue",
        "_queued_memory",
        "_unsent_bytes",
        "connection",
        "held_bytes",
        "pushed_bytes",
        "queued_bytes",
        "sent_bytes",
        "writing",
    )

    def __init__(
        self, user: int, connection: Connection, queue: Queue, queued_memory: QueuedMemory
    ) -> None:
        super().__init__(user)
        self.queued_bytes = 0
        self.held_bytes = 0
        self.pushed_bytes = 0
        self.sent_bytes = 0
        self.writing = False
        self.connection = connection
        self._unsent_bytes = 0  # of the connection, as counted in what is held
        self._queue = queue
        self._queued_memory = queued_memory
        self._in_hand: list[Payload] = []
        self._parts: Sequence[bytes | memoryview] = ()

    def push(self, payload: Payload) -> None:
        """Queue a payload."""
        self.queued_bytes += payload.size
        self.held_bytes += payload.size + PAYLOAD_BYTES
        self.pushed_bytes += payload.size
        self._queued_memory.bytes += payload.hold() + PAYLOAD_BYTES
        self._queue.put(payload)

    def flush(self) -> None:
        """Send what the kernel takes at once; then ``on_blocked`` if that was not all.

        Only one send goes through a connection that encrypts: to encrypt a large batch for a
        thousand clients takes too long for one go. An error goes to ``on_error``: it is this
        client's, not the caller's.
        """
        if self.writing:
            return
        try:
            if not self.advance(sys.maxsize if self.connection.direct else 1):
                self.writing = True
                self.on_blocked()
        except Exception as error:
            self.on_error(error)

    def advance(self, sends: int = sys.maxsize) -> bool:
        """Send until nothing waits, with at most so many sends; False if anything still does.

        Raises OSError if the connection is broken.
        """
        connection = self.connection
        try:
            while self._parts or not self._queue.empty():
                if not sends:
                    return False
                sends -= 1
                if not self._parts:
                    self._gather()
                sent = connection.send(self._parts[:MAX_PARTS])
                self.sent_bytes += sent
                self._parts = unsent_parts(sent, self._parts)
                if not self._parts:
                    self._release_in_hand()
            if not connection.direct:
                connection.send_unsent()  # what the connection itself has to say
        except BlockingIOError:
            return False
        finally:
            if not connection.direct:
                self._count_unsent()
        return True

    def discard(self) -> int:
        """Free all that waits; returns how many bytes of it were not sent."""
        sent_in_hand = sum(payload.size for payload in self._in_hand) - sum(map(len, self._parts))
        lost_bytes = self.queued_bytes - sent_in_hand
        self.connection.drop_unsent()
        self._count_unsent()
        self._parts = ()
        self._release_in_hand()
        while not self._queue.empty():
            self._release(self._queue.get())
        return lost_bytes

    def on_blocked(self) -> None:
        """The kernel takes no more for now; ``writing`` is true until the owner changes it."""
        raise NotImplementedError

    def on_error(self, error: Exception) -> None:
        """The connection is broken."""
        raise NotImplementedError

    def _count_unsent(self) -> None:
        """Have what is encrypted and not sent counted with what is held."""
        unsent_bytes = self.connection.unsent_bytes
        self._queued_memory.bytes += unsent_bytes - self._unsent_bytes
        self._unsent_bytes = unsent_bytes

    def _gather(self) -> None:
        """Take payloads in hand, as much as one send should carry."""
        size = 0
        while size < SEND_BYTES and not self._queue.empty():
            payload = self._queue.get()
            self._in_hand.append(payload)
            size += payload.size
        if len(self._in_hand) == 1:
            self._parts = self._in_hand[0].parts
        else:
            self._parts = [part for payload in self._in_hand for part in payload.parts]

    def _release(self, payload: Payload) -> None:
        self.queued_bytes -= payload.size
        self.held_bytes -= payload.size + PAYLOAD_BYTES
        self._queued_memory.bytes -= payload.release() + PAYLOAD_BYTES

    def _release_in_hand(self) -> None:
        for payload in self._in_hand:
            self._release(payload)
        self._in_hand.clear()


def push_all(payloads: Iterable[tuple[Recipient, Payload]]) -> list[Outbox]:
    """Queue each recipient's payload; returns the recipients, which have to be outboxes."""
    outboxes = []
    for recipient, payload in cast("Iterable[tuple[Outbox, Payload]]", payloads):
        recipient.push(payload)
        outboxes.append(recipient)
    return outboxes


def flush_all(outboxes: Iterable[Outbox], limit: int) -> list[Outbox]:
    """Flush them; returns those that still hold more than the limit, in bytes."""
    full = []
    for outbox in outboxes:
        outbox.flush()
        if outbox.held_bytes > limit:
            full.append(outbox)
    return full
