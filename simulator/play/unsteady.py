"""Receive as an unsteady client: one that stalls, leaves, or leaves and returns.

It is not known in advance where the stream of such a client is cut, so what it receives is kept in
a file. ``verdict.unsteady_verification`` compares it after the play.
"""

import logging
import socket
from collections.abc import Sequence
from random import Random
from tempfile import TemporaryFile
from typing import IO, NamedTuple

from simulator.play.client import EndedError, receive
from simulator.play.tls import abort, hang_up
from simulator.stream.oracle import Expectation

log = logging.getLogger("simulator")

STALL, LEAVE, RETURN = "stall", "leave", "return"
_SCRATCH = bytearray(64 * 1024)
"""Buffer of a read."""

_TAIL_BYTES = 64
"""Bytes kept from the end of a stream, to find its last line; no line is longer."""


class Habit(NamedTuple):
    """What a client does once, after it has received a share of its bytes."""

    kind: str  # STALL, LEAVE or RETURN
    share: float
    abortive: bool  # whether the client leaves with a reset


def habits(
    users: Sequence[int], seed: int, stalling: int, leaving: int, returning: int
) -> dict[int, Habit]:
    """Choose the unsteady users and their habits at random."""
    draw = Random(f"{seed} habits").random
    chosen = sorted(users, key=lambda _user: draw())
    kinds = [STALL] * stalling + [LEAVE] * leaving + [RETURN] * returning
    # Clients act in the first half of the stream, so that it goes on when they return.
    return {
        user: Habit(kind, 0.05 + 0.45 * draw(), draw() < 0.5)
        for user, kind in zip(chosen, kinds, strict=False)
    }


class UnsteadySession:
    """One connection of an unsteady client.

    ``known`` is the highest sequence number that may have been routed before the session began;
    None for a session that was connected from the start.
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
        self.spool: IO[bytes] = TemporaryFile()  # noqa: SIM115, closed by verification
        self.left = False
        self.stalled = 0.0  # seconds
        self.closed_by: str | None = None  # how the connection ended
        self.gave_up = False
        self._acts_at = max(1, int(habit.share * expected.bytes)) if habit else None
        self._tail = b""

    @property
    def acts_now(self) -> bool:
        """Whether the client has received enough bytes to act on its habit now."""
        return self._acts_at is not None and self.received >= self._acts_at

    @property
    def finished(self) -> bool:
        """Whether the session has received everything that it must."""
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
        """Receive what is available, up to where the client acts; return the number of bytes."""
        room = len(_SCRATCH)
        if self._acts_at is not None:
            room = min(room, self._acts_at - self.received)
        target = memoryview(_SCRATCH)[:room]
        try:
            size = receive(self.connection, target)
        except EndedError as ended:
            self._closed(str(ended))
            return 0
        if not size:
            return 0
        self.spool.write(target[:size])
        self._tail = (self._tail + bytes(target[max(0, size - _TAIL_BYTES) : size]))[-_TAIL_BYTES:]
        self.received += size
        return size

    def act(self) -> str:
        """Leave, unless the habit is to stall; return the kind of the habit."""
        assert self.habit is not None
        self._acts_at = None
        kind = self.habit.kind
        log.debug("client %d: %s after %d bytes", self.user, kind, self.received)
        if kind != STALL:
            self.left = True
            (abort if self.habit.abortive else hang_up)(self.connection)
        return kind

    def give_up(self, seconds: float) -> None:
        """Disconnect after waiting ``seconds`` for a new message."""
        self.gave_up = True
        self._closed(f"given up by the client, {seconds:g} s after its last message,")
        hang_up(self.connection)

    def again(self, connection: socket.socket, known: int) -> "UnsteadySession":
        """Return the user's second session."""
        return UnsteadySession(
            self.user, connection, self.expected, None, follows=self, known=known
        )

    def _closed(self, how: str) -> None:
        self.closed_by = f"connection {how} after {self.received:,} bytes"
        log.debug("client %d: %s", self.user, self.closed_by)
