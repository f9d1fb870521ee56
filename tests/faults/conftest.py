"""Fixtures: a server process that a test may hurt, and a bound on every test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import gevent
import pytest
from end_to_end.running import Child

TEST_SECONDS = 100.0
"""Far more than any test takes on an idle machine; a hang is found all the same."""


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """No test hangs."""
    error = AssertionError(f"the test took longer than {TEST_SECONDS} s")
    with gevent.Timeout(TEST_SECONDS, error):
        yield


@pytest.fixture
def serve(bounded: None) -> Iterator[Callable[..., Child]]:
    """Start a server that logs all there is; when the test ends it still runs, without a traceback.

    A test whose fault is meant to end the server takes a ``Child`` of its own.
    """
    running: list[Child] = []

    def start(*arguments: str) -> Child:
        running.append(Child("--log-level", "debug", *arguments))
        return running[-1].ready()

    yield start
    for child in running:
        with child:
            said = child.stderr()
            assert child.process.poll() is None, f"the server has ended: {said[-4_000:]}"
            assert "Traceback" not in said, said[-8_000:]
