"""Notifications to a supervisor such as systemd, over a real datagram socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from structlog.testing import capture_logs

from maze.process.sd_notify import Supervisor

PATIENCE_SECONDS = 30.0


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket on which a supervisor listens."""
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(PATIENCE_SECONDS)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


def received(systemd: socket.socket) -> list[str]:
    """Return the messages received so far."""
    systemd.setblocking(False)
    messages = []
    try:
        while True:
            messages.append(systemd.recv(4096).decode())
    except BlockingIOError:
        return messages


def test_ready_and_stopping_are_sent(systemd: socket.socket) -> None:
    supervisor = Supervisor()
    assert received(systemd) == []
    supervisor.ready("it listens")
    supervisor.stopping()
    assert received(systemd) == ["READY=1\nSTATUS=it listens", "STOPPING=1\nSTATUS=stopping"]


def test_an_abstract_socket_works_too(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"maze-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        Supervisor().stopping()
        assert len(received(listening)) == 1


def test_watchdog_messages_are_sent_while_the_event_loop_runs(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    supervisor = Supervisor()
    supervisor.ready("")
    assert received(systemd) == ["READY=1\nSTATUS="]
    count = 0
    with gevent.Timeout(PATIENCE_SECONDS):
        while count < 5:
            gevent.sleep(0.01)
            messages = received(systemd)
            assert set(messages) <= {"WATCHDOG=1"}
            count += len(messages)
    assert supervisor.pinger is not None
    supervisor.pinger.kill()


@pytest.mark.parametrize(
    "environment",
    [{}, {"WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}],
    ids=["no watchdog", "another process's", "not a number"],
)
def test_no_watchdog_messages_without_an_interval_for_this_process(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    supervisor = Supervisor()
    supervisor.ready("")
    assert supervisor.pinger is None
    assert len(received(systemd)) == 1


def test_without_a_supervisor_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    with capture_logs() as entries:
        supervisor = Supervisor()
        supervisor.ready("")
        supervisor.stopping()
    assert entries == []


def test_an_unreachable_supervisor_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    with capture_logs() as entries:
        supervisor = Supervisor()
        supervisor.ready("")
        supervisor.stopping()
    assert entries == [
        {
            "event": "supervisor_not_told",
            "log_level": "warning",
            "error": "No such file or directory",
        }
    ]


def test_a_supervisor_that_does_not_read_blocks_nothing(systemd: socket.socket) -> None:
    supervisor = Supervisor()
    with capture_logs() as entries:
        for _ in range(10_000):  # far more than the socket buffer holds
            supervisor.stopping()
    assert {entry["error"] for entry in entries} == {"Resource temporarily unavailable"}
