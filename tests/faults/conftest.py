"""Fixtures: a server process for each test, and a time limit on every test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import gevent
import pytest
from end_to_end.running import Child

TEST_SECONDS = 100.0
"""Time limit of a test; far more than any test takes on an idle machine."""


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """Fail a test that hangs."""
    error = AssertionError(f"the test took longer than {TEST_SECONDS} s")
    with gevent.Timeout(TEST_SECONDS, error):
        yield


@pytest.fixture
def serve(bounded: None) -> Iterator[Callable[..., Child]]:
    """Start servers with log level debug; after the test they must still run, with no traceback.

    A test whose fault should end the server makes its own ``Child``.
    """
    running: list[Child] = []

    def start(*arguments: str) -> Child:
        running.append(Child("--log-level", "debug", *arguments))
        return running[-1].ready()

    yield start
    for child in running:
        with child:
            log = child.stderr()
            assert child.process.poll() is None, f"the server has ended: {log[-4_000:]}"
            assert "Traceback" not in log, log[-8_000:]
