"""The clients of the soak, each of which checks every byte that it gets."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import gevent
from end_to_end.peers import Address, Client, until
from faults.peers import NarrowClient

from .stream import USERS, Stream

SURELY_FULL_BYTES = 200_000
"""more than the server and both kernels hold for a client that does not read"""


class Checked:
    """A client that holds what it receives against the round's stream, line by line.

    It may come in mid-stream: whatever line comes first, from there on it must get every line
    that is meant for its user, in order, byte for byte.
    """

    def __init__(self, client: Client, user: int) -> None:
        self.client = client
        self.user = user
        self.half_line = b""
        self.lines = 0
        self.ended = False
        self.begin(None, 0)

    def begin(self, stream: Stream | None, place: int | None) -> None:
        """A round begins; ``place`` is that of the line that must come next, if it is known."""
        self._expected = stream.expected[self.user] if stream else []
        self._places = {line: place for place, line in enumerate(self._expected)}
        self.place = place

    def read(self, size: int = 1 << 16) -> bool:
        """Wait for something and check it; false at the end of the connection."""
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
        """It got the last line that is meant for it, and nothing behind it."""
        return self.place == len(self._expected) and not self.half_line

    def _check(self, line: bytes) -> None:
        if self.place is None:
            assert line in self._places, f"user {self.user} got {line!r}, which is not for them"
            self.place = self._places[line]
        wanted = self._expected[self.place] if self.place < len(self._expected) else None
        assert line == wanted, f"user {self.user} got {line!r}, and not {wanted!r}"
        self.place += 1
        self.lines += 1


class Visitors:
    """Clients that come, stay for a while and leave in every way there is.

    ``sessions`` is the file in which the server tells when sessions begin and end.
    """

    def __init__(
        self, address: Address, sessions: Path, pick: random.Random, stream: Stream
    ) -> None:
        self.arrived = 0
        self.lines = 0
        self._address = address
        self._sessions = sessions
        self._sessions_at = sessions.stat().st_size  # what is before is of other rounds
        self._sent_bytes = 0
        self._outside = 0
        self._pick = pick
        self._stream = stream
        self._greenlets: list[gevent.Greenlet[..., None]] = []

    def send_in(self, sent_bytes: int) -> None:
        """One more comes, when so much of the stream is sent.

        Returns once they are in, if they count on what is sent next: who came behind the
        last line would wait for it in vain.
        """
        self._sent_bytes = sent_bytes
        habits: list[Callable[[], None]] = [self._leave, self._reset, self._half_close]
        habits += [self._stay, self._stall, self._say_nothing, self._say_nonsense, self._talk]
        self.arrived += 1
        habit = self._pick.choice(habits)
        self._outside = int(habit in (self._stay, self._stall))
        self._greenlets.append(gevent.spawn(habit))
        until(lambda: not self._outside or self._greenlets[-1].ready(), "a visitor to be let in")

    def all_gone(self, seconds: float) -> None:
        """Wait until the last has left; raises what any of them found wrong."""
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

    def _come_in(self, visitor: Checked) -> None:
        """Wait for the session to begin."""
        until(lambda: self._was_told(visitor, "begins"), f"user {visitor.user}'s session to begin")
        self._outside = 0

    def _was_told(self, visitor: Checked, what: str) -> bool:
        """Whether the server has told this of the visitor's session."""
        port = visitor.client.sock.getsockname()[1]
        with self._sessions.open() as file:
            file.seek(self._sessions_at)
            return f"{port} {what}\n" in file.readlines()

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
        self._come_in(visitor)
        while not visitor.has_all():
            assert visitor.read(), f"user {visitor.user} was disconnected"
        self.lines += visitor.lines
        visitor.client.close()

    def _stall(self) -> None:
        """Read a little, then nothing until the server has had enough, or all is over."""
        visitor = self._enter(narrow=True)
        self._come_in(visitor)
        wide_bytes = self._stream.wide_bytes if self._sent_bytes <= self._stream.wide_at else 0
        with gevent.Timeout(1.0, False):  # type: ignore[arg-type]
            visitor.read(500)
        if wide_bytes > SURELY_FULL_BYTES:
            until(lambda: self._was_told(visitor, "stalled"), "who does not read to be cut off")
        else:
            gevent.sleep(3.0)
        with gevent.Timeout(0.5, False):  # type: ignore[arg-type]
            visitor.read_on()
        self.lines += visitor.lines
        visitor.client.reset()

    def _say_nothing(self) -> None:
        stranger = Client(self._address)
        stranger.send(self._pick.choice([b"", b"12", b"\r"]) or b"1")
        stranger.read_until_closed()
        stranger.close()

    def _say_nonsense(self) -> None:
        stranger = Client(self._address)
        stranger.send_in_background(self._pick.choice([b"x\n", b"1" * 10_000, b"-5\n", b"\n"]))
        assert not stranger.read_until_closed()
        stranger.close()

    def _talk(self) -> None:
        """Say more than the id, all the time."""
        visitor = self._enter()
        talking = visitor.client.send_in_background(self._pick.randbytes(1_000_000))
        self._read_for_a_while(visitor)
        talking.kill()
        visitor.client.close()
