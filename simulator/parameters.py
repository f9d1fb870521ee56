"""Owns every parameter: flag, variable, default, unit and bounds, each declared once.

A flag beats the environment, the environment beats the default. The variables are those of the
challenge's original simulator, with their names and meaning; an empty variable counts as unset.
"""

import argparse
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NoReturn

from simulator.errors import ParameterError
from simulator.faults import Faults
from simulator.workload import LETTERS, MAX_USERS, Workload

LOG_LEVELS = ("debug", "info", "warning", "error")
_MAX_PORT = 65535
_MAX_SOURCES = 16
_USERS_PER_CLIENT = 10


@dataclass(frozen=True)
class Parameters:
    """What a run needs to know, checked. Times are in seconds here."""

    workload: Workload
    host: str
    source_port: int
    client_port: int
    timeout: float
    log_level: str
    log_interval: float
    rate: float | None
    settle: float
    linger: float
    serve: bool
    latency: bool = False
    latency_clients: int = 10
    cuts: int | None = None
    stalling: int = 0
    stall_time: float = 2.0
    stall_timeout: float = 10.0
    leaving: int = 0
    returning: int = 0
    server_options: tuple[str, ...] = ()
    json: str | None = None
    report: str | None = None


def parse(argv: Sequence[str] | None, environment: Mapping[str, str]) -> Parameters:
    """The parameters from the command line and the environment.

    Raises ParameterError with one line for a value that makes no sense; `--help` exits.
    """
    parser = _Parser(
        prog="python -m simulator",
        description="Plays a stream of social events to a Follower Maze server and checks every "
        "byte that every user client receives. The same parameters give the same stream.",
        epilog="A name in brackets is an environment variable of the same meaning; the flag wins. "
        "Exit status: 0 all notifications received, 1 not, 2 the run could not take place.",
    )
    _declare(_Declarations(parser, environment))
    return _checked(parser.parse_args(argv))


class _Declarations:
    """One call of `add` declares one parameter completely."""

    def __init__(self, parser: "_Parser", environment: Mapping[str, str]) -> None:
        self._parser = parser
        self._environment = environment

    def group(self, title: str) -> None:
        """The parameters that follow are shown under this title."""
        self._group = self._parser.add_argument_group(title)

    def add(
        self,
        flag: str,
        variable: str | None,
        read: Callable[[str], object],
        default: str | None,
        text: str,
        *,
        unit: str = "N",
    ) -> None:
        """A parameter with a value; a default of None is explained by `text`."""
        shown = text if default is None else f"{text} (default {default})"
        if variable:
            shown += f" [{variable}]"
            default = self._environment.get(variable) or default
            self._parser.variables[flag] = variable
        # argparse reads a default that is text as if it had been given: `read` checks all three.
        self._group.add_argument(
            flag, type=read, default=default, metavar=unit, help=shown.replace("%", "%%")
        )

    def switch(self, flag: str, text: str) -> None:
        """A parameter that is either given or not."""
        self._group.add_argument(flag, action="store_true", help=text)


def _declare(to: _Declarations) -> None:
    to.group("the stream")
    to.add("--total-events", "totalEvents", _whole(1), "10000000", "events to send")
    to.add("--concurrency-level", "concurrencyLevel", _whole(1), "100", "user clients to connect")
    to.add(
        "--number-of-users",
        "numberOfUsers",
        _whole(1, MAX_USERS),
        None,
        "users that events are about, connected or not (default 10 for each client)",
    )
    to.add("--random-seed", "randomSeed", _integer, "666", "seed of all that is random")
    to.add(
        "--max-event-source-batch-size",
        "maxEventSourceBatchSize",
        _whole(1),
        "100",
        "events are shuffled within batches of random size, from 1 to this",
    )
    to.add(
        "--mix",
        None,
        _mix,
        "1,1,1,1,1",
        "weights of follow, unfollow, broadcast, private message, status update",
        unit="F,U,B,P,S",
    )
    to.switch("--crlf", "end events with CR LF, not LF")

    to.group("the server")
    to.add("--host", None, str, "127.0.0.1", "machine that the server runs on", unit="HOST")
    port = _whole(1, _MAX_PORT)
    to.add("--event-listener-port", "eventListenerPort", port, "9090", "source's port", unit="PORT")
    to.add(
        "--client-listener-port", "clientListenerPort", port, "9099", "clients' port", unit="PORT"
    )
    to.switch(
        "--serve", "start `python -m maze.serve` on free ports of this machine, stop it at the end"
    )

    to.add(
        "--server-options",
        None,
        _options,
        None,
        "more options for the server that --serve starts, in one word: '--stall-timeout 1s'",
        unit="OPTIONS",
    )

    to.group("faults to order; the verdict stays exact")
    percent = "percent of the events"
    to.add("--duplicates", None, _percent, "0", f"{percent} that come twice", unit="PERCENT")
    to.add(
        "--conflicts",
        None,
        _percent,
        "0",
        f"{percent} whose number comes again with other bytes",
        unit="PERCENT",
    )
    to.add(
        "--malformed",
        None,
        _percent,
        "0",
        f"{percent} that have a malformed line in their place or near them",
        unit="PERCENT",
    )
    to.add(
        "--gaps",
        None,
        _whole(0),
        "0",
        "times that one to three numbers are never sent; the source leaves when it has sent all. "
        "The server's reorder limit must not be below the batch size",
    )
    to.add("--cuts", None, _whole(1), None, "most bytes that the source writes at once", unit="B")
    to.add(
        "--sources",
        None,
        _whole(1, _MAX_SOURCES),
        "1",
        "sources that all send every event, each in an order of its own; the server must admit "
        "them, which one started by --serve does",
    )
    to.add("--stalling", None, _whole(0), "0", "clients that stop reading for the stall time")
    to.add("--stall-time", None, _whole(0), "2000", "how long they do", unit="MS")
    to.add(
        "--stall-timeout",
        None,
        _whole(0),
        "10000",
        "a stalling client must not be disconnected before, and may be from then on",
        unit="MS",
    )
    to.add("--leaving", None, _whole(0), "0", "clients that leave in mid-stream")
    to.add("--returning", None, _whole(0), "0", "clients that leave and come back at once")

    to.group("pace and patience")
    to.add("--rate", None, _rate, None, "events a second to send (default: all that are taken)")
    to.switch("--latency", "measure the time from when an event could be delivered to its arrival")
    to.add("--latency-clients", None, _whole(1), "10", "clients whose deliveries are timed")
    to.add("--timeout", "timeout", _whole(1), "20000", "longest wait for a new message", unit="MS")
    to.add("--settle", None, _whole(0), "100", "wait after the server has read all ids", unit="MS")
    to.add("--linger", None, _whole(0), "200", "wait for bytes that should not come", unit="MS")

    to.group("output")
    to.add("--log-level", "logLevel", _level, "info", ", ".join(LOG_LEVELS), unit="LEVEL")
    to.add(
        "--log-interval",
        "logInterval",
        _whole(1),
        "1000",
        "time between lines of progress when the output is not a terminal",
        unit="MS",
    )
    to.add(
        "--json",
        None,
        str,
        None,
        "write parameters, verdict and figures for machines; - is stdout, and then all that people "
        "read goes to stderr",
        unit="FILE",
    )
    to.add("--report", None, str, None, "write a page of charts to look at", unit="FILE.html")


