"""Fixtures: a server in the test's hub, and a bound on every test."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import blocking
import gevent
import pytest
import structlog
from structlog.testing import LogCapture

from maze.log.processors import RateLimit

from .certificates import Authority, Wire
from .running import Maze

TEST_SECONDS = 60.0


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """No test hangs."""
    error = AssertionError(f"the test took longer than {TEST_SECONDS} s")
    with gevent.Timeout(TEST_SECONDS, error):
        yield


@pytest.fixture(autouse=True)
def log(bounded: None) -> Iterator[LogCapture]:
    """What servers in this process log."""
    capture = LogCapture()
    before = structlog.get_config()
    structlog.configure(
        processors=[RateLimit(), capture],
        wrapper_class=structlog.make_filtering_bound_logger(0),
        logger_factory=structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    yield capture
    structlog.configure(**before)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority of certificates, made for these tests."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def blocked() -> list[str]:
    """Where the server blocked the hub of the tests, if gevent's monitor is enabled."""
    places: list[str] = []
    if blocking.ENABLED:
        gc.freeze()  # to look through all that pytest holds takes the collector 100 ms
        blocking.Watch(places.append)
    return places


@pytest.fixture(autouse=True)
def hub_is_free(request: pytest.FixtureRequest, blocked: list[str]) -> Iterator[None]:
    """The test fails if the server blocks the hub, unless it is marked ``blocks_hub(reason)``."""
    blocked.clear()
    yield
    if blocked and not request.node.get_closest_marker("blocks_hub"):
        raise blocking.HubBlockedError("; ".join(blocked))


@pytest.fixture
def wire(request: pytest.FixtureRequest) -> Wire | None:
    """What is spoken on both ports: nothing but the protocol, or TLS where a test asks for it."""
    if getattr(request, "param", "plain") == "plain":
        return None
    authority: Authority = request.getfixturevalue("authority")
    return Wire(authority)


@pytest.fixture
def start(bounded: None, log: LogCapture, wire: Wire | None) -> Iterator[Callable[..., Maze]]:
    """Start a server with some settings; it is stopped when the test ends."""
    running: list[Maze] = []

    def start_one(**settings: Any) -> Maze:
        running.append(Maze(wire, **settings))
        return running[-1]

    yield start_one
    for maze in running:
        maze.close()


@pytest.fixture
def maze(start: Callable[..., Maze]) -> Maze:
    """A server with the default settings."""
    return start()
