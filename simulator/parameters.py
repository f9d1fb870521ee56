"""Owns every parameter: flag, variable, default, unit and bounds, each declared once.

A flag beats the environment, the environment beats the default. The variables are those of the
challenge's original simulator, with their names and meaning; an empty variable counts as unset.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from simulator import __version__
from simulator import options as read
from simulator.errors import ParameterError
from simulator.options import LOG_LEVELS, Declarations, Parser, whole
from simulator.stream.faults import Faults
from simulator.stream.workload import MAX_USERS, ORIGINAL_MIX, Workload

_WHERE = ("--host", "--event-listener-port", "--client-listener-port")
TLS_FLAGS = {
    "--tls-ca": "authority that signed the server's certificate; turns TLS on for both ports",
    "--tls-cert": "certificate of the sources and the clients, for a server that asks for one",
    "--tls-key": "private key of the certificate in --tls-cert",
}
COMMANDS = ("bench", "record", "replay")
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
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    json: str | None = None
    report: str | None = None
    # As they were given, for who wants to run it again; what they mean is above.
    arguments: tuple[str, ...] = field(default=(), compare=False)


_FLAG_WINS = "A name in brackets is an environment variable of the same meaning; the flag wins. "
_STATUSES = (
    "Exit status: 0 all notifications received, 1 not, 2 the run could not take place, "
    "130 interrupted."
)


def parse(argv: Sequence[str], environment: Mapping[str, str]) -> Parameters:
    """The parameters of a run from the command line and the environment.

    Raises ParameterError with one line for a value that makes no sense; `--help` exits.
    """
    parser = Parser(
        prog="python -m simulator",
        description="Plays a stream of social events to a Follower Maze server and checks every "
        "byte that every user client receives. The same parameters give the same stream.",
        epilog=f"Other commands, with a --help of their own: {', '.join(COMMANDS)}. "
        + _FLAG_WINS
        + _STATUSES,
    )
    parser.add_argument("--version", action="version", version=f"Follower Maze {__version__}")
    if argv and not argv[0].startswith("-"):
        raise ParameterError(
            f"{argv[0]!r} is no command: there are {', '.join(COMMANDS)}, and none at all for a run"
        )
    declarations = Declarations(parser, environment)
    _declare_stream(declarations)
    _declare_run(declarations)
    given = parser.parse_args(argv)
    return replace(_checked(given, _workload(given)), arguments=tuple(argv))


def parse_record(
    argv: Sequence[str] | None, environment: Mapping[str, str]
) -> tuple[str, Workload, argparse.Namespace]:
    """The file and the stream of `record`; the rest has `log_level` and `log_interval`."""
    parser = Parser(
        prog="python -m simulator record",
        description="Prepares a stream and what each client must receive, and keeps both in a file "
        "for `replay`.",
        epilog=_FLAG_WINS,
    )
    parser.add_argument("file", metavar="FILE", help="is replaced if it exists")
    declarations = Declarations(parser, environment)
    _declare_stream(declarations)
    _declare_log(declarations)
    given = parser.parse_args(argv)
    return given.file, _workload(given), given


def parse_replay(
    argv: Sequence[str] | None, environment: Mapping[str, str]
) -> tuple[str, argparse.Namespace]:
    """The file of `replay`, and the rest for `with_workload`."""
    parser = Parser(
        prog="python -m simulator replay",
        description="Plays a stream that `record` has kept; the same as a run that prepares it.",
        epilog=_FLAG_WINS + _STATUSES,
    )
    parser.add_argument("file", metavar="FILE", help="what record wrote")
    _declare_run(Declarations(parser, environment))
    given = parser.parse_args(argv)
    return given.file, given


def with_workload(given: argparse.Namespace, workload: Workload) -> Parameters:
    """The parameters of a run whose stream came from elsewhere; raises ParameterError."""
    return _checked(given, workload)


def _declare_run(to: Declarations) -> None:
    _declare_server(to)
    _declare_conduct(to)
    _declare_pace(to)
    _declare_log(to)
    _declare_output(to)


def _declare_stream(to: Declarations) -> None:
    to.group("the stream")
    to.add("--total-events", "totalEvents", whole(1), "10000000", "events to send")
    to.add("--concurrency-level", "concurrencyLevel", whole(1), "100", "user clients to connect")
    to.add(
        "--number-of-users",
        "numberOfUsers",
        whole(1, MAX_USERS),
        None,
        "users that events are about, connected or not (default 10 for each client)",
    )
    to.add("--random-seed", "randomSeed", read.integer, "666", "seed of all that is random")
    to.add(
        "--max-event-source-batch-size",
        "maxEventSourceBatchSize",
        whole(1),
        "100",
        "events are shuffled within batches of random size, from 1 to this",
    )
    to.add(
        "--mix",
        None,
        read.mix,
        "original",
        "weights of follow, unfollow, broadcast, private message, status update; original: as "
        "recorded from the challenge's original simulator ({})".format(
            ",".join(f"{weight:g}" for weight in ORIGINAL_MIX)
        ),
        unit="F,U,B,P,S",
    )
    to.switch("--crlf", "end events with CR LF, not LF")

    to.group("faults to order; the verdict stays exact")
    to.add(
        "--duplicates",
        None,
        read.percent,
        "0",
        "percent of the events that come twice",
        unit="PERCENT",
    )
    to.add(
        "--conflicts",
        None,
        read.percent,
        "0",
        "percent of the events whose number comes again with other bytes",
        unit="PERCENT",
    )
    to.add(
        "--malformed",
        None,
        read.percent,
        "0",
        "percent of the events that have a malformed line in their place or near them",
        unit="PERCENT",
    )
    to.add(
        "--gaps",
        None,
        whole(0),
        "0",
        "times that one to three numbers are never sent; the source leaves when it has sent all. "
        "The server's reorder limit must not be below the batch size",
    )
    to.add(
        "--sources",
        None,
        whole(1, _MAX_SOURCES),
        "1",
        "sources that all send every event, each in an order of its own; the server must admit "
        "them, which one started by --serve does",
    )


def _declare_server(to: Declarations) -> None:
    to.group("the server")
    to.add("--host", None, str, "127.0.0.1", "machine that the server runs on", unit="HOST")
    port = whole(1, _MAX_PORT)
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
        read.words,
        None,
        "more options for the server that --serve starts, in one word: "
        "--server-options='--stall-timeout 1s'",
        unit="OPTIONS",
    )
    for flag, text in TLS_FLAGS.items():
        to.add(flag, None, str, None, text, unit="FILE")


def _declare_conduct(to: Declarations) -> None:
    to.group("faults to order in how sources write and clients read")
    to.add("--cuts", None, whole(1), None, "most bytes that the source writes at once", unit="B")
    to.add("--stalling", None, whole(0), "0", "clients that stop reading for the stall time")
    to.add("--stall-time", None, whole(0), "2000", "how long they do", unit="MS")
    to.add(
        "--stall-timeout",
        None,
        whole(0),
        "10000",
        "a stalling client must not be disconnected before, and may be from then on",
        unit="MS",
    )
    to.add("--leaving", None, whole(0), "0", "clients that leave in mid-stream")
    to.add("--returning", None, whole(0), "0", "clients that leave and come back at once")


def _declare_pace(to: Declarations) -> None:
    to.group("pace and patience")
    to.add("--rate", None, read.rate, None, "events a second to send (default: all that are taken)")
    to.switch("--latency", "measure the time from when an event could be delivered to its arrival")
    to.add("--latency-clients", None, whole(1), "10", "clients whose deliveries are timed")
    to.add(
        "--timeout",
        "timeout",
        whole(1),
        "20000",
        "longest wait of each client for a new message, not counting time in which "
        "a source pauses for --rate or a client stalls",
        unit="MS",
    )
    to.add(
        "--settle",
        None,
        whole(0),
        "0",
        "pause after the clients have connected, before the sources send",
        unit="MS",
    )
    to.add("--linger", None, whole(0), "200", "wait for bytes that should not come", unit="MS")


def _declare_log(to: Declarations) -> None:
    to.group("output")
    to.add("--log-level", "logLevel", read.level, "info", ", ".join(LOG_LEVELS), unit="LEVEL")
    to.add(
        "--log-interval",
        "logInterval",
        whole(1),
        "1000",
        "time between lines of progress when the output is not a terminal",
        unit="MS",
    )


def _declare_output(to: Declarations) -> None:
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


def _workload(given: argparse.Namespace) -> Workload:
    clients = given.concurrency_level
    users = clients * _USERS_PER_CLIENT if given.number_of_users is None else given.number_of_users
    if clients > users:
        raise ParameterError(
            f"--concurrency-level {clients} is more than --number-of-users {users}: "
            "every client is a user of its own"
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
            "--latency needs --rate: at full speed it would only measure how much is under way"
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
    odd = given.stalling + given.leaving + given.returning
    if odd > clients:
        raise ParameterError(
            f"--stalling, --leaving and --returning are {odd} clients together, more than "
            f"--concurrency-level {clients}"
        )
    if given.latency and (workload.faults.gaps or workload.sources > 1):
        raise ParameterError(
            "--latency goes with neither --gaps nor --sources: when an event could have been "
            "delivered is then not known"
        )


def _check_server(given: argparse.Namespace) -> None:
    if given.server_options and not given.serve:
        raise ParameterError("--server-options needs --serve: they are for the server it starts")
    if given.tls_ca is None and (given.tls_cert or given.tls_key):
        raise ParameterError("--tls-cert and --tls-key need --tls-ca, which turns TLS on")
    if (given.tls_cert is None) != (given.tls_key is None):
        raise ParameterError("--tls-cert and --tls-key are given together, or not at all")
    # Variables may be set for other runs: only what was asked for in so many words is refused.
    elsewhere = [flag for flag in read.flags_of(given) if flag in _WHERE]
    if given.serve and elsewhere:
        raise ParameterError(
            f"--serve does not go with {elsewhere[0]}: it starts a server of its own, on free ports"
        )


def _server_options(given: argparse.Namespace, sources: int) -> tuple[str, ...]:
    options = given.server_options or ()
    return (*options, "--max-sources", str(sources)) if sources > 1 else options
