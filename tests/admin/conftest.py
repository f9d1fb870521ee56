"""Fixtures: a watched server, and those of the end-to-end tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from end_to_end.conftest import bounded, log
from structlog.testing import LogCapture

from .watching import Watched

__all__ = ["bounded", "log"]

Start = Callable[..., Watched]


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
def watched(start: Start) -> Watched:
    """A watched server with the default settings."""
    return start()
