"""The outbox: the payloads queued for one client, and the sends that empty the queue.

Payloads leave in sends of about 48 KB if many are queued, and at once if not. Nothing here waits:
what the kernel does not accept stays queued, and the outbox calls its owner, which has to call
``advance`` later. This module must not use greenlets.

``maze.core._compiled.outbox`` is the compiled version; ``implementation`` chooses between the two.
"""

import sys
from collections.abc import Iterable, Sequence
from typing import Protocol, cast

from maze.core import Payload, Recipient
from maze.net.connection import MAX_PARTS, SEND_BYTES, Connection, unsent_parts

PAYLOAD_BYTES = 240
"""Memory of a queued payload without its bytes (measured). In light traffic it is the larger
part."""


class Queue(Protocol):
    """The part of a gevent queue that the outbox uses."""

    def put(self, payload: Payload, /) -> None:
        """Add a payload without waiting."""

    def get(self) -> Payload:
        """Remove and return the oldest payload. Only called if there is one."""

    def empty(self) -> bool:
        """Return whether the queue is empty."""


class QueuedMemory:
    """The memory queued for all clients together; what several clients share counts once."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


class Outbox(Recipient):
    """The queue of one recipient, and the payloads sent in part.

    - ``connection``: the client's connection; its socket does not block.
    - ``queued_bytes``: bytes of the payloads that are queued or not sent completely.
    - ``held_bytes``: memory that these payloads would take if they were not shared.
    - ``pushed_bytes``: all bytes ever queued.
    - ``sent_bytes``: how many of these bytes the kernel has accepted.
    - ``writing``: whether the owner is sending; while it is, ``flush`` does nothing.

    Payloads are queued unencrypted, so that what sessions share is held once. Bytes that the
    connection has encrypted and not sent count in ``QueuedMemory``, too.
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
        self._unsent_bytes = 0  # the connection's, as counted in ``queued_memory``
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
        """Send what the kernel accepts at once; call ``on_blocked`` if anything is left.

        A connection that encrypts gets only one send per flush: encrypting a large batch for a
        thousand clients would take too long. An error goes to ``on_error``, not to the caller, as
        it concerns this client only.
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
        """Send until nothing is left, with at most ``sends`` sends; return whether nothing is left.

        Raise OSError if the connection is broken.
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
                connection.send_unsent()  # encrypted bytes, and messages of the protocol itself
        except BlockingIOError:
            return False
        finally:
            if not connection.direct:
                self._count_unsent()
        return True

    def discard(self) -> int:
        """Free everything queued; return how many bytes of it were not sent."""
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
        """Called when the kernel accepts no more; the owner has to send, then clear ``writing``."""
        raise NotImplementedError

    def on_error(self, error: Exception) -> None:
        """Called when a flush fails, usually because the connection is broken."""
        raise NotImplementedError

    def _count_unsent(self) -> None:
        """Update the part of the queued memory that is encrypted and not sent."""
        unsent_bytes = self.connection.unsent_bytes
        self._queued_memory.bytes += unsent_bytes - self._unsent_bytes
        self._unsent_bytes = unsent_bytes

    def _gather(self) -> None:
        """Take as many payloads from the queue as one send should carry."""
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
    """Queue each recipient's payload; return the recipients, which have to be outboxes."""
    outboxes = []
    for recipient, payload in cast("Iterable[tuple[Outbox, Payload]]", payloads):
        recipient.push(payload)
        outboxes.append(recipient)
    return outboxes


def flush_all(outboxes: Iterable[Outbox], limit: int) -> list[Outbox]:
    """Flush the outboxes; return those that still hold more than ``limit`` bytes."""
    full = []
    for outbox in outboxes:
        outbox.flush()
        if outbox.held_bytes > limit:
            full.append(outbox)
    return full
