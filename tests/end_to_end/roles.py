"""An ingest and edges in the test's hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gevent
from structlog.testing import LogCapture

from maze.core import Position
from maze.feed.following import Following
from maze.journal.journal import Batch, Bounds
from maze.journal.sqlite import SQLiteJournal
from maze.roles.edge import EdgeServer
from maze.roles.ingest import FeedServer
from maze.settings.feed_address import FeedAddress
from maze.settings.options import Settings

from .peers import PATIENCE, Client, until
from .running import Maze, _address
from .test_positions import read_position


class Ingest(Maze):
    """An ingest, and its sources. ``server.source`` is there as in a server that does all."""

    server: FeedServer  # type: ignore[assignment]

    def __init__(self, **settings: Any) -> None:
        self.tls = None
        self._peers = []
        self.server = FeedServer(Settings(role="ingest", source_port=0, **settings))
        self.server.start()
        self.source_address = _address(self.server.addresses["source"])

    @property
    def position(self) -> Any:
        return self.server.router.position

    @property
    def durable(self) -> Any:
        """The position up to which everything is durable."""
        assert self.server.journaling
        return self.server.journaling.position

    def await_edges(self, count: int) -> None:
        until(lambda: len(self.server.feed.edges) == count, f"{count} edges")

    def close(self) -> None:
        super().close()
        self.await_edges(0)


class Edge(Maze):
    """An edge, and its clients."""

    server: EdgeServer  # type: ignore[assignment]

    def __init__(self, **settings: Any) -> None:
        self.tls = None
        self._peers = []
        self.server = EdgeServer(Settings(role="edge", client_port=0, **settings))
        self.starting = gevent.spawn(self.server.start)

    def started(self) -> Edge:
        """Wait until it serves clients; raise what its start has raised."""
        self.starting.get(timeout=PATIENCE)
        self.client_address = _address(self.server.addresses["client"])
        return self

    @property
    def position(self) -> Any:
        return self.server.router.position

    @property
    def following(self) -> Following:
        return self.server.following

    def resumed(self, user: int, position: Any) -> Client:
        """Come back with a position, and expect it to be accepted."""
        client = self.client(b"%d|%d-%d\n" % (user, *position))
        assert read_position(client) == ("=", position)
        return client

    def await_position(self, position: Any) -> None:
        until(lambda: self.position == position, f"the edge to be at {position}")

    def close(self) -> None:
        self.starting.kill()
        self.server.stop()
        for peer in self._peers:
            peer.close()
        self.expect_all_freed()


class Roles:
    """Starts ingests, one at a time, and edges that follow them over a Unix socket.

    Another ``feed`` can be set before the first ingest starts; its port may be 0.
    """

    def __init__(self, folder: Path) -> None:
        self.journal = str(folder / "journal")
        self.feed = FeedAddress(f"unix:{folder / 'feed'}", 0)
        self._ingests: list[Ingest] = []
        self._edges: list[Edge] = []

    def ingest(self, **settings: Any) -> Ingest:
        """Start an ingest on the journal; the one before stops first."""
        self.stop_ingest()
        ingest = Ingest(journal=self.journal, feed=self.feed, **settings)
        self._ingests.append(ingest)
        self.feed = FeedAddress(*_address(ingest.server.addresses["feed"]))
        return ingest

    def stop_ingest(self) -> None:
        while self._ingests:
            self._ingests.pop().close()

    def edge(self, **settings: Any) -> Edge:
        """Start an edge, and wait until it serves clients."""
        return self.edge_that_waits(**settings).started()

    def edge_that_waits(self, **settings: Any) -> Edge:
        """Start an edge, which may wait for the ingest."""
        self._edges.append(Edge(feed=self.feed, **settings))
        return self._edges[-1]

    def close(self) -> None:
        for edge in self._edges:
            edge.close()
        self.stop_ingest()


def append(roles: Roles, batches: list[Batch], kept_from: Position | None = None) -> None:
    """Append batches to the journal of an ingest that is stopped; trim it up to a position."""
    journal = SQLiteJournal(roles.journal, Position(1, 1), synchronous="OFF")
    fence = journal.lease()
    journal.append(batches, fence)
    if kept_from:
        bounds = Bounds(10, 10, 10)
        for _ in range(2):
            journal.put_snapshot(journal.position(), bounds, [], fence)
        journal.trim(kept_from, fence)
        assert journal.kept_from() >= kept_from
    journal.close()


def logged(log: LogCapture, event: str) -> list[Any]:
    return [entry for entry in log.entries if entry["event"] == event]
