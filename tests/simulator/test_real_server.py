"""Resuming clients and restarts, against the real server."""

import re
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from running import parameters

from simulator.cli import simulate
from simulator.report.console import ConsoleReport
from simulator.verdict.diagnosis import POSITION
from simulator.verdict.results import Verdict

pytestmark = pytest.mark.realtime

QUICK = ("--serve", "--linger", 50, "--timeout", 8000)
CROWD = ("--concurrency-level", 12, "--number-of-users", 40, "--mix", "1,1,1,1,1")
FAULTS = ("--duplicates", 5, "--conflicts", 5, "--malformed", 5, "--cuts", 3000, "--crlf")


def played(*flags: object) -> tuple[Verdict, str]:
    output = StringIO()
    with ConsoleReport("info", 1.0, Console(file=output, width=100)) as report:
        verdict = simulate(parameters(*QUICK, *CROWD, *flags), report)
    return verdict, output.getvalue()


@pytest.mark.parametrize("sources", [1, 3])
def test_clients_resume_beside_every_other_fault(sources: int) -> None:
    verdict, _ = played(
        *("--total-events", 10_000, *FAULTS, "--gaps", 9, "--sources", sources),
        *("--leaving", 2, "--returning", 2, "--stalling", 2, "--stall-time", 300),
        *("--resuming", 5, "--away-time", 50),
        # Gaps are given up while the stream goes on.
        *("--server-options", "--reorder-limit 1000"),
    )
    assert verdict == Verdict()


def test_clients_resume() -> None:
    verdict, output = played("--total-events", 10_000, "--resuming", 12, "--away-time", 50)
    assert verdict == Verdict()
    assert re.search(r"clients resumed +[23]\d *\n", output)


def test_a_server_that_keeps_nothing_fails() -> None:
    verdict, output = played(
        *("--total-events", 2000, "--rate", 8000, "--resuming", 3),
        *("--server-options", "--resume-events 0"),
    )
    assert verdict.failing
    assert {fault.kind for fault in verdict.faults} == {POSITION}
    assert "the server no longer keeps what the client missed" in output


def test_a_server_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    verdict, output = played(
        *("--total-events", 20_000, *FAULTS, "--rate", 40_000, "--resend", "--restart-server", 2),
        *("--server-options", f"--journal {tmp_path / 'journal'} --source-acks on"),
    )
    assert verdict == Verdict()
    assert "server restarts" in output
