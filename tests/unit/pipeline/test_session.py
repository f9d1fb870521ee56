"""A session with a fake connection and a fake registry: no socket, no server."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, MutableMapping, Sequence
from typing import TypeVar

import gevent
import pytest
from end_to_end.peers import until
from gevent import Greenlet
from gevent.event import Event
from structlog.testing import capture_logs

from maze.core import IdLine, Payload, Tape
from maze.net.connection import Connection
from maze.net.peer import Peer
from maze.pipeline.implementation import QueuedMemory
from maze.pipeline.session import STALL_CHECKS, CloseReason, Session

Answer = TypeVar("Answer")


class FakeConnection(Connection):
    """A connection with limited room, whose answers a test sets."""

    direct = False

    def __init__(self) -> None:
        self.descriptor, self.client = os.pipe()  # readable if a byte is written to ``client``
        self.room = 1_000
        self.taken = b""
        self.unsent_bytes = 0
        self.unacknowledged = [0]
        """Answers in turn; the last one is repeated."""
        self.said = [b""]
        """What the client sends, in turn; b"" if it leaves. The last one is repeated."""
        self.error: Exception | None = None
        self.writable: Event | None = Event()
        """Set when the kernel accepts more; None if it never does."""
        self.waits = 0
        self.shut_down = False

    def wait_writable(self, seconds: float | None) -> None:
        self.waits += 1
        if self.writable is None or not self.writable.wait(60):
            raise TimeoutError

    def send(self, parts: Sequence[bytes | memoryview]) -> int:
        if self.error:
            raise self.error
        data = b"".join(parts)[: self.room]
        if not data:
            raise BlockingIOError
        self.room -= len(data)
        self.taken += data
        return len(data)

    def send_unsent(self) -> None:
        self.unsent_bytes = 0

    def drop_unsent(self) -> None:
        self.unsent_bytes = 0

    def discard(self) -> int:
        return len(_next(self.said)) or -1

    def shutdown(self) -> None:
        self.shut_down = True

    def unacknowledged_bytes(self) -> int:
        return (
            self.unacknowledged.pop(0) if len(self.unacknowledged) > 1 else self.unacknowledged[0]
        )

    def make_room(self) -> None:
        assert self.writable
        self.room = 1_000
        self.writable.set()


def _next(answers: list[Answer]) -> Answer:
    return answers.pop(0) if len(answers) > 1 else answers[0]


class FakeRegistry:
    """A registry that records what a session reports."""

    def __init__(self) -> None:
        self.queued_memory = QueuedMemory()
        self.stall_timeout = 3600.0
        self.discarded_bytes = 0
        self.entered: list[Session] = []
        self.left: list[CloseReason] = []
        self.progress: list[int] = []
        """Bytes sent in total at each report of progress."""
        self.readable = 0

    def enter(self, session: Session) -> None:
        self.entered.append(session)

    def leave(self, _: Session, reason: CloseReason) -> None:
        self.left.append(reason)

    def on_progress(self, session: Session) -> None:
        self.progress.append(session.sent_bytes)

    def read_soon(self, _: Session) -> None:
        self.readable += 1


class Served:
    """A session of user 7, and the greenlet that serves it."""

    def __init__(self) -> None:
        self.connection, self.registry = FakeConnection(), FakeRegistry()
        self.greenlet: Greenlet[[], None] = gevent.spawn(self._serve)
        until(lambda: self.registry.entered, "the session to begin")
        (self.session,) = self.registry.entered
        until(lambda: self.registry.readable, "the session to schedule a read")

    def _serve(self) -> None:
        Session(IdLine(7), self.connection, Peer(("192.0.2.1", 4711)), self.registry).serve()

    def send(self, data: bytes) -> None:
        self.session.push(Payload([data], len(data), len(data), Tape(b"")))
        self.session.flush()

    def ends(self) -> CloseReason:
        """Wait until the session ends; return why. It has to end exactly once."""
        self.greenlet.join(60)
        assert self.greenlet.ready()
        assert not self.registry.queued_memory.bytes
        (reason,) = self.registry.left
        return reason

    def close(self) -> None:
        self.session.close(CloseReason.STOPPED)
        self.greenlet.join(60)
        os.close(self.connection.client)
        os.close(self.connection.descriptor)


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served()
    yield served
    served.close()


@pytest.fixture
def log() -> Iterator[list[MutableMapping[str, object]]]:
    with capture_logs() as entries:
        yield entries


def test_bytes_that_the_kernel_accepts_are_sent_without_the_writer(served: Served) -> None:
    served.send(b"1|B\n")
    assert served.connection.taken == b"1|B\n"
    gevent.sleep(0)
    assert served.registry.progress == []


def test_blocked_bytes_are_sent_by_the_writer_once_there_is_room(served: Served) -> None:
    served.connection.room = 5
    served.send(b"1|B\n2|B\n")
    until(lambda: served.connection.waits, "the writer to wait")
    assert served.connection.taken == b"1|B\n2"
    assert served.session.writing
    served.send(b"3|B\n")
    assert served.connection.taken == b"1|B\n2", "a later payload overtook what waits"
    served.connection.make_room()
    until(lambda: not served.session.writing, "the writer to have sent it")
    assert served.connection.taken == b"1|B\n2|B\n3|B\n"
    assert served.registry.progress == [5, 12]
    assert not served.registry.queued_memory.bytes


def test_client_that_takes_nothing_stalls(served: Served) -> None:
    served.connection.writable = None
    served.connection.room = 5
    served.connection.unacknowledged = [9]
    served.send(b"1|B\n2|B\n")
    assert served.ends() == CloseReason.STALLED
    assert served.connection.waits == STALL_CHECKS


def test_client_that_keeps_acknowledging_a_little_does_not_stall(served: Served) -> None:
    served.connection.writable = None
    served.connection.room = 5
    served.connection.unacknowledged = [9, 8, 8, 8, 7, 6]
    served.send(b"1|B\n2|B\n")
    assert served.ends() == CloseReason.STALLED
    assert served.connection.waits == 5 + STALL_CHECKS


def test_close_frees_the_queue_and_may_be_called_twice(
    served: Served, log: list[MutableMapping[str, object]]
) -> None:
    served.connection.room = 5
    served.send(b"1|B\n2|B\n")
    served.connection.unsent_bytes = 100
    assert served.registry.queued_memory.bytes
    served.session.close(CloseReason.OPERATOR)
    served.session.close(CloseReason.LEFT)
    assert served.ends() == CloseReason.OPERATOR
    (line,) = (entry for entry in log if entry["event"] == "session_closed")
    assert (line["sent_bytes"], line["lost_bytes"]) == (5, 3)
    served.session.read()
    served.session.flush()
    assert (served.registry.left, served.connection.unsent_bytes) == ([CloseReason.OPERATOR], 0)


@pytest.mark.parametrize(
    ("kind", "arguments", "reason"),
    [
        (OSError, (errno.EPIPE, "Broken pipe"), CloseReason.RESET),
        (OSError, (errno.ETIMEDOUT, "Connection timed out"), CloseReason.VANISHED),
        (RuntimeError, ("provoked by a test",), CloseReason.FAILED),
    ],
)
@pytest.mark.parametrize("by_the_writer", [False, True])
def test_an_error_of_the_connection_ends_the_session(
    served: Served,
    kind: type[Exception],
    arguments: tuple[object, ...],
    reason: CloseReason,
    by_the_writer: bool,
) -> None:
    error = kind(*arguments)  # created here, because its traceback keeps the session alive
    if by_the_writer:
        served.connection.room = 5
        served.send(b"1|B\n2|B\n")
        until(lambda: served.connection.waits, "the writer to wait")
        served.connection.error = error
        served.connection.make_room()
    else:
        served.connection.error = error
        served.send(b"1|B\n")
    assert served.ends() == reason


def test_close_when_sent_waits_until_everything_is_acknowledged(served: Served) -> None:
    served.connection.room = 5
    served.connection.unacknowledged = [9, 9, 1]  # the FIN counts as a byte
    served.send(b"1|B\n2|B\n")
    served.session.close_when_sent()
    until(lambda: served.connection.waits, "the writer to wait")
    assert not served.connection.shut_down
    served.connection.make_room()
    assert served.ends() == CloseReason.FINISHED
    assert served.connection.taken == b"1|B\n2|B\n"
    assert served.connection.shut_down
    assert served.connection.unacknowledged == [1]


def test_data_from_the_client_is_discarded_and_counted(served: Served) -> None:
    served.connection.said = [b"hello", b""]
    served.session.read()
    assert served.registry.discarded_bytes == 5
    readable = served.registry.readable
    os.write(served.connection.client, b"x")
    until(lambda: served.registry.readable > readable, "the session to schedule another read")
    served.session.read()
    assert served.ends() == CloseReason.LEFT


def test_a_reply_of_the_connection_itself_is_sent_by_the_writer(served: Served) -> None:
    served.connection.said = [b"K"]
    served.connection.unsent_bytes = 30
    served.session.read()
    assert served.session.writing
    until(lambda: not served.session.writing, "the writer to have sent it")
    assert served.connection.unsent_bytes == 0
