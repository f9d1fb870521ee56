"""Receive as a client that leaves, comes back with its position and misses nothing.

Such a client appends a bar to its id, so that the server tells it positions, ``epoch-next``. Only
whole lines count: the client drops a half line when it leaves, and receives that event again when
it comes back. The events of all its connections, without the lines with positions, must be the
user's stream.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from socket import socket
from typing import NamedTuple

from simulator.play.client import Client, EndedError, Evidence, WrongAnswer, receive
from simulator.play.tls import abort, hang_up
from simulator.stream.oracle import Expectation

_INPUT = bytearray(64 * 1024)
"""Buffer of a read."""

_MAX_LINE_BYTES = 64 * 1024
"""Maximum bytes kept while a line is incomplete; no event is that long."""

_POSITION = re.compile(rb"[=!]\|(\d{1,19})-(\d{1,19})\n")
_NUMBER = re.compile(rb"(\d{1,19})\|")


class Position(NamedTuple):
    """Everything of the epoch below number ``next``."""

    epoch: int
    next: int

    def __bytes__(self) -> bytes:
        return b"%d-%d" % self


class Leaving(NamedTuple):
    """One time that a client leaves, after it has read a share of its bytes."""

    share: float
    abortive: bool  # whether it leaves with a reset
    away: float  # seconds until it comes back


def leavings(
    users: Sequence[int], seed: int, count: int, away_time: float
) -> dict[int, tuple[Leaving, ...]]:
    """Choose ``count`` of the users at random, and when each leaves: two or three times."""
    draw = Random(f"{seed} resuming").random
    chosen = sorted(users, key=lambda _user: draw())[:count]
    result = {}
    for user in chosen:
        shares = sorted(0.02 + 0.93 * draw() for _ in range(2 + (draw() < 0.5)))
        result[user] = tuple(Leaving(share, draw() < 0.5, away_time * draw()) for share in shares)
    return result


class ResumingClient(Client):
    """A client whose connection is replaced, while what it expects goes on."""

    def __init__(
        self,
        user: int,
        connection: socket,
        expected: Expectation,
        leavings: Sequence[Leaving] = (),
        *,
        lines: bool = False,
    ) -> None:
        super().__init__(user, connection, expected, lines=lines)
        self.position: Position | None = None
        self.connected = True
        self.back_by = 0.0  # time at which the client, while away, gives up connecting
        self._leavings = list(leavings)
        self._read = 0  # bytes of all connections
        self._half = b""  # the line that is not complete yet
        self._asked: Position | None = None  # the position that came with the id
        self._answered = False
        self._told = False  # whether a position was the last line received
        self._wrong: WrongAnswer | None = None

    @property
    def complete(self) -> bool:
        """Whether everything expected was received, the answer included, and nothing more."""
        return self._answered and not self._half and super().complete

    @property
    def acts_now(self) -> bool:
        """Whether the client has read enough to leave now."""
        return self.position is not None and self._left_to_read() == 0

    @property
    def request(self) -> bytes:
        """What follows the user id when the client connects: a bar and the position, if known."""
        return b"|" + (bytes(self.position) if self.position else b"")

    def read(self) -> int:
        """Receive what is available, up to where the client leaves.

        Return the number of bytes of the stream that are now complete.
        """
        room = self._left_to_read() or len(_INPUT)
        size = self._receive(memoryview(_INPUT)[:room])
        return self._take(size)

    def leave(self) -> float:
        """Disconnect; return the seconds until the client comes back."""
        leaving = self._leavings.pop(0)
        self._disconnect(abortive=leaving.abortive)
        return leaving.away

    def stay(self) -> None:
        """Never leave again."""
        self._leavings.clear()

    def break_off(self, *, read_rest: bool) -> int:
        """Disconnect from a dead server; return the bytes of the stream received in the end.

        ``read_rest`` means that the client first reads what the server had sent.
        """
        before = self.received
        with suppress(EndedError):
            while read_rest and not self.closed_by and (size := receive(self.connection, _INPUT)):
                self._take(size)
        self._disconnect(abortive=False)
        return self.received - before

    def resume(self, connection: socket) -> None:
        """Go on with a new connection, over which ``request`` was sent."""
        self.connection = connection
        self.connected = True
        self._asked = self.position

    def lose(self, how: str) -> None:
        """Stop: the client cannot come back."""
        self.closed_by = how

    def give_up(self, seconds: float) -> None:
        """Disconnect after waiting ``seconds`` for a new message."""
        if not self._answered:
            self._wrong = WrongAnswer(self._due_answer, None, "the server did not tell a position")
        super().give_up(seconds)

    def evidence(self) -> Evidence:
        """Return what diagnosis needs, for a client that failed."""
        evidence = super().evidence()
        fate = evidence.fate if self.connected or self.closed_by else "away when the run ended"
        resumed = f"resumed {self.resumed} time{'' if self.resumed == 1 else 's'}"
        if self._asked is not None:
            resumed += f", with position {bytes(self._asked).decode()} at last"
        return evidence._replace(
            kept=evidence.kept + self._half if evidence.whole else evidence.kept,
            fate=f"{resumed}; {fate}",
            wrong=self._wrong,
        )

    def _left_to_read(self) -> int | None:
        """Return the bytes until the client leaves; None if it stays."""
        if not self._leavings:
            return None
        return max(0, int(self._leavings[0].share * self.expected.bytes) - self._read)

    def _take(self, size: int) -> int:
        """Take so many bytes from the buffer; return those of the stream."""
        self._read += size
        before = self.received
        data = self._half + _INPUT[:size]
        end = data.rfind(b"\n") + 1
        if len(data) - end > _MAX_LINE_BYTES:
            end = len(data)  # not a line, but a fault that the comparison finds
        self._half = data[end:]
        if end:
            self._take_lines(data[:end])
        return self.received - before

    def _take_lines(self, lines: bytes) -> None:
        self._log_received(lines)
        while lines and not self._wrong:
            if self._answered and not self._told and b"=" not in lines and b"!" not in lines:
                self._compare(lines)
                self._note_last(lines[lines.rfind(b"\n", 0, -1) + 1 :])
                return
            end = lines.find(b"\n") + 1 or len(lines)
            line, lines = lines[:end], lines[end:]
            if line.startswith((b"=", b"!")):
                self._take_position(line)
            else:
                self._take_event(line)

    def _compare(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            room = self._room()
            size = min(len(room), len(rest))
            room[:size] = rest[:size]
            self._took(size)
            rest = rest[size:]

    def _note_last(self, line: bytes) -> None:
        """Note the position after the last event received."""
        number = _NUMBER.match(line)
        if number and self.position:
            self.position = Position(self.position.epoch, int(number[1]) + 1)

    def _take_event(self, line: bytes) -> None:
        number = _NUMBER.match(line)
        if not self._answered:
            self._reject(self._due_answer, line, "an event was received before the position")
        elif self._told and self.position and number and int(number[1]) < self.position.next:
            self._reject(None, line, "an event below the position just told was received")
        else:
            self._told = False
            self._compare(line)
            self._note_last(line)

    def _take_position(self, line: bytes) -> None:
        found = _POSITION.fullmatch(line)
        told = Position(int(found[1]), int(found[2])) if found else None
        if told is None:
            self._reject(self._due_answer, line, "the position is malformed")
        elif not self._answered:
            self._check_answer(line, told)
        elif self.position and told < self.position:
            self._reject(b"=|%b\n" % bytes(self.position), line, "the position told goes back")
        elif self.position and line.startswith(b"!") and told.epoch == self.position.epoch:
            self._reject(None, line, "the server no longer keeps what the client must receive")
        if told and not self._wrong:
            self.position, self._told = told, True

    def _check_answer(self, line: bytes, told: Position) -> None:
        if self._asked and line.startswith(b"!"):
            why = "the server no longer keeps what the client missed"
            self._reject(self._due_answer, line, why)
        elif self._asked and told != self._asked:
            self._reject(self._due_answer, line, "the server answered with another position")
        elif line.startswith(b"!"):
            self._reject(None, line, "the server told a loss to a client without a position")
        else:
            self._answered = True
            self.resumed += self._asked is not None

    @property
    def _due_answer(self) -> bytes | None:
        return b"=|%b\n" % bytes(self._asked) if self._asked and not self._answered else None

    def _reject(self, expected: bytes | None, received: bytes, why: str) -> None:
        self._wrong = WrongAnswer(expected, received, why)
        self._half = b""
        self._closed("closed by the client")
        hang_up(self.connection)

    def _disconnect(self, *, abortive: bool) -> None:
        self.connected = self._answered = self._told = False
        self._half = b""
        (abort if abortive else hang_up)(self.connection)