def _checked(given: argparse.Namespace) -> Parameters:
    clients = given.concurrency_level
    users = clients * _USERS_PER_CLIENT if given.number_of_users is None else given.number_of_users
    if clients > users:
        raise ParameterError(
            f"--concurrency-level {clients} is more than --number-of-users {users}: "
            "every client is a user of its own"
        )
    if given.latency and given.rate is None:
        raise ParameterError(
            "--latency needs --rate: at full speed it would only measure how much is under way"
        )
    _check_faults(given, clients)
    workload = Workload(
        events=given.total_events,
        clients=clients,
        users=users,
        batch=given.max_event_source_batch_size,
        seed=given.random_seed,
        mix=given.mix,
        crlf=given.crlf,
        faults=Faults(given.duplicates, given.conflicts, given.malformed, given.gaps),
        sources=given.sources,
    )
    return Parameters(
        workload=workload,
        host=given.host,
        source_port=given.event_listener_port,
        client_port=given.client_listener_port,
        timeout=given.timeout / 1000,
        log_level=given.log_level,
        log_interval=given.log_interval / 1000,
        rate=given.rate,
        latency=given.latency,
        latency_clients=given.latency_clients,
        cuts=given.cuts,
        stalling=given.stalling,
        stall_time=given.stall_time / 1000,
        stall_timeout=given.stall_timeout / 1000,
        leaving=given.leaving,
        returning=given.returning,
        server_options=_server_options(given),
        json=given.json,
        report=given.report,
        settle=given.settle / 1000,
        linger=given.linger / 1000,
        serve=given.serve,
    )


def _check_faults(given: argparse.Namespace, clients: int) -> None:
    odd = given.stalling + given.leaving + given.returning
    if odd > clients:
        raise ParameterError(
            f"--stalling, --leaving and --returning are {odd} clients together, more than "
            f"--concurrency-level {clients}"
        )
    if given.latency and (given.gaps or given.sources > 1):
        raise ParameterError(
            "--latency goes with neither --gaps nor --sources: when an event could have been "
            "delivered is then not known"
        )
    if given.server_options and not given.serve:
        raise ParameterError("--server-options needs --serve: they are for the server it starts")


def _server_options(given: argparse.Namespace) -> tuple[str, ...]:
    options = given.server_options or ()
    return (*options, "--max-sources", str(given.sources)) if given.sources > 1 else options


class _Parser(argparse.ArgumentParser):
    """Gives its errors as ParameterError, and names the variable beside the flag."""

    variables: ClassVar[dict[str, str]] = {}

    def error(self, message: str) -> NoReturn:
        for flag, variable in self.variables.items():
            message = message.replace(f"argument {flag}:", f"{flag} [{variable}]:")
        raise ParameterError(f"{message.removeprefix('argument ')} (see --help)")


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def _whole(least: int, most: int | None = None) -> Callable[[str], int]:
    def read(text: str) -> int:
        value = _integer(text)
        if value < least or (most is not None and value > most):
            bounds = f"at least {least}" if most is None else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"{text} is not {bounds}")
        return value

    return read


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return rate


def _percent(text: str) -> float:
    try:
        percent = float(text)
    except ValueError:
        percent = -1.0
    if not 0 <= percent <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage from 0 to 100")
    return percent


def _options(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def _mix(text: str) -> tuple[float, ...]:
    try:
        weights = tuple(float(weight) for weight in text.split(","))
    except ValueError:
        weights = ()
    if len(weights) != len(LETTERS) or not all(0 <= weight < float("inf") for weight in weights):
        raise argparse.ArgumentTypeError(f"{text!r} is not five weights F,U,B,P,S, each 0 or more")
    if not any(weights):
        raise argparse.ArgumentTypeError(f"{text!r} leaves no event to send")
    return weights


def _level(text: str) -> str:
    level = {"warn": "warning"}.get(text.lower(), text.lower())
    if level not in LOG_LEVELS:
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(LOG_LEVELS)}")
    return level
