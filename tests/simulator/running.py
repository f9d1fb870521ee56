"""Runs the simulator in process against a server of these tests."""

import socket
from collections.abc import Iterator, Sequence
from io import StringIO

from position_server import PositionServer
from rich.console import Console
from servers import Server

from simulator.cli import simulate
from simulator.parameters import Parameters, parse
from simulator.play.client import Client
from simulator.report.console import ConsoleReport
from simulator.stream.oracle import Expectation
from simulator.verdict.results import Verdict

Pair = tuple[socket.socket, socket.socket]


def socket_pair() -> Iterator[Pair]:
    """Yield a non-blocking socket, and the other end of it."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def client_of(connection: socket.socket, expected: bytes, *, lines: bool = False) -> Client:
    """Return a client of user 5 that expects these bytes, in blocks of 8."""
    expectation = Expectation(block=8)
    expectation.add(expected, 2)
    expectation.finish()
    return Client(5, connection, expectation, lines=lines)


def parameters(*argv: object) -> Parameters:
    """As from the command line, with an empty environment."""
    return parse([str(arg) for arg in argv], {})


def flags(server: Server | PositionServer, *more: object) -> list[str]:
    """Where the server is, and waits that suit a test; later flags win."""
    return [
        *("--event-listener-port", str(server.source_port)),
        *("--client-listener-port", str(server.client_port)),
        *("--linger", "50", "--timeout", "5000"),
        *map(str, more),
    ]


def judged(server: Server | PositionServer, arguments: Sequence[object]) -> tuple[Verdict, str]:
    """The verdict on the server, and what the user reads."""
    output = StringIO()
    with server, ConsoleReport("info", 1.0, Console(file=output, width=100)) as report:
        verdict = simulate(parameters(*flags(server, *arguments)), report)
    return verdict, output.getvalue()
