"""Descriptor and accept-queue limits, on a fake operating system."""

import resource
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from maze.listener.connection_limits import MAX_SOURCE_HANDSHAKES
from maze.listener.system_limits import (
    RESERVED_DESCRIPTORS,
    check_accept_queue,
    clients_that_fit,
)
from maze.settings.options import Settings

from ..fake_system import System


def test_max_clients_stays_if_there_are_enough_descriptors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for limit in (500 + RESERVED_DESCRIPTORS + 2 * 3, resource.RLIM_INFINITY):
        System(monkeypatch, limit, limit)
        with capture_logs() as entries:
            assert clients_that_fit(Settings(max_clients=500, max_sources=3)) == 500
        assert entries == []


def test_max_clients_is_lowered_to_the_descriptor_limit_and_logged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    System(monkeypatch, 565, 4096)
    with capture_logs() as entries:
        assert clients_that_fit(Settings(max_clients=500, max_sources=1)) == 499
    assert entries == [
        {
            "event": "max_clients_lowered",
            "log_level": "warning",
            "wanted": 500,
            "max_clients": 499,
            "descriptor_limit": 565,
        }
    ]


def test_tls_on_the_source_port_reserves_descriptors_for_handshakes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    System(monkeypatch, 565, 4096)
    settings = Settings(max_clients=500, max_sources=1, source_tls_cert="cert.pem")
    assert clients_that_fit(settings) == 499 - MAX_SOURCE_HANDSHAKES


def test_one_client_is_always_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    System(monkeypatch, 20, 20)
    assert clients_that_fit(Settings()) == 1


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("128\n", [(4096, 128)]),
        ("4095\n", [(4096, 4095)]),
        ("4096\n", []),
        ("x", []),
        (None, []),
    ],
)
def test_a_backlog_above_somaxconn_is_a_warning(
    tmp_path: Path, said: str | None, expected: list[tuple[int, int]]
) -> None:
    somaxconn = tmp_path / "somaxconn"
    if said is not None:
        somaxconn.write_text(said)
    with capture_logs() as entries:
        check_accept_queue(Settings(backlog=4096), somaxconn)
    assert [(entry["backlog"], entry["somaxconn"]) for entry in entries] == expected
    assert all(entry["event"] == "backlog_limited" for entry in entries)
    assert all(entry["log_level"] == "warning" for entry in entries)
