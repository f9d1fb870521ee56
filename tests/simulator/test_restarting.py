"""A server that is killed and started again during a run."""

import json
import os
import re
import shlex
import signal
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from running import parameters
from test_server_process import command, is_gone

from simulator.cli import main, simulate
from simulator.errors import ParameterError
from simulator.play.restarting import Restart, RestartSchedule, restarts
from simulator.play.server_process import ServerProcess
from simulator.report.console import ConsoleReport
from simulator.report.text_report import ALL_RECEIVED
from simulator.verdict.diagnosis import POSITION
from simulator.verdict.results import Verdict

pytestmark = pytest.mark.realtime

NEAR = (
    *("--total-events", 600, "--concurrency-level", 5, "--number-of-users", 8),
    *("--mix", "1,1,1,1,2", "--rate", 3000, "--timeout", 8000, "--linger", 50),
)
WORKLOAD = parameters(*NEAR).workload
RESTARTING = ("--serve", "--resend", "--away-time", 20)


def served(path: Path) -> tuple[str, str]:
    """The options of a stand-in that keeps its journal there."""
    users = ",".join(map(str, WORKLOAD.connected))
    return "--server-options", f"--journal {path} --users {users}"


def verdict_on(manner: str, path: Path, *more: object) -> tuple[Verdict, str]:
    output = StringIO()
    given = parameters(*NEAR, *RESTARTING, *served(path), *more)
    with ConsoleReport("info", 1.0, Console(file=output, width=100)) as report:
        verdict = simulate(given, report, command(manner, 5))
    return verdict, output.getvalue()


@pytest.mark.parametrize(
    "more", [("--restart-server", 2), ("--restart-server", 1, "--resuming", 3)]
)
def test_a_server_that_keeps_its_journal_passes(tmp_path: Path, more: tuple[object, ...]) -> None:
    out = tmp_path / "out.json"
    verdict, output = verdict_on("keeps", tmp_path / "journal", *more, "--json", out)
    assert verdict == Verdict()
    assert ALL_RECEIVED in output
    for row in (
        rf"server restarts +{more[1]}",
        r"sources reconnected +\d",
        r"clients resumed +\d+",
    ):
        assert re.search(rf"{row} *\n", output)
    data = json.loads(out.read_text())
    assert (data["parameters"]["restart_server"], data["figures"]["restarts"]) == (more[1], more[1])
    assert data["figures"]["usage"]["cpu_seconds"] > 0
    processor = [sample["cpu_seconds"] for sample in data["timeline"]]
    known = [seconds for seconds in processor if seconds is not None]
    assert known == sorted(known)


def test_a_server_that_forgets_fails(tmp_path: Path) -> None:
    verdict, output = verdict_on("forgets", tmp_path / "journal", "--restart-server", 1)
    assert verdict.status == 1
    assert verdict.failing
    assert POSITION in {fault.kind for fault in verdict.faults}
    assert "the server no longer keeps what the client missed" in output
    (fault,) = verdict.server_faults
    assert re.match(r"the server acknowledged everything below \d+, but later only what is", fault)


def test_a_server_that_does_not_come_back_fails(tmp_path: Path) -> None:
    verdict, output = verdict_on("falls", tmp_path / "journal", "--restart-server", 1)
    assert verdict.status == 1
    (fault,) = verdict.server_faults
    assert fault.startswith("after it was killed, the server ended before it was ready")
    assert fault in output


def test_a_killed_process_is_gone_and_that_is_no_fault() -> None:
    with ServerProcess(command("behaves")) as server:
        server.kill()
        assert is_gone(server.pid)
        assert server.usage is not None
        server.kill()  # once more does nothing
    assert server.fault is None


def test_a_process_that_ended_before_it_was_killed_is_a_fault() -> None:
    with ServerProcess(command("behaves")) as server:
        os.kill(server.pid, signal.SIGKILL)
        assert server.has_ended()
        server.kill()
    assert server.fault == "the server was ended by SIGKILL"


def test_restarts_are_chosen_by_the_seed() -> None:
    chosen = restarts(7, 20)
    assert len(chosen) == 20
    assert list(chosen) == sorted(chosen)
    assert all(0 < moment.share < 1 and 0 <= moment.delay <= 0.05 for moment in chosen)
    assert restarts(7, 20) == chosen != restarts(8, 20)


def test_a_restart_is_due_some_time_after_enough_bytes() -> None:
    schedule = RestartSchedule([Restart(0.5, 2.0), Restart(0.75, 0.0)], 100)
    assert not schedule.due(10.0, 49)
    assert not schedule.is_reached(49)
    assert schedule.is_reached(50)
    assert not schedule.due(20.0, 50)
    assert not schedule.due(21.9, 99)
    assert schedule.due(22.0, 99)
    schedule.done()
    assert schedule.pending
    assert not schedule.is_reached(74)
    assert schedule.is_reached(100), "all may be received at once: this restart is not left out"
    assert not schedule.due(23.0, 74)
    schedule.hasten()
    assert schedule.due(24.0, 0)
    schedule.done()
    assert not schedule.pending
    assert not schedule.due(99.0, 100)


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        ("--resend", "--restart-server needs --serve"),
        ("--serve", "--restart-server needs --resend"),
        ("--serve --resend", "needs a server with a journal: --server-options='--journal FILE"),
        ("--serve --resend --server-options=--journal=none", "needs a server with a journal"),
        ("--serve --resend --server-options '--journal none'", "needs a server with a journal"),
        (
            "--serve --resend --server-options '--journal x' --leaving 1",
            "--restart-server cannot be combined with --stalling, --leaving or --returning",
        ),
    ],
)
def test_what_a_restart_needs(flags: str, part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--restart-server", "2", *shlex.split(flags)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert part in line


@pytest.mark.parametrize("options", ["--journal x", "--journal=x", "--journal none --journal x"])
def test_a_journal_is_seen(options: str) -> None:
    given = parameters("--serve", "--resend", "--restart-server", 2, f"--server-options={options}")
    assert given.restart_server == 2
    with pytest.raises(ParameterError):
        parameters("--restart-server", 2)
