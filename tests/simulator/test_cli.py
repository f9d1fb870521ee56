"""The command line as a user meets it: statuses, output, interrupts."""

import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from running import flags
from servers import Server
from stand_in import closed_port
from test_server_process import command

from simulator import __version__, run
from simulator.cli import main
from simulator.play import connecting, restarting
from simulator.play.server_process import ServerProcess
from simulator.play.source import Source
from simulator.stream.workload import Workload

pytestmark = pytest.mark.realtime

ROOT = Path(__file__).parents[2]
SMALL = ("--total-events", 60, "--concurrency-level", 3, "--number-of-users", 5)
PATIENCE = 30.0
"""seconds after which a child that should have spoken or ended has not"""


@pytest.fixture(autouse=True)
def _no_parameters_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("logLevel", "totalEvents", "concurrencyLevel", "numberOfUsers", "timeout"):
        monkeypatch.delenv(name, raising=False)


def test_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    with Server(3) as server:
        assert main(flags(server, *SMALL)) == 0
    captured = capsys.readouterr()
    assert captured.out.endswith("\n\\o/ ALL NOTIFICATIONS RECEIVED \\o/\n")
    assert captured.err == ""
    for figure in ("events sent", "deliveries", "events/s", "deliveries/s", "MB/s"):
        assert figure in captured.out
    assert "server CPU" not in captured.out


def test_sources_connect_first_and_clients_when_all_is_prepared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order = []

    def noting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any, **named: Any) -> Any:
            order.append(name)
            return function(*arguments, **named)

        return noted

    for module, name in (
        (connecting, "connect_source"),
        (run, "prepare"),
        (connecting, "connect_client"),
        (Source, "write"),
    ):
        monkeypatch.setattr(module, name, noting(name, getattr(module, name)))
    with Server(3) as server:
        assert main(flags(server, *SMALL)) == 0
    assert order == ["connect_source", "prepare", *3 * ["connect_client"], "write"]


def test_something_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    users = Workload(60, 3, 5).connected
    server = Server(3, lambda user, _nth, line: b"" if user == users[2] else line, last=60)
    with server:
        assert main(flags(server, *SMALL, "--log-level", "error")) == 1
    out = capsys.readouterr().out
    assert out.startswith(
        f"FAILED\nuser {users[2]}: missing at its event 1: nothing more was received\n"
    )
    assert "    expected  '" in out
    assert "    received  nothing\n" in out


def test_parameters_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"totalEvents": 60, "concurrencyLevel": 3, "numberOfUsers": 5}.items():
        monkeypatch.setenv(name, str(value))
    with Server(3) as server:
        assert main(flags(server)) == 0


def test_debug_tells_everything(capsys: pytest.CaptureFixture[str]) -> None:
    user = Workload(60, 3, 5).connected[0]
    with Server(3) as server:
        assert main(flags(server, *SMALL, "--log-level", "debug")) == 0
    out = capsys.readouterr().out
    for part in (f"client {user} connected", "source connected", "source sent b'", "block 0"):
        assert part in out


def test_a_wrong_parameter(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rate", "x"]) == 2
    captured = capsys.readouterr()
    assert captured.err == ("simulator: error: --rate: 'x' is not a number above 0 (see --help)\n")
    assert captured.out == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["recrod", "x"], "'recrod' is not a command: use one of bench, record, replay, or none"),
        (["--report", "x.txt"], "--report x.txt: the file name must end in .html"),
        (["--serve", "--server-options", "--gap-policy=fail"], "--server-options='--gap-policy=fa"),
    ],
)
def test_what_was_probably_meant_is_told(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"Follower Maze {__version__}\n"


def test_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    port = str(closed_port())
    assert main(["--event-listener-port", port]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "python -m maze.serve" in line
    assert "--serve" in line


@pytest.mark.parametrize(
    ("flag", "who"),
    [
        ("--event-listener-port", "the event source"),
        ("--client-listener-port", "user clients"),
    ],
)
def test_only_one_of_the_ports(flag: str, who: str, capsys: pytest.CaptureFixture[str]) -> None:
    port = closed_port()
    with Server(3) as server:
        assert main(flags(server, *SMALL, flag, port)) == 2
    assert f"no server for {who} at 127.0.0.1:{port} " in capsys.readouterr().err


def test_a_server_of_our_own(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*map(str, SMALL), "--serve", "--linger", "0"]
    assert main(arguments, command("behaves", 3)) == 0
    out = capsys.readouterr().out
    assert "server CPU" in out
    assert "server peak memory" in out


def test_a_server_of_our_own_that_dies(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--serve"], command("dies")) == 2
    assert "the server ended before it was ready" in capsys.readouterr().err


def test_an_interrupt_stops_the_server_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[ServerProcess] = []

    class Watched(ServerProcess):
        def stop(self) -> None:
            super().stop()
            started.append(self)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(restarting, "ServerProcess", Watched)
    monkeypatch.setattr(run, "prepare", interrupt)
    assert main([*map(str, SMALL), "--serve"], command("behaves", 3)) == 130
    assert capsys.readouterr().err == "simulator: interrupted\n"
    with pytest.raises(ProcessLookupError):
        os.kill(started[0].pid, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_real_interrupt(number: signal.Signals) -> None:
    # Not measured: an exception that a signal raises inside coverage's tracer is lost.
    unmeasured = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    with Server(3, lambda *_: b"", stay=True) as server:
        child = subprocess.Popen(
            [
                *(sys.executable, "-m", "simulator"),
                *flags(server, *SMALL, "--timeout", 60_000, "--log-level", "debug"),
            ],
            cwd=ROOT,
            env=unmeasured,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with child:
            assert child.stdout is not None
            assert child.stderr is not None
            for line in child.stdout:
                if "source sent" in line:
                    break
            child.send_signal(number)
            assert child.wait(PATIENCE) == 130
            assert child.stderr.read() == "simulator: interrupted\n"


def test_the_module_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(sys, "argv", ["simulator", "--mix", "no"])
    try:
        with pytest.raises(SystemExit) as caught:
            runpy.run_module("simulator", run_name="__main__")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value.code == 2
