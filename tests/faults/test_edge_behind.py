"""An edge that is stopped until what it needs is no longer kept, over a feed and over Redis."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gevent
import gevent.socket
from end_to_end.peers import Client, patience
from end_to_end.running import Child
from redis_server import running

from maze.feed.messages import Greeting
from maze.feed.reader import FeedReader
from maze.journal.journal import JournalReader
from maze.journal.redis_reader import RedisReader
from maze.settings.feed_address import FeedAddress

KEPT = ("--journal-retain", "0s", "--journal-retain-bytes", "1MiB", "--snapshot-events", "100")
FIRST = 10
"""Events that the edge gets before it is stopped."""

IN_FLIGHT = 1_000
"""Events that the edge may still find in its socket: it asks for a megabyte at a time."""


def line(number: int) -> bytes:
    """Return a broadcast of 4 KB."""
    return b"%04000d|B\n" % number


class House:
    """An ingest that keeps as little as it can, an edge, and two clients of it."""

    def __init__(self, children: ExitStack, ingest: list[str], edge: list[str]) -> None:
        common = ("--log-level", "debug", "--stall-timeout", "100ms")
        self.ingest = children.enter_context(Child("--role", "ingest", *common, *KEPT, *ingest))
        self.ingest.await_logged("ready")
        (ready,) = self.ingest.logged("ready")
        self.ingest.source_address = ready["source_host"], ready["source_port"]
        self.source = self.ingest.source()
        self.edge = children.enter_context(Child("--role", "edge", *common, *edge))
        self.edge.await_logged("ready")
        (ready,) = self.edge.logged("ready")
        self.edge.client_address = ready["client_host"], ready["client_port"]
        self.plain, self.asking = self.client(b"7\n"), self.client(b"8|\n")
        self.sent = 0

    def client(self, id_line: bytes) -> Client:
        before = len(self.edge.logged("session_opened"))
        client = Client(self.edge.client_address)
        client.send(id_line)
        self.edge.await_logged("session_opened", before + 1)
        return client

    def send(self, count: int) -> None:
        self.source.send(b"".join(line(self.sent + each) for each in range(1, count + 1)))
        self.sent += count

    def send_until_trimmed(self, journal: JournalReader) -> None:
        """Send events until those that the edge needs next are no longer kept."""
        with patience("the journal to be trimmed"):
            while journal.kept_from().next <= IN_FLIGHT:
                self.send(100)
                gevent.sleep(0.02)


def lines_of(client: Client) -> Iterator[bytes]:
    with patience("the next line"), client.sock.makefile("rb") as file:
        yield from file


def stopped_edge_is_told(house: House, journal: JournalReader) -> None:
    """Stop the edge for long; its clients get what they can, and learn that there is more."""
    house.send(FIRST)
    plain, asking = lines_of(house.plain), lines_of(house.asking)
    assert next(asking).startswith(b"=|")
    for number in range(1, FIRST + 1):
        assert next(plain) == next(asking) == line(number)
    house.edge.signal(signal.SIGSTOP)
    house.send_until_trimmed(journal)
    house.edge.signal(signal.SIGCONT)
    got = FIRST
    for received in asking:
        if received.startswith(b"!|"):
            break
        got += 1
        assert received == line(got)
    position = int(received.removeprefix(b"!|").partition(b"-")[2])
    assert position > got + 1
    for number, received in enumerate(plain, FIRST + 1):
        assert received == line(number)
        assert number <= got
    house.send(1)
    for number in range(position, house.sent + 1):
        assert next(asking) == line(number)
    house.edge.await_logged("feed_rebuilt")
    again = house.client(b"9\n")
    house.send(1)
    again.expect(line(house.sent))
    assert not house.edge.logged("feed_failed")
    house.edge.signal(signal.SIGTERM)
    assert house.edge.status() == 0


def test_an_edge_behind_its_feed(tmp_path: Path) -> None:
    feed = FeedAddress(f"unix:{tmp_path / 'feed'}", 0)
    with ExitStack() as children:
        options = ["--feed", str(feed)]
        house = House(children, [*options, "--journal", str(tmp_path / "journal")], options)
        sockets: Any = gevent.socket
        journal = FeedReader(feed, Greeting("", "test"), timeout=30.0, sockets=sockets)
        children.callback(journal.close)
        stopped_edge_is_told(house, journal)


def test_an_edge_behind_redis() -> None:
    with running("--appendfsync", "everysec") as redis, ExitStack() as children:
        options = ["--journal", f"unix://{redis.path}"]
        house = House(children, options, options)
        journal = RedisReader(redis.address)
        children.callback(journal.close)
        stopped_edge_is_told(house, journal)
