"""Declare every flag of a run once: its variable, default, unit, bounds and help.

A flag overrides its variable, and the variable overrides the default. The variables are those of
the challenge's original simulator, with their names and meaning; an empty variable counts as unset.
"""

from simulator import parameter_types as read
from simulator.parameter_types import LOG_LEVELS, Declarations, whole
from simulator.stream.workload import MAX_USERS, ORIGINAL_MIX

TLS_FLAGS = {
    "--tls-ca": "certificate authority of the server's certificate; enables TLS on both ports",
    "--tls-cert": "certificate that sources and clients present to the server",
    "--tls-key": "private key of the certificate in --tls-cert",
}
USERS_PER_CLIENT = 10
"""Default of --number-of-users, per client."""

_MAX_PORT = 65535
_MAX_SOURCES = 16


def declare_run(to: Declarations) -> None:
    """Declare the flags of a run except those of its stream."""
    _declare_server(to)
    _declare_conduct(to)
    _declare_restarts(to)
    _declare_pace(to)
    declare_log(to)
    _declare_output(to)


def declare_stream(to: Declarations) -> None:
    """Declare the flags of the stream."""
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
        f"users named in events, connected or not (default: {USERS_PER_CLIENT} per client)",
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
        "share of events with a malformed line in their place or nearby",
        unit="PERCENT",
    )
    to.add(
        "--gaps",
        whole(0),
        "0",
        "gaps of one to three sequence numbers that are never sent; sources disconnect after the "
        "last event. The server's reorder limit must be at least the batch size",
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
        "time for which a stalling client reads nothing",
        unit="MS",
    )
    to.add(
        "--stall-timeout",
        whole(0),
        # The default of the server's --hold-timeout, which is shorter than its --stall-timeout.
        "5000",
        "time a client must stall before the server may disconnect it; earlier is a failure",
        unit="MS",
    )
    to.add("--leaving", whole(0), "0", "clients that disconnect before the end of their stream")
    to.add("--returning", whole(0), "0", "clients that disconnect once and reconnect immediately")
    to.add(
        "--resuming",
        whole(0),
        "0",
        "clients that disconnect two or three times and come back with their position; they must "
        "miss nothing",
    )
    to.add(
        "--away-time",
        whole(0),
        "200",
        "maximum time for which a resuming client stays away",
        unit="MS",
    )


def _declare_restarts(to: Declarations) -> None:
    to.group("faults of connections and of the server")
    to.switch(
        "--resend",
        "sources connect again if their connection breaks, and send again what the server has not "
        "acknowledged; needs a server with --source-acks on that does not reset when sources "
        "disconnect",
    )
    to.add(
        "--restart-server",
        whole(0),
        "0",
        "times to kill the server during the run, with SIGKILL, and start it again; every client "
        "resumes. Needs --serve, --resend and a server with --journal FILE",
    )


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


def declare_log(to: Declarations) -> None:
    """Declare the flags of the log."""
    to.group("output")
    to.add(
        "--log-level",
        read.level,
        "info",
        f"minimum level of log lines: {', '.join(LOG_LEVELS)}",
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
