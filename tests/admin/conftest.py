"""Fixtures: a watched server, and those of the end-to-end tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from end_to_end.certificates import Authority, Wire
from end_to_end.conftest import bounded, log, roles
from end_to_end.peers import until
from end_to_end.roles import Edge, Roles
from redis_server import RedisServer, running
from structlog.testing import LogCapture

from maze.server import Server
from maze.settings.option_types import FREE_PORT

from .watching import Watched, Watcher

__all__ = ["bounded", "log", "roles"]

Start = Callable[..., Watched]
Watch = Callable[[Server], Watcher]


@pytest.fixture
def start(bounded: None, log: LogCapture) -> Iterator[Start]:
    """Return a function that starts a watched server, which stops when the test ends."""
    running: list[Watched] = []

    def start_one(**settings: Any) -> Watched:
        running.append(Watched(**settings))
        return running[-1]

    yield start_one
    for watched in running:
        watched.close()


@pytest.fixture
def journaled(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """A watched server with a journal, whose file was inspected and soon is again."""
    monkeypatch.setattr("maze.pipeline.journaling.UPKEEP_SECONDS", 0.01)
    watched = start(journal=str(tmp_path / "journal"))
    journaling = watched.server.intake.journaling
    until(lambda: journaling and journaling.statistics, "the journal's file to be inspected")
    return watched


@pytest.fixture
def watched(start: Start) -> Watched:
    """A watched server with the default settings."""
    return start()


@pytest.fixture
def watch(bounded: None) -> Iterator[Watch]:
    """Return a function that opens the admin port of a server."""
    watchers: list[Watcher] = []

    def watch_one(server: Server) -> Watcher:
        watchers.append(Watcher(server))
        return watchers[-1]

    yield watch_one
    for watcher in watchers:
        watcher.stop_watching()


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis server."""
    with running() as server:
        yield server


@pytest.fixture
def redis_journaled(start: Start, redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """A watched server with a journal in Redis, whose figures were read and soon are again."""
    monkeypatch.setattr("maze.pipeline.journaling.UPKEEP_SECONDS", 0.01)
    watched = start(journal=f"unix://{redis.path}", lease=600.0)
    journaling = watched.server.intake.journaling
    until(lambda: journaling and journaling.statistics, "the figures of the journal to be read")
    return watched


class WatchedFeed:
    """An ingest and an edge that follows it, each with its admin port."""

    def __init__(self, roles: Roles, watch: Watch) -> None:
        self.ingest = roles.ingest(admin_port=FREE_PORT)
        self.edge: Edge = roles.edge(admin_port=FREE_PORT)
        self.of_ingest, self.of_edge = watch(self.ingest.server), watch(self.edge.server)
        self.ingest.await_edges(1)


@pytest.fixture
def feed(roles: Roles, watch: Watch) -> WatchedFeed:
    """An ingest and an edge."""
    return WatchedFeed(roles, watch)


@pytest.fixture
def encrypted(start: Start, tmp_path: Path) -> Watched:
    """A watched server with TLS on both ports."""
    return start(**Wire(Authority(tmp_path)).settings())


@pytest.fixture
def kinds(feed: WatchedFeed, redis_journaled: Watched, encrypted: Watched) -> list[Watcher]:
    """Servers that export every metric between them."""
    journaling = feed.ingest.server.intake.journaling
    until(lambda: journaling and journaling.statistics, "the journal's file to be inspected")
    until(lambda: feed.edge.following.is_connected, "the edge to have an answer")
    return [feed.of_ingest, feed.of_edge, redis_journaled, encrypted]
