"""Owns the clients that do not stay and read: one stalls, one leaves, one leaves and comes back.

Must never know the workload. What such a client receives is kept in a file, since where its stream
is cut is not known before: `verification` compares it afterwards.
"""

import logging
import socket
import struct
from collections.abc import Sequence
from random import Random
from tempfile import TemporaryFile
from typing import IO, NamedTuple

from simulator.play.client import EndedError, receive
from simulator.play.tls import hang_up
from simulator.stream.oracle import Expectation

log = logging.getLogger("simulator")

STALL, LEAVE, RETURN = "stall", "leave", "return"
_SCRATCH = bytearray(64 * 1024)
_ABORT = struct.pack("ii", 1, 0)
_TAIL = 64  # bytes; no line of a stream is longer


class Habit(NamedTuple):
    """What a client does once, when it has received this share of its bytes."""

    kind: str  # one of the three above
    share: float
    abortive: bool  # leaves with a reset, as if it had vanished


def habits(
    users: Sequence[int], seed: int, stalling: int, leaving: int, returning: int
) -> dict[int, Habit]:
    """Which of the users have which habit; the rest have none."""
    draw = Random(f"{seed} habits").random
    chosen = sorted(users, key=lambda _user: draw())
    kinds = [STALL] * stalling + [LEAVE] * leaving + [RETURN] * returning
    # Whoever comes back does so while half of the stream is still to come.
    return {
        user: Habit(kind, 0.05 + 0.45 * draw(), draw() < 0.5)
        for user, kind in zip(chosen, kinds, strict=False)
    }


class UnsteadySession:
    """One connection of such a client. `known` is the highest number that may have been routed
    before this session began, None for one that was there from the start.
    """

    def __init__(
        self,
        user: int,
        connection: socket.socket,
        expected: Expectation,
        habit: Habit | None,
        *,
        follows: "UnsteadySession | None" = None,
        known: int | None = None,
    ) -> None:
        self.user = user
        self.connection = connection
        self.expected = expected
        self.habit = habit
        self.follows = follows  # the user's first session, if this is the second
        self.known = known
        self.received = 0
        self.spool: IO[bytes] = TemporaryFile()  # noqa: SIM115, closed when it was compared
        self.left = False
        self.stalled = 0.0  # seconds
        self.closed_by: str | None = None  # how the connection ended, in words
        self.gave_up = False
        self._turns_at = max(1, int(habit.share * expected.bytes)) if habit else None
        self._tail = b""

    @property
    def turning(self) -> bool:
        """The time has come for what it does."""
        return self._turns_at is not None and self.received >= self._turns_at

    @property
    def finished(self) -> bool:
        """Nothing more is to come that must come."""
        if self.left or self.closed_by is not None:
            return True
        if self.known is None:
            return self.received >= self.expected.bytes
        late = self.expected.last_number <= self.known
        return late or self._tail.endswith(self.expected.last_line)

    @property
    def delivered(self) -> int:
        """Events received, estimated from the bytes."""
        share = min(1.0, self.received / max(1, self.expected.bytes))
        return int(self.expected.events * share)

    def read(self) -> int:
        """Takes what is there, at most up to where the client turns; returns the bytes."""
        room = len(_SCRATCH)
        if self._turns_at is not None:
            room = min(room, self._turns_at - self.received)
        target = memoryview(_SCRATCH)[:room]
        try:
            size = receive(self.connection, target)
        except EndedError as ended:
            self._closed(str(ended))
            return 0
        if not size:
            return 0
        self.spool.write(target[:size])
        self._tail = (self._tail + bytes(target[max(0, size - _TAIL) : size]))[-_TAIL:]
        self.received += size
        return size

    def turn(self) -> str:
        """What the client does now, once; leaving is done with that."""
        assert self.habit is not None
        self._turns_at = None
        kind = self.habit.kind
        log.debug("client %d: %s after %d bytes", self.user, kind, self.received)
        if kind != STALL:
            self.left = True
            if self.habit.abortive:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
                self.connection.close()
            else:
                hang_up(self.connection)
        return kind

    def give_up(self, seconds: float) -> None:
        """Leave after waiting `seconds` for a new message."""
        self.gave_up = True
        self._closed(f"given up by the client, {seconds:g} s after its last message,")
        hang_up(self.connection)

    def again(self, connection: socket.socket, known: int) -> "UnsteadySession":
        """The user's second session; `known` is as above."""
        return UnsteadySession(
            self.user, connection, self.expected, None, follows=self, known=known
        )

    def _closed(self, how: str) -> None:
        self.closed_by = f"connection {how} after {self.received:,} bytes"
        log.debug("client %d: %s", self.user, self.closed_by)
