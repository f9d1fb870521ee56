"""The memory of an idle client, as measured by ``tests/idle_memory.py``."""

import os

import pytest
from idle_memory import bytes_per_client

pytestmark = pytest.mark.realtime


def test_an_idle_client_costs_at_most_16_kib(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if "COVERAGE" in name or name.startswith("GEVENT")]:
        monkeypatch.delenv(name)  # tracers need memory, too
    assert 1024 < bytes_per_client(500) <= 16 * 1024
