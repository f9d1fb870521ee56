"""Sources that wait for the slot of a source that has left but is not routed completely."""

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
    """A server whose source has left, but keeps its slot until a slow client reads."""

    def __init__(self, maze: Maze) -> None:
        self.maze = maze
        self.client: Client = maze.client(1, small_buffers=True)
        old, session, stats = maze.source(), maze.session(1), maze.server.router.stats
        # Batches that fill the kernel's buffers and the session's queue, then one that the
        # router holds back, then one that is not read.
        number = 1
        while session.held_bytes <= 1024:
            old.send(joined(messages(number, number + 100, 1)))
            number += 100
            routed = number - 1
            until(
                lambda: session.held_bytes > 1024 or stats.routed_events == routed,  # noqa: B023
                "the batch to be routed",
            )
            gevent.sleep(0)
        for _ in range(2):
            old.send(joined(messages(number, number + 100, 1)))
            number += 100
        until(lambda: maze.server.intake.reorder.ready >= 100, "the router to wait")
        old.close()
        (sock,) = maze.server.source._sources
        until(lambda: peer_has_closed(sock), "the end to arrive")
        self.waiting = maze.server.source._waiting_for_slot
        self._expected = joined(messages(1, number, 1))

    def successor(self, events: bytes = b"") -> Source:
        """Connect a source, and wait until it waits for the slot."""
        last = self.last_in_line
        source = self.maze.source()
        until(lambda: self.last_in_line not in {last, None}, "the source to wait")
        source.send(events)
        return source

    @property
    def last_in_line(self) -> socket | None:
        """The server's socket of the successor that connected last."""
        return next(reversed(self.waiting), None)

    @property
    def refused(self) -> int:
        return self.maze.server.source.refused

    def probe(self, leave: Callable[[Source], None], events: bytes = b"") -> None:
        """Connect a successor that sends ``events`` and leaves at once."""
        leave(self.successor(events))
        waits = self.last_in_line
        assert waits
        gone = is_broken if leave is Source.reset else peer_has_closed
        until(lambda: gone(waits), "the end to arrive")

    def release(self) -> None:
        """Read everything that the first source sent, which frees its slot."""
        self.client.expect(self._expected)


@pytest.fixture
def held(start: Callable[..., Maze], monkeypatch: pytest.MonkeyPatch) -> Held:
    shrink_buffers(monkeypatch)
    return Held(start(client_buffer=1024, reorder_limit=100))


def test_a_successor_waits_for_the_slot_and_gets_it(held: Held) -> None:
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
def test_a_successor_that_has_left_keeps_no_slot(
    held: Held, leave: Callable[[Source], None]
) -> None:
    held.probe(leave)
    source = held.successor(b"1|P|9|1\n")
    held.release()
    held.client.expect(b"1|P|9|1\n")
    source.send(b"2|P|9|1\n")
    held.client.expect(b"2|P|9|1\n")


def test_successors_that_have_left_do_not_pile_up(held: Held, log: LogCapture) -> None:
    for _ in range(10):
        held.probe(Source.reset)
        assert len(held.waiting) == 1
    held.successor(b"1|P|9|1\n")
    assert len(held.waiting) == 1
    assert held.refused == 10, "the successors that have left"
    lines = [entry for entry in log.entries if entry["event"] == "source_refused"]
    assert lines[0]["detail"] == "connection broke while waiting for a slot"
    held.release()
    held.client.expect(b"1|P|9|1\n")


def test_a_successor_that_has_ended_its_stream_is_served_before_the_next(held: Held) -> None:
    for event in (b"1|P|7|1\n", b"1|P|8|1\n"):
        held.probe(Source.close, event)
    held.successor(b"1|P|9|1\n")
    held.release()
    held.client.expect(b"1|P|7|1\n1|P|8|1\n1|P|9|1\n")
    assert held.refused == 0


def test_successors_that_have_ended_their_streams_are_bounded(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maze.pipeline.source.MAX_WAITING", 2)
    held.probe(Source.close)
    held.probe(Source.close)
    held.maze.source().read_until_closed()
    assert (held.refused, len(held.waiting)) == (1, 2)
