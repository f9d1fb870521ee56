"""Parse the parameters of a run, and check that they fit together."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from simulator import __version__
from simulator import parameter_types as read
from simulator.errors import ParameterError
from simulator.flags import USERS_PER_CLIENT, declare_log, declare_run, declare_stream
from simulator.parameter_types import Declarations, Parser
from simulator.stream.faults import Faults
from simulator.stream.workload import Workload

_ADDRESS_FLAGS = ("--host", "--event-listener-port", "--client-listener-port")
COMMANDS = ("bench", "record", "replay")


@dataclass(frozen=True)
class Parameters:
    """The checked parameters of a run. Times are in seconds."""

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
    stall_timeout: float = 5.0
    leaving: int = 0
    returning: int = 0
    resuming: int = 0
    away_time: float = 0.2
    resend: bool = False
    restart_server: int = 0
    server_options: tuple[str, ...] = ()
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    json: str | None = None
    report: str | None = None
    arguments: tuple[str, ...] = field(default=(), compare=False)
    """The command line as given, for reports; it is not compared."""


_VARIABLES = (
    "A name in brackets is an environment variable with the same meaning; the flag overrides it. "
)
_STATUSES = (
    "Exit status: 0 if every client received exactly its events, 1 if not, 2 if the run could not "
    "take place, 130 if it was interrupted."
)


def parse(argv: Sequence[str], environment: Mapping[str, str]) -> Parameters:
    """Parse the parameters of a run from the command line and the environment.

    Raise ParameterError, with a message of one line, if one is invalid. ``--help`` exits.
    """
    parser = Parser(
        prog="python -m simulator",
        description="Play a stream of social events to a Follower Maze server and check every byte "
        "that every user client receives. The same parameters give the same stream.",
        epilog=f"Other commands: {', '.join(COMMANDS)}; each has its own --help. "
        + _VARIABLES
        + _STATUSES,
    )
    parser.add_argument("--version", action="version", version=f"Follower Maze {__version__}")
    if argv and not argv[0].startswith("-"):
        raise ParameterError(
            f"{argv[0]!r} is not a command: use one of {', '.join(COMMANDS)}, or none for a run"
        )
    declarations = Declarations(parser, environment)
    declare_stream(declarations)
    declare_run(declarations)
    given = parser.parse_args(argv)
    return replace(with_workload(given, _workload(given)), arguments=tuple(argv))


def parse_record(
    argv: Sequence[str] | None, environment: Mapping[str, str]
) -> tuple[str, Workload, argparse.Namespace]:
    """Return the file and the workload of ``record``, and the namespace with its log options."""
    parser = Parser(
        prog="python -m simulator record",
        description="Prepare a stream and what each client must receive, and save both to a file "
        "for `replay`.",
        epilog=_VARIABLES,
    )
    parser.add_argument(
        "file", metavar="FILE", help="recording to write; an existing file is replaced"
    )
    declarations = Declarations(parser, environment)
    declare_stream(declarations)
    declare_log(declarations)
    given = parser.parse_args(argv)
    return given.file, _workload(given), given


def parse_replay(
    argv: Sequence[str] | None, environment: Mapping[str, str]
) -> tuple[str, argparse.Namespace]:
    """Return the file of ``replay``, and the namespace for ``with_workload``."""
    parser = Parser(
        prog="python -m simulator replay",
        description="Play a stream that `record` saved, instead of preparing one.",
        epilog=_VARIABLES + _STATUSES,
    )
    parser.add_argument("file", metavar="FILE", help="recording to play")
    declare_run(Declarations(parser, environment))
    given = parser.parse_args(argv)
    return given.file, given


def _workload(given: argparse.Namespace) -> Workload:
    clients = given.concurrency_level
    users = clients * USERS_PER_CLIENT if given.number_of_users is None else given.number_of_users
    if clients > users:
        raise ParameterError(
            f"--concurrency-level {clients} is more than --number-of-users {users}: "
            "every client is a different user"
        )
    return Workload(
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


def with_workload(given: argparse.Namespace, workload: Workload) -> Parameters:
    """Return the parameters of a run of this workload; raise ParameterError if they do not fit."""
    if given.latency and given.rate is None:
        raise ParameterError(
            "--latency needs --rate: at full speed it would only measure how much is queued"
        )
    _check_faults(given, workload)
    _check_server(given)
    _check_restarts(given)
    read.ending("--report", given.report, ".html", ".htm")
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
        resuming=given.resuming,
        away_time=given.away_time / 1000,
        resend=given.resend,
        restart_server=given.restart_server,
        server_options=_server_options(given, workload.sources),
        tls_ca=given.tls_ca,
        tls_cert=given.tls_cert,
        tls_key=given.tls_key,
        json=given.json,
        report=given.report,
        settle=given.settle / 1000,
        linger=given.linger / 1000,
        serve=given.serve,
    )


def _check_faults(given: argparse.Namespace, workload: Workload) -> None:
    clients = workload.clients
    unsteady = given.stalling + given.leaving + given.returning + given.resuming
    if unsteady > clients:
        raise ParameterError(
            f"--stalling, --leaving, --returning and --resuming add up to {unsteady} clients, more "
            f"than --concurrency-level {clients}"
        )
    if given.latency and (workload.faults.gaps or workload.sources > 1):
        raise ParameterError(
            "--latency cannot be combined with --gaps or --sources: with them, the time from which "
            "an event could be delivered is unknown"
        )
    if given.latency and given.resend:
        raise ParameterError(
            "--latency cannot be combined with --resend: an event that is sent twice has no one "
            "time from which it could be delivered"
        )


def _check_server(given: argparse.Namespace) -> None:
    if given.server_options and not given.serve:
        raise ParameterError(
            "--server-options needs --serve: the options are for the server that it starts"
        )
    if given.tls_ca is None and (given.tls_cert or given.tls_key):
        raise ParameterError("--tls-cert and --tls-key need --tls-ca, which enables TLS")
    if (given.tls_cert is None) != (given.tls_key is None):
        raise ParameterError("--tls-cert and --tls-key need each other: give both or neither")
    # Environment variables may be set for other runs, so only flags are refused.
    elsewhere = [flag for flag in read.flags_of(given) if flag in _ADDRESS_FLAGS]
    if given.serve and elsewhere:
        raise ParameterError(
            f"--serve cannot be combined with {elsewhere[0]}: it starts a server on free ports"
        )


def _check_restarts(given: argparse.Namespace) -> None:
    if not given.restart_server:
        return
    for flag, value in (("--serve", given.serve), ("--resend", given.resend)):
        if not value:
            raise ParameterError(f"--restart-server needs {flag}")
    if not _has_journal(given.server_options or ()):
        raise ParameterError(
            "--restart-server needs a server with a journal: "
            "--server-options='--journal FILE --source-acks on'"
        )
    if given.stalling or given.leaving or given.returning:
        raise ParameterError(
            "--restart-server cannot be combined with --stalling, --leaving or --returning: every "
            "client resumes"
        )


def _has_journal(options: Sequence[str]) -> bool:
    values = [
        option.partition("=")[2] if "=" in option else following
        for option, following in zip(options, [*options[1:], ""], strict=False)
        if option.partition("=")[0] == "--journal"
    ]
    return bool(values) and values[-1] not in ("", "none")


def _server_options(given: argparse.Namespace, sources: int) -> tuple[str, ...]:
    options = given.server_options or ()
    return (*options, "--max-sources", str(sources)) if sources > 1 else options
