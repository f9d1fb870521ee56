"""A journal in memory that is written directly and read over a feed, in the same process."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import gevent
from gevent import socket
from gevent.server import StreamServer

from maze.core import Position
from maze.feed.feed_port import FeedPort
from maze.feed.messages import Greeting
from maze.feed.reader import FeedReader
from maze.feed.ring import Ring
from maze.journal.journal import Batch, Bounds, Journal, Snapshot, SnapshotWriter, to_append
from maze.journal.memory import MemoryJournal
from maze.net.peer import UNIX_PEER
from maze.net.unix_socket import unix_listener
from maze.settings.feed_address import FeedAddress

TOKEN = "token-of-the-feed"


class FeedJournal(Journal):
    """Tells the feed port of each append, as a server does; ``ring_bytes`` are kept in its ring."""

    def __init__(self, start: Position, ring_bytes: int) -> None:
        self._folder = tempfile.TemporaryDirectory()
        path = str(Path(self._folder.name) / "feed")
        self._journal = _Reporting(start)
        self.ring = Ring(start, ring_bytes)
        self._port = FeedPort(self._journal, self.ring, self._journal.position, TOKEN)
        self._server = StreamServer(
            unix_listener(path, 5), lambda sock, _: self._port.handle(sock, UNIX_PEER)
        )
        self._server.start()
        address = FeedAddress(f"unix:{path}", 0)
        self.reader = FeedReader(address, Greeting(TOKEN, "me"), timeout=30.0, sockets=socket)

    def close(self) -> None:
        """End the connection, and what serves it."""
        self.reader.close()
        self._port.close()
        self._server.stop()
        self._folder.cleanup()

    def disconnect(self) -> None:
        """End the connections, as an ingest does that restarts."""
        connections = list(self._port.serving.greenlets)
        self._port.close()
        gevent.joinall(connections, timeout=30.0, raise_error=True)
        self._port = FeedPort(self._journal, self.ring, self._journal.position, TOKEN)

    # Written directly.

    def lease(self) -> int:
        return self._journal.lease()

    def append(self, batches: Sequence[Batch], fence: int) -> Position:
        before = self._journal.position()
        position = self._journal.append(batches, fence)
        if added := to_append(batches, before):
            self._port.on_committed(added)
        return position

    def trim(self, before: Position, fence: int) -> None:
        """Trim the journal, and empty the ring, which may serve what the journal has no longer."""
        self._journal.trim(before, fence)
        self._port.begin()

    def begin_snapshot(self, position: Position, bounds: Bounds, fence: int) -> SnapshotWriter:
        return self._journal.begin_snapshot(position, bounds, fence)

    # Read over the feed.

    def position(self) -> Position:
        return self.reader.position()

    def kept_from(self) -> Position:
        return self.reader.kept_from()

    def read(self, after: Position, max_bytes: int) -> list[Batch]:
        return self.reader.read(after, max_bytes)

    def get_snapshot(self, report: Callable[[str], None]) -> Snapshot | None:
        """Return the newest snapshot; the reports, which an ingest logs, come here."""
        self._journal.report = report
        return self.reader.get_snapshot(report)


class _Reporting(MemoryJournal):
    """Hands reports to ``report``."""

    report: Callable[[str], None]

    def get_snapshot(self, report: Callable[[str], None]) -> Snapshot | None:
        return super().get_snapshot(self.report)
