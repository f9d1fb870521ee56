"""Declare every parameter once: flag, variable, default, unit and bounds.

A flag beats the environment, the environment beats the default. The variables are those of the
challenge's original simulator, with their names and meaning; an empty variable counts as unset.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from simulator import __version__
from simulator import parameter_types as read
from simulator.errors import ParameterError
from simulator.parameter_types import LOG_LEVELS, Declarations, Parser, whole
from simulator.stream.faults import Faults
from simulator.stream.workload import MAX_USERS, ORIGINAL_MIX, Workload

_ADDRESS_FLAGS = ("--host", "--event-listener-port", "--client-listener-port")
TLS_FLAGS = {
    "--tls-ca": "certificate authority of the server's certificate; enables TLS on both ports",
    "--tls-cert": "certificate that sources and clients present to the server",
    "--tls-key": "private key of the certificate in --tls-cert",
}
COMMANDS = ("bench", "record", "replay")
_MAX_PORT = 65535
_MAX_SOURCES = 16
_USERS_PER_CLIENT = 10


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
    stall_timeout: float = 10.0
    leaving: int = 0
    returning: int = 0
    server_options: tuple[str, ...] = ()
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    json: str | None = None
    report: str | None = None
    arguments: tuple[str, ...] = field(default=(), compare=False)
    """The command line as given, for reports. Runs with different ones may compare equal."""


_FLAG_WINS = "A name in brackets is the environment variable for the same setting; the flag wins. "
_STATUSES = (
    "Exit status: 0 if every client received exactly its events, 1 if not, 2 if the run could not "
    "take place, 130 if it was interrupted."
)


def parse(argv: Sequence[str], environment: Mapping[str, str]) -> Parameters:
    """Parse the parameters of a run from the command line and the environment.

    Raise ParameterError, a message of one line, for an invalid value. ``--help`` exits.
    """
    parser = Parser(
        prog="python -m simulator",
        description="Play a stream of social events to a Follower Maze server and check every byte "
        "that every user client receives. The same parameters give the same stream.",
        epilog=f"Other commands: {', '.join(COMMANDS)}; each has its own --help. "
        + _FLAG_WINS
        + _STATUSES,
    )
    parser.add_argument("--version", action="version", version=f"Follower Maze {__version__}")
    if argv and not argv[0].startswith("-"):
        raise ParameterError(
            f"{argv[0]!r} is not a command: use one of {', '.join(COMMANDS)}, or none for a run"
        )
    declarations = Declarations(parser, environment)
    _declare_stream(declarations)
    _declare_run(declarations)
    given = parser.parse_args(argv)
    return replace(_checked(given, _workload(given)), arguments=tuple(argv))


def parse_record(
    argv: Sequence[str] | None, environment: Mapping[str, str]
) -> tuple[str, Workload, argparse.Namespace]:
    """Parse the file and the stream of ``record``, and the namespace with its log options."""
    parser = Parser(
        prog="python -m simulator record",
        description="Prepare a stream and what each client must receive, and save both to a file "
        "for `replay`.",
        epilog=_FLAG_WINS,
    )
    parser.add_argument(
        "file", metavar="FILE", help="recording to write; an existing file is replaced"
    )
    declarations = Declarations(parser, environment)
    _declare_stream(declarations)
    _declare_log(declarations)
    given = parser.parse_args(argv)
    return given.file, _workload(given), given


def parse_replay(
    argv: Sequence[str] | None, environment: Mapping[str, str]
) -> tuple[str, argparse.Namespace]:
    """Parse the file of ``replay``, and the namespace for ``with_workload``."""
    parser = Parser(
        prog="python -m simulator replay",
        description="Play a stream that `record` saved, as a run that prepares it would.",
        epilog=_FLAG_WINS + _STATUSES,
    )
    parser.add_argument("file", metavar="FILE", help="recording to play")
    _declare_run(Declarations(parser, environment))
    given = parser.parse_args(argv)
    return given.file, given


def with_workload(given: argparse.Namespace, workload: Workload) -> Parameters:
    """Return the parameters of a run of a given workload; raise ParameterError."""
    return _checked(given, workload)


def _declare_run(to: Declarations) -> None:
    _declare_server(to)
    _declare_conduct(to)
    _declare_pace(to)
    _declare_log(to)
    _declare_output(to)


def _declare_stream(to: Declarations) -> None:
    to.group("the stream")
    to.add("--total-events", whole(1), "10000000", "events to send", variable="totalEvents")
    to.add(
        "--concurrency-level",
        whole(1),
        "100",
        "user clients to connect",
        variable="concurrencyLevel",
    )
    to.add(
        "--number-of-users",
        whole(1, MAX_USERS),
        None,
        "users named in events, connected or not (default: 10 per client)",
        variable="numberOfUsers",
    )
    to.add(
        "--random-seed", read.integer, "666", "seed of all random choices", variable="randomSeed"
    )
    to.add(
        "--max-event-source-batch-size",
        whole(1),
        "100",
        "maximum size of a batch; events are shuffled within batches of random size",
        variable="maxEventSourceBatchSize",
    )
    to.add(
        "--mix",
        read.mix,
        "original",
        "weights of follow, unfollow, broadcast, private message and status update; `original` is "
        "the mix recorded from the challenge's original simulator ({})".format(
            ",".join(f"{weight:g}" for weight in ORIGINAL_MIX)
        ),
        unit="F,U,B,P,S",
    )
    to.switch("--crlf", "end lines with CR LF instead of LF")

    to.group("faults in the stream")
    to.add("--duplicates", read.percent, "0", "share of events that are sent twice", unit="PERCENT")
    to.add(
        "--conflicts",
        read.percent,
        "0",
        "share of events whose sequence number is sent again with another payload",
        unit="PERCENT",
    )
    to.add(
        "--malformed",
        read.percent,
        "0",
        "share of events with a malformed line in their place or near them",
        unit="PERCENT",
    )
    to.add(
        "--gaps",
        whole(0),
        "0",
        "gaps of one to three sequence numbers that are never sent; sources disconnect when they "
        "have sent everything. The server's reorder limit must be at least the batch size",
    )
    to.add(
        "--sources",
        whole(1, _MAX_SOURCES),
        "1",
        "event sources; each sends every event in its own order. The server must admit that many, "
        "as one started by --serve does",
    )


def _declare_server(to: Declarations) -> None:
    to.group("the server")
    to.add("--host", str, "127.0.0.1", "host name or address of the server", unit="HOST")
    port = whole(1, _MAX_PORT)
    to.add(
        "--event-listener-port",
        port,
        "9090",
        "server port for event sources",
        unit="PORT",
        variable="eventListenerPort",
    )
    to.add(
        "--client-listener-port",
        port,
        "9099",
        "server port for user clients",
        unit="PORT",
        variable="clientListenerPort",
    )
    to.switch(
        "--serve", "start `python -m maze.serve` on free local ports, and stop it after the run"
    )

    to.add(
        "--server-options",
        read.words,
        None,
        "options for the server that --serve starts, quoted as one argument: "
        "--server-options='--stall-timeout 1s'",
        unit="OPTIONS",
    )
    for flag, text in TLS_FLAGS.items():
        to.add(flag, str, None, text, unit="FILE")


def _declare_conduct(to: Declarations) -> None:
    to.group("faults in how sources write and clients read")
    to.add("--cuts", whole(1), None, "maximum bytes per write of a source", unit="BYTES")
    to.add("--stalling", whole(0), "0", "clients that stop reading once, for --stall-time")
    to.add(
        "--stall-time",
        whole(0),
        "2000",
        "time for which a stalling client does not read",
        unit="MS",
    )
    to.add(
        "--stall-timeout",
        whole(0),
        "10000",
        "stall after which the server may disconnect a client; earlier is a failure",
        unit="MS",
    )
    to.add("--leaving", whole(0), "0", "clients that disconnect before the end of their stream")
    to.add("--returning", whole(0), "0", "clients that disconnect once and reconnect immediately")


def _declare_pace(to: Declarations) -> None:
    to.group("timing")
    to.add(
        "--rate", read.rate, None, "events per second that each source sends (default: unlimited)"
    )
    to.switch(
        "--latency",
        "measure the time from when an event can be delivered until it arrives; needs --rate",
    )
    to.add("--latency-clients", whole(1), "10", "clients sampled for --latency")
    to.add(
        "--timeout",
        whole(1),
        "20000",
        "time without a new message after which a client gives up, not counting pauses for --rate "
        "or stalls",
        unit="MS",
        variable="timeout",
    )
    to.add(
        "--settle",
        whole(0),
        "0",
        "pause between the connection of the last client and the first event",
        unit="MS",
    )
    to.add(
        "--linger",
        whole(0),
        "200",
        "time to wait for unexpected bytes after the last event",
        unit="MS",
    )


def _declare_log(to: Declarations) -> None:
    to.group("output")
    to.add(
        "--log-level",
        read.level,
        "info",
        f"minimum level: {', '.join(LOG_LEVELS)}",
        unit="LEVEL",
        variable="logLevel",
    )
    to.add(
        "--log-interval",
        whole(1),
        "1000",
        "time between progress lines when the output is not a terminal",
        unit="MS",
        variable="logInterval",
    )


def _declare_output(to: Declarations) -> None:
    to.add(
        "--json",
        str,
        None,
        "write parameters, verdict and figures as JSON; - is stdout, and moves all other output "
        "to stderr",
        unit="FILE",
    )
    to.add(
        "--report",
        str,
        None,
        "write an HTML page with charts, figures and parameters",
        unit="FILE.html",
    )


def _workload(given: argparse.Namespace) -> Workload:
    clients = given.concurrency_level
    users = clients * _USERS_PER_CLIENT if given.number_of_users is None else given.number_of_users
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


def _checked(given: argparse.Namespace, workload: Workload) -> Parameters:
    if given.latency and given.rate is None:
        raise ParameterError(
            "--latency needs --rate: at full speed it would only measure how much is queued"
        )
    _check_faults(given, workload)
    _check_server(given)
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
    unsteady = given.stalling + given.leaving + given.returning
    if unsteady > clients:
        raise ParameterError(
            f"--stalling, --leaving and --returning add up to {unsteady} clients, more than "
            f"--concurrency-level {clients}"
        )
    if given.latency and (workload.faults.gaps or workload.sources > 1):
        raise ParameterError(
            "--latency cannot be combined with --gaps or --sources: with them, the time from which "
            "an event could be delivered is unknown"
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


def _server_options(given: argparse.Namespace, sources: int) -> tuple[str, ...]:
    options = given.server_options or ()
    return (*options, "--max-sources", str(sources)) if sources > 1 else options
