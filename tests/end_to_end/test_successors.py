"""Sources that wait for the place of one that has left and is not routed to its end yet."""

from __future__ import annotations

from collections.abc import Callable

import gevent
import pytest
from gevent.socket import socket
from structlog.testing import LogCapture

from maze.net.sockets import is_broken, peer_has_closed

from .peers import Client, Source, joined, messages, until
from .running import Maze, shrink_buffers

pytestmark = pytest.mark.parametrize("wire", ["plain", "tls"], indirect=True)


class Held:
    """A server whose source has left, but keeps its place until a slow client reads on."""

    def __init__(self, maze: Maze) -> None:
        self.maze = maze
        self.client: Client = maze.client(1, small_buffers=True)
        old, session = maze.source(), maze.session(1)
        # The batches that fill the kernel's buffers and the session's, then one that
        # waits for the router, then one that is not read at all.
        number = 1
        while session.held_bytes <= 1024:
            old.send(joined(messages(number, number + 100, 1)))
            number += 100
            routed = number - 1
            until(
                lambda: session.held_bytes > 1024 or maze.server.router.routed_events == routed,  # noqa: B023
                "the batch to be handed out",
            )
            gevent.sleep(0)
        for _ in range(2):
            old.send(joined(messages(number, number + 100, 1)))
            number += 100
        until(lambda: maze.server.router.reorder.ready >= 100, "the router to wait")
        old.close()
        (place,) = maze.server.source._sources
        until(lambda: peer_has_closed(place), "the end to arrive")
        self.waiting = maze.server.source._waiting
        self._expected = joined(messages(1, number, 1))

    def successor(self, events: bytes = b"") -> Source:
        """A source that waits for the place, once it does."""
        last = self.last_in_line
        source = self.maze.source()
        until(lambda: self.last_in_line not in {last, None}, "the source to wait")
        source.send(events)
        return source

    @property
    def last_in_line(self) -> socket | None:
        """The server's end of the successor that came last."""
        return next(reversed(self.waiting), None)

    @property
    def refused(self) -> int:
        return self.maze.server.source.refused

    def probe(self, leave: Callable[[Source], None], events: bytes = b"") -> None:
        """A successor that connects, says what it has, and is gone at once."""
        leave(self.successor(events))
        waits = self.last_in_line
        assert waits
        gone = is_broken if leave is Source.reset else peer_has_closed
        until(lambda: gone(waits), "the end to arrive")

    def release(self) -> None:
        """The client reads all that the source that has left had sent."""
        self.client.expect(self._expected)


@pytest.fixture
def held(start: Callable[..., Maze], monkeypatch: pytest.MonkeyPatch) -> Held:
    shrink_buffers(monkeypatch)
    return Held(start(client_buffer=1024, reorder_limit=100))


def test_a_successor_waits_for_the_place_and_has_it(held: Held) -> None:
    held.successor(b"1|P|9|1\n")
    held.release()
    held.client.expect(b"1|P|9|1\n")
    assert held.refused == 0


def test_a_second_successor_is_refused_while_the_first_is_there(held: Held) -> None:
    first = held.successor(b"1|P|9|1\n")
    held.maze.source().read_until_closed()
    assert held.refused == 1
    held.release()
    held.client.expect(b"1|P|9|1\n")
    first.send(b"2|P|9|1\n")
    held.client.expect(b"2|P|9|1\n")


@pytest.mark.parametrize("leave", [Source.reset, Source.close], ids=["reset", "close"])
def test_a_successor_that_is_gone_keeps_no_place(
    held: Held, leave: Callable[[Source], None]
) -> None:
    held.probe(leave)
    source = held.successor(b"1|P|9|1\n")
    held.release()
    held.client.expect(b"1|P|9|1\n")
    source.send(b"2|P|9|1\n")
    held.client.expect(b"2|P|9|1\n")


def test_successors_that_are_gone_do_not_pile_up(held: Held, log: LogCapture) -> None:
    for _ in range(10):
        held.probe(Source.reset)
        assert len(held.waiting) == 1
    held.successor(b"1|P|9|1\n")
    assert len(held.waiting) == 1
    assert held.refused == 10, "those that are gone"
    lines = [entry for entry in log.entries if entry["event"] == "source_refused"]
    assert lines[0]["detail"] == "its connection broke while it waited for a place"
    held.release()
    held.client.expect(b"1|P|9|1\n")


def test_a_successor_that_said_all_it_had_is_served_before_the_next(held: Held) -> None:
    for event in (b"1|P|7|1\n", b"1|P|8|1\n"):
        held.probe(Source.close, event)
    held.successor(b"1|P|9|1\n")
    held.release()
    held.client.expect(b"1|P|7|1\n1|P|8|1\n1|P|9|1\n")
    assert held.refused == 0


def test_as_many_as_have_said_all_may_wait_as_is_allowed(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maze.pipeline.source.MAX_WAITING", 2)
    held.probe(Source.close)
    held.probe(Source.close)
    held.maze.source().read_until_closed()
    assert (held.refused, len(held.waiting)) == (1, 2)
