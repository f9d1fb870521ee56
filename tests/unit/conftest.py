"""Fixtures of the unit tests."""

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def _structlog_as_it_was() -> Iterator[None]:
    """The log's configuration is global; no test leaves its own behind."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)
