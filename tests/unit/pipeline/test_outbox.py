"""The outbox of one client, over a real pair of sockets, in both implementations."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

import pytest
from gevent.queue import SimpleQueue

from maze.core import Recipient, payload
from maze.net.connection import Connection
from maze.pipeline import outbox as pure_outbox
from maze.pipeline.implementation import Outbox
from maze.pipeline.outbox import PAYLOAD_BYTES

TWINS: list[tuple[ModuleType, ModuleType]] = [(pure_outbox, payload)]
try:
    from maze.core._compiled import outbox as _outbox
    from maze.core._compiled import payload as _payload
except ImportError:  # not built: only the pure twin is tested
    pass
else:
    TWINS.append((_outbox, _payload))

Parts = list[bytes | memoryview]


class Pair:
    """An outbox of one twin, and the client's end of its connection."""

    def __init__(self, outbox: Any, payload: Any) -> None:
        server, self.client = socket.socketpair()
        server.setblocking(False)
        self.client.setblocking(False)
        for end, option in ((server, socket.SO_SNDBUF), (self.client, socket.SO_RCVBUF)):
            end.setsockopt(socket.SOL_SOCKET, option, 4096)
        self.server = server
        self.module = outbox
        self.queued_memory = outbox.QueuedMemory()
        self.blocked = 0
        self.errors: list[Exception] = []
        self.queue: Any = SimpleQueue()
        pair = self

        class Box(outbox.Outbox):  # type: ignore[misc]
            def on_blocked(self) -> None:
                pair.blocked += 1

            def on_error(self, error: Exception) -> None:
                pair.errors.append(error)

        self._box = Box
        self.box: Any = self.over(Connection(server))
        self.payloads = payload

    def over(self, connection: Connection) -> Any:
        """Return an outbox that sends over the given connection."""
        return self._box(7, connection, self.queue, self.queued_memory)

    def payload(self, *parts: bytes | memoryview, tape: bytes = b"", own: int = -1) -> Any:
        size = sum(map(len, parts))
        return self.payloads.Payload(
            list(parts), size, size if own < 0 else own, self.payloads.Tape(tape)
        )

    def push(self, *parts: bytes | memoryview) -> None:
        self.box.push(self.payload(*parts))

    def received(self) -> bytes:
        """Return everything that can be read now."""
        data = b""
        while True:
            try:
                more = self.client.recv(65536)
            except BlockingIOError:
                return data
            if not more:
                return data
            data += more

    def drain(self) -> bytes:
        """Advance and read in turn until nothing is left; return what was read."""
        data = b""
        while not self.box.advance():
            data += self.received()
        return data + self.received()

    def close(self) -> None:
        self.server.close()
        self.client.close()


@pytest.fixture(params=TWINS, ids=lambda twin: twin[0].__name__.rpartition(".")[2])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    pair = Pair(*request.param)
    yield pair
    pair.close()


@pytest.fixture
def other(pair: Pair) -> Iterator[Pair]:
    other = Pair(pair.module, pair.payloads)
    yield other
    other.close()


def lines(count: int, seed: int = 1) -> list[bytes]:
    draw = random.Random(seed)
    return [b"%d|%s\n" % (number, b"x" * draw.randrange(300)) for number in range(count)]


def test_pushed_payloads_are_sent_only_when_flushed(pair: Pair) -> None:
    pair.push(b"1|B\n", b"2|B\n")
    assert pair.received() == b""
    held = 8 + PAYLOAD_BYTES  # both lines are parts of one payload
    assert (pair.box.queued_bytes, pair.box.held_bytes, pair.queued_memory.bytes) == (8, held, held)
    pair.box.flush()
    assert pair.received() == b"1|B\n2|B\n"
    assert (pair.box.queued_bytes, pair.box.sent_bytes, pair.queued_memory.bytes) == (0, 8, 0)
    assert not pair.blocked
    assert not pair.errors


def test_many_outboxes_are_pushed_to_and_flushed_together(pair: Pair, other: Pair) -> None:
    payloads = [(pair.box, pair.payload(b"1|B\n")), (other.box, other.payload(b"x" * 50_000))]
    assert pair.module.push_all(payloads) == [pair.box, other.box]
    assert pair.module.flush_all([pair.box, other.box], 10_000) == [other.box]
    assert pair.received() == b"1|B\n"
    assert (pair.blocked, other.blocked) == (0, 1)
    other.drain()
    assert pair.module.flush_all([pair.box, other.box], 0) == []
    with pytest.raises((TypeError, AttributeError)):
        pair.module.push_all([(object(), pair.payload(b"1|B\n"))])


def test_nothing_to_send_is_no_error(pair: Pair) -> None:
    pair.box.flush()
    assert pair.box.advance() is True
    assert not pair.blocked
    assert not pair.errors


