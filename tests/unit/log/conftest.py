"""Fixtures: a path for a reject file, and a thread that cannot write it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .reject_files import Stuck


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rejects.jsonl"


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stuck]:
    blocked = Stuck(monkeypatch)
    yield blocked
    blocked.released.set()
