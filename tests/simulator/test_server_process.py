"""The server that the simulator starts: a stand-in that behaves well, or not."""

import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Self

import pytest

from simulator.errors import ServerProcessError
from simulator.play.server_process import COMMAND, ServerProcess

pytestmark = pytest.mark.realtime

PATIENCE = 30.0
STAND_IN = str(Path(__file__).with_name("stand_in.py"))


def command(manner: str, clients: int = 0) -> list[str]:
    return [sys.executable, STAND_IN, manner, str(clients)]


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_it_starts_tells_its_ports_and_is_stopped(caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.DEBUG, "simulator"),
        ServerProcess(command("behaves")) as server,
    ):
        assert server.source_port > 0
        assert server.client_port > 0
        pid = server.pid
        assert not is_gone(pid)
    assert is_gone(pid)
    assert server.usage is not None
    assert server.usage.cpu_seconds > 0
    assert server.usage.peak_bytes > 2**20
    levels = {record.getMessage(): record.levelname for record in caplog.records}
    assert levels["server: not JSON"] == "WARNING"
    assert levels["server: [1, 2]"] == "WARNING"
    assert levels[r"server: odd line=5|X\n count=2"] == "WARNING"
    assert any("ready" in text and level == "DEBUG" for text, level in levels.items())
    server.stop()  # once more does nothing


def test_its_memory_is_its_own_and_not_that_of_who_started_it() -> None:
    ballast = b"x" * (300 * 2**20)
    with ServerProcess(command("behaves")) as server:
        assert len(ballast) == 300 * 2**20
    assert server.usage is not None
    assert server.usage.peak_bytes < 150 * 2**20


def test_where_its_memory_cannot_be_seen_the_kernel_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ServerProcess, "_high_water_mark", lambda _self: None)
    with ServerProcess(command("behaves")) as server:
        pass
    assert server.usage is not None
    assert server.usage.peak_bytes > 2**20


def test_it_is_killed_if_it_does_not_stop() -> None:
    with ServerProcess(command("stubborn"), stop_timeout=0.2) as server:
        pid = server.pid
    assert is_gone(pid)
    assert server.usage is not None
    assert server.fault == "the server did not stop within 0.2 s, and was killed"


@pytest.mark.parametrize(
    ("manner", "fault"),
    [
        ("behaves", None),
        ("untidy", "the server ended with status 4"),
        ("unprepared", "the server was ended by SIGTERM"),
    ],
)
def test_how_it_ends_when_it_is_told_to(manner: str, fault: str | None) -> None:
    with ServerProcess(command(manner)) as server:
        assert server.fault is None
    assert server.fault == fault


@pytest.mark.parametrize(
    ("number", "fault"),
    [
        (signal.SIGKILL, "the server was ended by SIGKILL"),
        (signal.SIGTERM, "the server ended before it was stopped"),
    ],
)
def test_how_it_ends_by_itself(number: signal.Signals, fault: str) -> None:
    with ServerProcess(command("behaves")) as server:
        os.kill(server.pid, number)
        assert server.has_ended()
        assert server.usage is not None
    assert server.fault == fault
    assert is_gone(server.pid)


def test_it_ends_before_it_is_ready() -> None:
    server = ServerProcess(command("dies"))
    with pytest.raises(ServerProcessError, match=r"ended before .* OSError: no"), server:
        pytest.fail("it is not ready")
    assert is_gone(server.pid)


class SlowToEnd(ServerProcess):
    """Its thread still runs when the server's end is told."""

    def __enter__(self) -> Self:
        self.told = threading.Event()
        return super().__enter__()

    def _read_stderr(self) -> None:
        super()._read_stderr()
        assert self.told.wait(PATIENCE)

    def stop(self) -> None:
        self.told.set()
        super().stop()


def test_its_end_is_told_as_such_while_its_log_is_closed() -> None:
    server = SlowToEnd(command("dies"))
    with pytest.raises(ServerProcessError, match=r"ended before .* OSError: no"), server:
        pytest.fail("it is not ready")


def test_it_does_not_get_ready() -> None:
    server = ServerProcess(command("silent"), ready_timeout=0.3)
    with pytest.raises(ServerProcessError, match=r"not ready within 0\.3 s; its log: "), server:
        pytest.fail("it is not ready")
    assert is_gone(server.pid)


def test_it_cannot_be_started() -> None:
    server = ServerProcess(["/nowhere/there is no server"])
    with pytest.raises(ServerProcessError, match="cannot start /nowhere"), server:
        pytest.fail("it is not there")


def test_the_command_is_the_documented_one() -> None:
    assert COMMAND[1:3] == ("-m", "maze.serve")
