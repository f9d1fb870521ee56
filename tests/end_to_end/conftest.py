"""Fixtures: a server in the test's hub, and a time limit for every test."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import blocking
import gevent
import pytest
import structlog
from structlog.testing import LogCapture

from maze.feed import following
from maze.log.processors import RateLimit

from .certificates import Authority, Wire
from .roles import Roles
from .running import Maze

TEST_SECONDS = 60.0


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """Fail a test that takes longer than TEST_SECONDS."""
    error = AssertionError(f"the test took longer than {TEST_SECONDS} s")
    with gevent.Timeout(TEST_SECONDS, error):
        yield


@pytest.fixture(autouse=True)
def log(bounded: None) -> Iterator[LogCapture]:
    """Capture what servers in this process log."""
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
    """A certificate authority for these tests."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def blocked() -> list[str]:
    """The places where the server blocked the tests' hub, if gevent's monitor is enabled."""
    places: list[str] = []
    if blocking.ENABLED:
        import maze.journal.redis  # noqa: F401, PLC0415 (a server imports it before it serves)

        gc.freeze()  # a collection that visits everything pytest holds takes 100 ms
        blocking.Watch(places.append)
    return places


@pytest.fixture(autouse=True)
def hub_is_free(request: pytest.FixtureRequest, blocked: list[str]) -> Iterator[None]:
    """Fail a test in which the server blocks the hub, unless marked ``blocks_hub(reason)``."""
    blocked.clear()
    yield
    if blocked and not request.node.get_closest_marker("blocks_hub"):
        raise blocking.HubBlockedError("; ".join(blocked))


@pytest.fixture
def wire(request: pytest.FixtureRequest) -> Wire | None:
    """TLS for both ports if a test asks for it; None, the default, for plain TCP."""
    if getattr(request, "param", "plain") == "plain":
        return None
    authority: Authority = request.getfixturevalue("authority")
    return Wire(authority)


@pytest.fixture
def start(bounded: None, log: LogCapture, wire: Wire | None) -> Iterator[Callable[..., Maze]]:
    """Return a function that starts a server; the servers stop when the test ends."""
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


@pytest.fixture
def roles(
    bounded: None, log: LogCapture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Roles]:
    """Start an ingest and edges, which notice soon that the other has left or is back."""
    monkeypatch.setattr(following, "MAX_RETRY_SECONDS", following.MIN_RETRY_SECONDS)
    monkeypatch.setattr(following, "WAIT_SECONDS", 0.1)
    running = Roles(tmp_path)
    yield running
    running.close()
