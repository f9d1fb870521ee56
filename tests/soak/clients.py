"""The clients of the soak; each checks every byte that it receives."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import gevent
from end_to_end.peers import Address, Client, until
from faults.peers import NarrowClient

from .stream import USERS, Stream

MAX_BUFFERED_BYTES = 200_000
"""More than the server and both kernels buffer for a client that does not read."""


class Checked:
    """A client that checks each received line against the round's stream.

    It may connect in mid-stream. From its first line on it must receive every line for its user,
    in order, byte for byte.
    """

    def __init__(self, client: Client, user: int) -> None:
        self.client = client
        self.user = user
        self.half_line = b""
        self.lines = 0
        self.ended = False
        self.begin(None, 0)

    def begin(self, stream: Stream | None, index: int | None) -> None:
        """Begin a round; ``index`` is that of the next line, or None if any line may be first."""
        self._expected = stream.expected[self.user] if stream else []
        self._index_of = {line: index for index, line in enumerate(self._expected)}
        self.index = index

    def read(self, size: int = 1 << 16) -> bool:
        """Wait for bytes and check them; return False at the end of the connection."""
        data = self.client._receive(size)
        if not data:
            self.ended = True
            return False
        *lines, self.half_line = (self.half_line + data).split(b"\n")
        for line in lines:
            self._check(line + b"\n")
        return True

    def read_on(self) -> None:
        """Read until the connection ends."""
        while self.read():
            pass

    def has_all(self) -> bool:
        """Return whether the client got the last line for its user, and nothing after it."""
        return self.index == len(self._expected) and not self.half_line

    def _check(self, line: bytes) -> None:
        if self.index is None:
            assert line in self._index_of, f"user {self.user} got {line!r}, which is not for them"
            self.index = self._index_of[line]
        expected = self._expected[self.index] if self.index < len(self._expected) else None
        assert line == expected, f"user {self.user} got {line!r}, not {expected!r}"
        self.index += 1
        self.lines += 1


class Visitors:
    """Clients that connect, stay for a while and leave in every possible way.

    ``sessions`` is the file in which the server records when sessions begin and end.
    """

    def __init__(
        self, address: Address, sessions: Path, pick: random.Random, stream: Stream
    ) -> None:
        self.arrived = 0
        self.lines = 0
        self._address = address
        self._sessions = sessions
        self._sessions_at = sessions.stat().st_size  # earlier lines belong to other rounds
        self._sent_bytes = 0
        self._awaits_session = False
        self._pick = pick
        self._stream = stream
        self._greenlets: list[gevent.Greenlet[..., None]] = []

    def send_in(self, sent_bytes: int) -> None:
        """Start another visitor when ``sent_bytes`` of the stream have been sent.

        If the visitor relies on the rest of the stream, return when its session has begun:
        otherwise it could begin after the last line, and wait forever.
        """
        self._sent_bytes = sent_bytes
        habits: list[Callable[[], None]] = [self._leave, self._reset, self._half_close]
        habits += [self._stay, self._stall, self._send_no_id, self._send_bad_id, self._keep_sending]
        self.arrived += 1
        habit = self._pick.choice(habits)
        self._awaits_session = habit in (self._stay, self._stall)
        self._greenlets.append(gevent.spawn(habit))
        until(
            lambda: not self._awaits_session or self._greenlets[-1].ready(),
            "a visitor's session to begin",
        )

    def await_all(self, seconds: float) -> None:
        """Wait until the last visitor has left; raise an error that any visitor has found."""
        done = gevent.joinall(self._greenlets, timeout=seconds, raise_error=True)
        assert len(done) == len(self._greenlets), "a visitor did not leave"

    def _enter(self, *, narrow: bool = False) -> Checked:
        user = self._pick.choice(USERS)
        client = NarrowClient(self._address, user) if narrow else Client(self._address)
        if not narrow:
            client.send(b"%d\n" % user)
        visitor = Checked(client, user)
        visitor.begin(self._stream, None)
        return visitor

    def _await_session(self, visitor: Checked) -> None:
        until(lambda: self._recorded(visitor, "begins"), f"user {visitor.user}'s session to begin")
        self._awaits_session = False

    def _recorded(self, visitor: Checked, event: str) -> bool:
        """Return whether the server has recorded the event for the visitor's session."""
        port = visitor.client.sock.getsockname()[1]
        with self._sessions.open() as file:
            file.seek(self._sessions_at)
            return f"{port} {event}\n" in file.readlines()

    def _read_for_a_while(self, visitor: Checked) -> None:
        with gevent.Timeout(self._pick.uniform(0.0, 1.5), False):  # type: ignore[arg-type]
            visitor.read_on()
        assert not visitor.ended, f"user {visitor.user} was disconnected"
        self.lines += visitor.lines

    def _leave(self) -> None:
        visitor = self._enter()
        self._read_for_a_while(visitor)
        visitor.client.close()

    def _reset(self) -> None:
        visitor = self._enter()
        self._read_for_a_while(visitor)
        visitor.client.reset()

    def _half_close(self) -> None:
        visitor = self._enter()
        self._read_for_a_while(visitor)
        visitor.client.half_close()
        visitor.read_on()
        visitor.client.close()

    def _stay(self) -> None:
        """Stay until the round's last line."""
        visitor = self._enter()
        self._await_session(visitor)
        while not visitor.has_all():
            assert visitor.read(), f"user {visitor.user} was disconnected"
        self.lines += visitor.lines
        visitor.client.close()

    def _stall(self) -> None:
        """Read a little, then nothing for 3 s, or until the session is closed as stalled."""
        visitor = self._enter(narrow=True)
        self._await_session(visitor)
        wide_bytes = self._stream.wide_bytes if self._sent_bytes <= self._stream.wide_at else 0
        with gevent.Timeout(1.0, False):  # type: ignore[arg-type]
            visitor.read(500)
        if wide_bytes > MAX_BUFFERED_BYTES:
            until(lambda: self._recorded(visitor, "stalled"), "a stalled session to be closed")
        else:
            gevent.sleep(3.0)
        with gevent.Timeout(0.5, False):  # type: ignore[arg-type]
            visitor.read_on()
        self.lines += visitor.lines
        visitor.client.reset()

    def _send_no_id(self) -> None:
        peer = Client(self._address)
        peer.send(self._pick.choice([b"", b"12", b"\r"]) or b"1")
        peer.read_until_closed()
        peer.close()

    def _send_bad_id(self) -> None:
        peer = Client(self._address)
        peer.send_in_background(self._pick.choice([b"x\n", b"1" * 10_000, b"-5\n", b"\n"]))
        assert not peer.read_until_closed()
        peer.close()

    def _keep_sending(self) -> None:
        """Send bytes after the id, all the time."""
        visitor = self._enter()
        sending = visitor.client.send_in_background(self._pick.randbytes(1_000_000))
        self._read_for_a_while(visitor)
        sending.kill()
        visitor.client.close()
