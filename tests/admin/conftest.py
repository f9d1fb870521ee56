"""Fixtures: a watched server, and those of the end-to-end tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from end_to_end.conftest import bounded, log
from end_to_end.peers import until
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