def test_queued_payloads_are_sent_in_order_and_completely(pair: Pair) -> None:
    expected = b""
    for number, line in enumerate(lines(100)):
        pair.push(line, memoryview(b"--%d--" % number)[1:])
        expected += line + b"-%d--" % number
    assert pair.drain() == expected
    assert pair.box.sent_bytes == len(expected)
    assert (pair.box.queued_bytes, pair.box.held_bytes, pair.queued_memory.bytes) == (0, 0, 0)


@pytest.mark.parametrize(
    "parts",
    [
        [b"x" * 1_000_000],
        [memoryview(b"y" * 700_000), b"z" * 300_000],
        [b"%d\n" % number for number in range(3_000)],
        [b"a" * 100_000, b"b", memoryview(b"c" * 100_000)] * 3,
    ],
    ids=["one large", "two large", "more than one call takes", "large and small"],
)
def test_a_payload_that_the_kernel_accepts_in_pieces(pair: Pair, parts: Parts) -> None:
    pair.push(*parts)
    pair.push(b"the end\n")
    pair.box.flush()
    expected = b"".join(parts) + b"the end\n"
    if len(expected) > 100_000:
        assert pair.blocked == 1
        assert pair.box.writing
        assert pair.box.queued_bytes == len(expected), (
            "a payload was released before it was sent completely"
        )
    assert pair.drain() == expected
    assert (pair.box.queued_bytes, pair.box.held_bytes, pair.queued_memory.bytes) == (0, 0, 0)


def test_flush_does_nothing_while_the_owner_writes(pair: Pair) -> None:
    pair.box.writing = True
    pair.push(b"1|B\n")
    pair.box.flush()
    assert pair.received() == b""
    pair.box.writing = False
    pair.box.flush()
    assert pair.received() == b"1|B\n"


def test_shared_memory_is_counted_once(pair: Pair) -> None:
    tape = b"t" * 5_000
    shared = pair.payload(tape, tape=tape, own=0)
    pair.box.push(shared)
    pair.box.push(shared)
    own = 2 * PAYLOAD_BYTES
    assert pair.box.queued_bytes == 10_000
    assert (pair.box.held_bytes, pair.queued_memory.bytes) == (10_000 + own, 5_000 + own)
    assert pair.drain() == tape * 2
    assert pair.queued_memory.bytes == 0


def test_discard_frees_what_is_queued_and_what_was_sent_in_part(pair: Pair) -> None:
    pair.push(b"x" * 1_000_000)
    pair.push(b"y" * 10)
    pair.box.flush()
    assert pair.blocked == 1
    sent_bytes = pair.box.sent_bytes
    assert sent_bytes
    assert pair.box.discard() == 1_000_010 - sent_bytes
    assert (pair.box.queued_bytes, pair.box.held_bytes, pair.queued_memory.bytes) == (0, 0, 0)
    assert pair.queue.empty()
    pair.box.writing = False
    before = pair.received()
    pair.box.flush()
    assert pair.received() == b"", "bytes were sent after the cut"
    assert set(before) == set(b"x")


@pytest.mark.parametrize("parts", [[b"1|B\n"], [b"1|B\n", b"2|B\n"]])
def test_a_broken_connection_is_reported_to_its_owner(pair: Pair, parts: Parts) -> None:
    pair.client.close()
    pair.push(*parts)
    pair.box.flush()
    (error,) = pair.errors
    assert isinstance(error, BrokenPipeError)
    assert error.strerror == "Broken pipe"
    with pytest.raises(BrokenPipeError):
        pair.box.advance()
    assert pair.box.discard() == sum(map(len, parts))


