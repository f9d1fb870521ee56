"""Fixtures of the journal's tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from redis_server import RedisServer, running

from maze.journal.redis import RedisJournal

from .files import START


@pytest.fixture(scope="module")
def running_server() -> Iterator[RedisServer]:
    """A Redis server for all tests of a module."""
    with running() as started:
        yield started


@pytest.fixture
def server(running_server: RedisServer) -> RedisServer:
    """The module's Redis server, empty."""
    running_server.command("FLUSHALL")
    return running_server


@pytest.fixture
def journal(server: RedisServer) -> Iterator[RedisJournal]:
    """A new journal in Redis."""
    with closing(RedisJournal(server.address, START)) as opened:
        yield opened
