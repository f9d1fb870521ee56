"""Runs the simulator in process against a server of these tests."""

from collections.abc import Sequence
from io import StringIO

from rich.console import Console
from servers import Server

from simulator.cli import simulate
from simulator.parameters import Parameters, parse
from simulator.report.console import ConsoleReport
from simulator.verdict.results import Verdict


def parameters(*argv: object) -> Parameters:
    """As from the command line, with an empty environment."""
    return parse([str(arg) for arg in argv], {})


def flags(server: Server, *more: object) -> list[str]:
    """Where the server is, and waits that suit a test; later flags win."""
    return [
        *("--event-listener-port", str(server.source_port)),
        *("--client-listener-port", str(server.client_port)),
        *("--linger", "50", "--timeout", "5000"),
        *map(str, more),
    ]


def judged(server: Server, arguments: Sequence[object]) -> tuple[Verdict, str]:
    """The verdict on the server, and what the user reads."""
    output = StringIO()
    with server, ConsoleReport("info", 1.0, Console(file=output, width=100)) as report:
        verdict = simulate(parameters(*flags(server, *arguments)), report)
    return verdict, output.getvalue()
