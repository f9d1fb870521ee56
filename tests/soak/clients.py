"""The clients of the soak, each of which checks every byte that it gets."""

from __future__ import annotations

import random
from collections.abc import Callable

import gevent
from end_to_end.peers import Address, Client
from faults.peers import NarrowClient

from .stream import USERS, Stream


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
    """Clients that come, stay for a while and leave in every way there is."""

    def __init__(self, address: Address, pick: random.Random, stream: Stream) -> None:
        self.arrived = 0
        self.lines = 0
        self._address = address
        self._pick = pick
        self._stream = stream
        self._greenlets: list[gevent.Greenlet[..., None]] = []

    def send_in(self) -> None:
        """One more comes."""
        habits: list[Callable[[], None]] = [self._leave, self._reset, self._half_close]
        habits += [self._stay, self._stall, self._say_nothing, self._say_nonsense, self._talk]
        self.arrived += 1
        self._greenlets.append(gevent.spawn(self._pick.choice(habits)))

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

    def _read_for_a_while(self, visitor: Checked) -> None:
        with gevent.Timeout(self._pick.uniform(0.0, 1.5), False):  # type: ignore[arg-type]
            visitor.read_on()
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
        while not visitor.has_all():
            assert visitor.read(), f"user {visitor.user} was disconnected"
        self.lines += visitor.lines
        visitor.client.close()

    def _stall(self) -> None:
        """Read a little, then nothing until the server has had enough, or all is over."""
        visitor = self._enter(narrow=True)
        with gevent.Timeout(1.0, False):  # type: ignore[arg-type]
            visitor.read(500)
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
