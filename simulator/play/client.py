"""Receive as a user client, and compare the bytes with the expected ones.

The comparison is of digests of blocks. A client keeps the block that it is receiving. After a
mismatch, it keeps that block and as many bytes again for diagnosis, and then only counts.
"""

import logging
import socket
import time
from typing import NamedTuple

from simulator.play.timestamps import Timestamps
from simulator.play.tls import NOT_NOW, hang_up, raise_if_refused, reason
from simulator.stream.oracle import Expectation, digest

log = logging.getLogger("simulator")

_SCRATCH = bytearray(64 * 1024)
"""Buffer for bytes that are not compared with a block."""


class EndedError(Exception):
    """The connection has ended. The message says how."""


def receive(connection: socket.socket, target: bytearray | memoryview) -> int:
    """Receive what is available; return its size. Raise EndedError or RefusedError."""
    try:
        size = connection.recv_into(target)
    except NOT_NOW:
        return 0
    except OSError as error:
        raise_if_refused(error)
        raise EndedError(f"reset by the server ({reason(error)})") from None
    if not size:
        raise EndedError("closed by the server")
    return size


class WrongAnswer(NamedTuple):
    """What the server told a client about its position, and what is wrong with it."""

    expected: bytes | None  # None: more than one line would have been right
    received: bytes | None  # None: nothing was received
    why: str


class Evidence(NamedTuple):
    """What a client received that is not what was expected."""

    user: int
    start: int  # offset of ``kept`` in the stream; all bytes before it are verified
    kept: bytes
    whole: bool  # whether ``kept`` has all bytes received after ``start``
    fate: str  # what became of the connection
    wrong: WrongAnswer | None = None  # after the bytes in ``kept``


class Client:
    """A connected user whose id has been sent."""

    def __init__(
        self,
        user: int,
        connection: socket.socket,
        expected: Expectation,
        *,
        timestamps: Timestamps | None = None,
        lines: bool = False,
    ) -> None:
        self.user = user
        self.connection = connection
        self.expected = expected
        self.received = 0
        self.timestamps = timestamps  # of the reads, if the client is timed
        self.closed_by: str | None = None  # how the connection ended
        self.gave_up = False
        self.resumed = 0  # times that the server accepted the client's position
        self._log_lines = lines
        # One block, allocated on the first read so that it does not delay the source.
        self._buffer = memoryview(b"")
        self._filled = 0
        self._number = 0
        self._due = 0
        self._kept: bytearray | None = None  # set when no more blocks can be verified
        self._kept_from = 0
        self._next_block()

    @property
    def complete(self) -> bool:
        """Whether everything expected was received, and nothing more so far."""
        return self.received == self.expected.bytes and self._kept_from == self.received

    @property
    def failed(self) -> bool:
        """Whether events are missing or wrong, or the server closed the connection."""
        return not self.complete or self.closed_by is not None

    @property
    def finished(self) -> bool:
        """Whether more bytes could neither change nor explain the verdict."""
        enough = self._kept is not None and len(self._kept) >= 2 * self.expected.block
        return self.complete or enough or self.closed_by is not None

    @property
    def acts_now(self) -> bool:
        """False: a client stays connected and never stalls, unlike those of other classes."""
        return False

    @property
    def delivered(self) -> int:
        """Events received; estimated from the bytes if incomplete."""
        share = min(1.0, self.received / max(1, self.expected.bytes))
        return int(self.expected.events * share)

    def read(self) -> int:
        """Receive what is available, up to the end of the block; return the number of bytes."""
        target = self._room()
        size = self._receive(target)
        if not size:
            return 0
        self._log_received(target[:size])
        self._took(size)
        if self.timestamps is not None:
            self.timestamps.add(time.monotonic(), self.received)
        return size

    def give_up(self, seconds: float) -> None:
        """Disconnect after waiting ``seconds`` for a new message."""
        self.gave_up = True
        self._closed(f"given up by the client, {seconds:g} s after its last message,")
        hang_up(self.connection)

    def evidence(self) -> Evidence:
        """Return what diagnosis needs, for a client that failed."""
        fate = self.closed_by or f"connection still open after {self.received:,} bytes"
        if self._kept is None:
            start = self.received - self._filled
            return Evidence(self.user, start, bytes(self._buffer[: self._filled]), True, fate)
        whole = self._kept_from + len(self._kept) == self.received
        return Evidence(self.user, self._kept_from, bytes(self._kept), whole, fate)

    def _receive(self, target: bytearray | memoryview) -> int:
        try:
            return receive(self.connection, target)
        except EndedError as ended:
            self._closed(str(ended))
            return 0

    def _log_received(self, data: bytes | bytearray | memoryview) -> None:
        if self._log_lines:
            for line in bytes(data).splitlines(keepends=True):
                log.debug("client %d received %r", self.user, line)

    def _room(self) -> bytearray | memoryview:
        """Return where the next bytes of the stream belong."""
        if self._kept is not None:
            return _SCRATCH
        if not self._buffer:
            self._buffer = memoryview(bytearray(self.expected.size_of(0)))
        return self._buffer[self._filled : self._due]

    def _took(self, size: int) -> None:
        """Count bytes that were put there, and verify the block when it is full."""
        self.received += size
        if self._kept is not None:
            if len(self._kept) < 2 * self.expected.block:
                self._kept += _SCRATCH[:size]
            return
        self._filled += size
        if self._filled == self._due:
            self._verify()

    def _verify(self) -> None:
        block = self._buffer[: self._due]
        log.debug("client %d received block %d, %d bytes", self.user, self._number, self._due)
        if digest(block).digest() == self.expected.digests[self._number]:
            self._number += 1
            self._filled = 0
            self._next_block()
        else:
            log.debug("client %d: block %d does not match", self.user, self._number)
            self._keep(bytes(block))

    def _next_block(self) -> None:
        self._due = self.expected.size_of(self._number)
        if not self._due:
            self._keep(b"")

    def _keep(self, received: bytes) -> None:
        self._kept = bytearray(received)
        self._kept_from = self.received - len(received)

    def _closed(self, how: str) -> None:
        self.closed_by = f"connection {how} after {self.received:,} bytes"
        log.debug("client %d: %s", self.user, self.closed_by)
