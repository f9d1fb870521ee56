"""Fixtures of the unit tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from .reading import Write


@pytest.fixture(autouse=True)
def _structlog_as_it_was() -> Iterator[None]:
    """The log's configuration is global; no test leaves its own behind."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write the file that ``--config`` names."""

    def write_file(text: str) -> str:
        path = tmp_path / "maze.toml"
        path.write_text(text)
        return str(path)

    return write_file