def test_an_error_in_on_blocked_is_reported_to_the_owner(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("provoked by a test")

    monkeypatch.setattr(type(pair.box), "on_blocked", fail)
    pair.push(b"x" * 1_000_000)
    pair.box.flush()
    assert [str(error) for error in pair.errors] == ["provoked by a test"]


@pytest.mark.parametrize("method", ["on_blocked", "on_error"])
def test_the_owner_has_to_implement_the_callbacks(pair: Pair, method: str) -> None:
    base = type(pair.box).__mro__[1]
    arguments = [ValueError()] if method == "on_error" else []
    with pytest.raises(NotImplementedError):
        getattr(base, method)(pair.box, *arguments)


def test_an_outbox_is_a_recipient_of_its_user(pair: Pair) -> None:
    assert pair.box.user == 7
    assert issubclass(Outbox, Recipient), "of the implementation in use"


def test_random_pushes_and_reads_deliver_the_bytes_that_were_pushed(pair: Pair) -> None:
    draw = random.Random(666)
    expected = received = b""
    for _ in range(300):
        parts: Parts = [
            b"%d" % draw.randrange(10) * draw.choice([1, 20, 5_000])
            for _ in range(draw.randrange(1, 5))
        ]
        pair.push(*parts)
        expected += b"".join(parts)
        pair.box.flush()
        if draw.random() < 0.3:
            received += pair.received()
        if draw.random() < 0.5:
            pair.box.writing = not pair.box.advance()
    received += pair.drain()
    assert received == expected
    assert (pair.box.queued_bytes, pair.box.held_bytes, pair.queued_memory.bytes) == (0, 0, 0)


# Over a connection that encrypts.


class Slow(Connection):
    """A connection that encrypts. Every other send is blocked; the others accept five bytes.

    ``own`` is the number of bytes that the connection itself has to send.
    """

    direct = False

    def __init__(self, own: int = 0) -> None:
        self.descriptor = -1
        self.unsent_bytes = own
        self.taken = b""
        self.given: list[bytes] = []
        self.refuses = False

    def send(self, parts: Sequence[bytes | memoryview]) -> int:
        self.refuses = not self.refuses
        data = b"".join(parts)
        self.given.append(data)
        if self.refuses:
            self.unsent_bytes = 9
            raise BlockingIOError
        self.unsent_bytes = 0
        self.taken += data[:5]
        return len(data[:5])

    def send_unsent(self) -> None:
        if self.unsent_bytes:
            self.unsent_bytes -= 1
            raise BlockingIOError

    def drop_unsent(self) -> None:
        self.unsent_bytes = 0


class Quick(Slow):
    """A connection that encrypts and accepts five bytes with each send."""

    def send(self, parts: Sequence[bytes | memoryview]) -> int:
        self.refuses = True
        return super().send(parts)


class Broken(Slow):
    """A connection that is broken."""

    def send(self, _: Sequence[bytes | memoryview]) -> int:
        raise ConnectionResetError(104, "Connection reset by peer")


def test_payloads_are_sent_through_a_connection_that_encrypts(pair: Pair) -> None:
    slow = Slow()
    box = pair.over(slow)
    box.push(pair.payload(b"1|B\n", memoryview(b"2222|B\n")))
    box.push(pair.payload(b"3|B\n"))
    box.flush()
    assert (pair.blocked, box.queued_bytes) == (1, 15)
    while not box.advance():
        pass
    assert slow.taken == b"1|B\n2222|B\n3|B\n"
    assert slow.given[::2] == slow.given[1::2], "the parts refused were not passed again unchanged"
    assert (box.queued_bytes, box.sent_bytes, pair.queued_memory.bytes) == (0, 15, 0)


@pytest.mark.parametrize("together", [False, True])
def test_a_flush_encrypts_no_more_than_one_send(pair: Pair, together: bool) -> None:
    quick = Quick()
    box = pair.over(quick)
    box.push(pair.payload(b"1|B\n2|B\n3|B\n"))
    if together:
        assert pair.module.flush_all([box], 0) == [box]
    else:
        box.flush()
    assert quick.taken == b"1|B\n2"
    assert (pair.blocked, box.writing) == (1, True), "the rest was not left to the writer"
    assert box.advance() is True
    assert quick.taken == b"1|B\n2|B\n3|B\n"


def test_a_flush_of_no_more_than_one_send_leaves_nothing_to_the_writer(pair: Pair) -> None:
    box = pair.over(Quick())
    box.push(pair.payload(b"1|B\n"))
    box.flush()
    assert (pair.blocked, box.writing, box.queued_bytes) == (0, False, 0)


def test_encrypted_bytes_that_are_not_sent_count_as_held(pair: Pair) -> None:
    box = pair.over(Slow())
    box.push(pair.payload(b"1|B\n"))
    before = pair.queued_memory.bytes
    assert box.advance() is False
    assert pair.queued_memory.bytes == before + 9
    assert box.advance() is True
    assert pair.queued_memory.bytes == 0


def test_the_connection_s_own_bytes_are_sent_and_count_as_held(pair: Pair) -> None:
    box = pair.over(Slow(own=3))
    box.flush()
    assert (pair.blocked, box.writing, pair.queued_memory.bytes) == (1, True, 2)
    assert [box.advance() for _ in range(3)] == [False, False, True]
    assert pair.queued_memory.bytes == 0


def test_discard_drops_encrypted_bytes(pair: Pair) -> None:
    slow = Slow()
    box = pair.over(slow)
    box.push(pair.payload(b"1|B\n"))
    box.flush()
    assert box.discard() == 4
    assert (slow.unsent_bytes, pair.queued_memory.bytes) == (0, 0)
    assert box.advance() is True
    assert (slow.taken, pair.queued_memory.bytes) == (b"", 0)


def test_an_error_of_the_connection_is_reported_to_the_owner(pair: Pair) -> None:
    box = pair.over(Broken())
    box.push(pair.payload(b"1|B\n"))
    box.flush()
    assert [type(error) for error in pair.errors] == [ConnectionResetError]
