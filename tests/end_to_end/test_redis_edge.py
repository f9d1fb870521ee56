"""An edge that reads its journal in Redis."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis_server import RedisServer, running
from structlog.testing import LogCapture

from maze.feed import following

from .peers import until
from .roles import Edge, logged
from .running import Maze


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with running() as server:
        yield server


@pytest.fixture
def edge(
    redis: RedisServer, log: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Maze, Edge]]:
    """A server that writes the journal, and an edge."""
    monkeypatch.setattr(following, "WAIT_SECONDS", 0.05)
    url = f"unix://{redis.path}"
    writer = Maze(journal=url)
    edge = Edge(journal=url)
    edge.started()
    yield writer, edge
    edge.close()
    writer.close()


def test_an_edge_drains_once_it_has_everything(edge: tuple[Maze, Edge], log: LogCapture) -> None:
    """Redis does not tell when the ingest has stopped: an answer without a batch does."""
    writer, reader = edge
    client = reader.client(7)
    writer.source().send(b"1|B\n2|B\n")
    writer.await_routed(2)
    writer.server.stop()
    reader.server.drain(with_feed=True)
    client.expect(b"1|B\n2|B\n")
    client.expect_closed()
    assert not logged(log, "events_not_routed")


def test_a_redis_that_is_away_is_told_once(
    edge: tuple[Maze, Edge], redis: RedisServer, log: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, reader = edge
    reader.started()
    until(lambda: reader.following.is_connected, "the edge to follow")
    tries = 0
    request = reader.following._follower.request

    def counted(*arguments: object, **options: object) -> None:
        nonlocal tries
        tries += 1
        request(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(reader.following._follower, "request", counted)
    monkeypatch.setattr(following, "MAX_RETRY_SECONDS", following.MIN_RETRY_SECONDS)
    redis.kill()
    until(lambda: reader.server.trouble, "Redis to be missed")
    before = tries
    until(lambda: tries > before + 3, "the edge to try again")
    assert (reader.following.losses, len(logged(log, "feed_unavailable"))) == (1, 1)
    assert not logged(log, "feed_available")
    redis.start()
    until(lambda: reader.following.is_connected, "Redis to be back")
    assert len(logged(log, "feed_available")) == 1
