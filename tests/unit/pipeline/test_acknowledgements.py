"""Acknowledgements: a source that does not read gets the newest, once it reads again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from end_to_end.peers import until
from gevent.event import Event

from maze.core import Position
from maze.net.connection import Connection
from maze.pipeline.acknowledgements import Acknowledgements


class FakeConnection:
    """A connection that takes so many bytes."""

    unsent_bytes = 0

    def __init__(self, room: int = 1_000) -> None:
        self.room = room
        self.taken = b""
        self.has_room = Event()
        self.waits = 0
        self.error: OSError | None = None

    def send(self, parts: Sequence[bytes | memoryview]) -> int:
        if self.error:
            raise self.error
        data = b"".join(parts)[: self.room]
        if not data:
            raise BlockingIOError
        self.room -= len(data)
        self.taken += data
        return len(data)

    def wait_writable(self, seconds: float | None) -> None:
        assert seconds is None
        self.waits += 1
        self.has_room.wait(60)
        self.has_room.clear()


class Told:
    """Acknowledgements of positions that a test sets."""

    def __init__(self) -> None:
        self.position = Position(5, 1)
        self.acknowledgements = Acknowledgements(lambda: self.position)

    def commit(self, number: int) -> None:
        self.position = Position(5, number)
        self.acknowledgements.on_commit()


def test_a_source_is_told_at_once_and_after_each_commit() -> None:
    told, connection = Told(), FakeConnection()
    source = told.acknowledgements.begin(cast("Connection", connection))
    until(lambda: connection.taken == b"A|5|1\n", "the first")
    told.commit(4)
    until(lambda: connection.taken == b"A|5|1\nA|5|4\n", "the second")
    told.acknowledgements.on_commit()  # nothing new
    told.commit(7)
    until(lambda: connection.taken == b"A|5|1\nA|5|4\nA|5|7\n", "the third")
    told.acknowledgements.end(source)
    told.commit(9)
    assert connection.taken.endswith(b"A|5|7\n")


def test_what_a_source_does_not_take_is_replaced_by_the_newest() -> None:
    told, connection = Told(), FakeConnection(room=8)
    source = told.acknowledgements.begin(cast("Connection", connection))
    until(lambda: connection.taken, "the first")
    told.commit(2)
    until(lambda: connection.waits, "the source to be full")
    for number in range(3, 50):
        told.commit(number)
    connection.room = 100
    connection.has_room.set()
    until(lambda: connection.taken.endswith(b"A|5|49\n"), "the newest")
    assert connection.taken == b"A|5|1\nA|5|2\nA|5|49\n"
    told.acknowledgements.end(source)


def test_a_broken_connection_is_told_nothing_more() -> None:
    told, connection = Told(), FakeConnection()
    connection.error = OSError("reset")
    source = told.acknowledgements.begin(cast("Connection", connection))
    source.finish(60)
    assert source._greenlet.successful()
    told.acknowledgements.end(source)


def test_a_source_that_ends_waits_for_its_last_acknowledgement_but_not_for_ever() -> None:
    told, connection = Told(), FakeConnection(room=6)
    source = told.acknowledgements.begin(cast("Connection", connection))
    source.finish(60)
    assert connection.taken == b"A|5|1\n"
    told.commit(2)
    source.finish(0.001)
    assert connection.taken == b"A|5|1\n"
    connection.room = 100
    connection.has_room.set()
    source.finish(60)
    assert connection.taken == b"A|5|1\nA|5|2\n"
    told.acknowledgements.end(source)
