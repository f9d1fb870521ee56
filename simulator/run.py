"""Run once: connect, prepare the stream, play it, compare, measure."""

import dataclasses
import logging
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial

from simulator.errors import ConnectError, RefusedError
from simulator.parameters import Parameters
from simulator.play.conduct import Conduct, Timing
from simulator.play.connecting import Address, check_files, connect_clients, connect_sources
from simulator.play.player import Play, Progress
from simulator.play.preflight import first_acknowledgements, unserved_hint
from simulator.play.restarting import ServerLives, restarts
from simulator.play.resuming import leavings
from simulator.play.server_process import COMMAND
from simulator.play.source import WRITE_BYTES
from simulator.play.timeline import Timeline
from simulator.play.tls import context
from simulator.play.unsteady import STALL, habits
from simulator.report.console import ConsoleReport
from simulator.stream.oracle import Prepared, block_size, prepare
from simulator.stream.workload import Chunk, Workload
from simulator.verdict.diagnosis import diagnose
from simulator.verdict.results import Figures, Latency, Result, Verdict
from simulator.verdict.unsteady_verification import verify

log = logging.getLogger("simulator")

MAX_FAULTS = 10
"""Maximum failing clients whose first fault is found and shown."""

_MAX_LOGGED_EVENTS = 10_000
"""Maximum events of a run whose debug log has every line sent and received."""


def run(
    parameters: Parameters,
    report: ConsoleReport,
    server_command: Sequence[str] = COMMAND,
    prepared: Prepared | None = None,
) -> Result:
    """Run once and report progress; raise SimulatorError if the run cannot take place.

    ``prepared`` is the stream of the workload, if it was prepared before.
    """
    started = datetime.now(UTC)
    workload = parameters.workload
    check_files(workload.clients)
    tls = tls_of(parameters)
    server: ServerLives | None = None
    with ExitStack() as stack:
        if parameters.serve:
            command = [*server_command, *parameters.server_options]
            server = ServerLives(command, stack)
            parameters = _served_by(server, parameters)
        address = Address(parameters.host, parameters.source_port, parameters.client_port, tls)
        conduct = _conduct(parameters)
        stalling = {user for user, habit in conduct.habits.items() if habit.kind == STALL}
        timeline = Timeline(server.pid if server else None)
        restart = partial(_restart, server, timeline)
        play = Play(address, workload.connected, _timing(parameters), conduct, restart)
        prepared_in = 0.0
        try:
            # Connect sources before preparing, so that a missing server is reported at once.
            sources = stack.enter_context(connect_sources(address, workload.sources))
            acknowledged = first_acknowledgements(sources, address) if parameters.resend else ()
            began = time.monotonic()
            if prepared is None:
                prepared = prepare_reported(workload, report)
            prepared_in = time.monotonic() - began
            progress = _playing(report, timeline, prepared)
            # Connect clients after preparing, so that events follow the last id without a pause.
            clients = stack.enter_context(
                connect_clients(address, workload.connected, stalling, conduct.resuming)
            )
            play.run(sources, clients, prepared, progress, acknowledged)
        except (ConnectError, RefusedError):
            # A server that has ended refused nobody: the verdict reports how it ended.
            if server is None or not server.has_ended():
                raise
        if server and play.all_disconnected:
            # The server may be about to end by itself. Wait for that before stopping it.
            server.has_ended()
        timeline.finish(play.seconds, play.sent_events, play.received)
    report.end_progress()
    return Result(
        parameters,
        _judge(parameters, play, server),
        _figures(play, prepared_in, server, timeline.cpu_seconds),
        _latency(workload, prepared.feeds[0], play) if parameters.latency and prepared else None,
        _delivered(parameters.workload, play),
        timeline.samples,
        started,
    )


def tls_of(parameters: Parameters) -> ssl.SSLContext | None:
    """Return the TLS context, or None without --tls-ca. Raise ParameterError."""
    if parameters.tls_ca is None:
        return None
    return context(parameters.tls_ca, parameters.tls_cert, parameters.tls_key)


def prepare_reported(workload: Workload, report: ConsoleReport) -> Prepared:
    """Prepare the stream and report progress."""
    return prepare(workload, block_size(workload.clients), _preparing(report, workload.events))


def sample(users: Sequence[int], size: int) -> frozenset[int]:
    """Return at most ``size`` users, evenly spaced in the order of connecting."""
    size = min(size, len(users))
    return frozenset(users[place * len(users) // size] for place in range(size))


def _restart(server: ServerLives | None, timeline: Timeline) -> bool:
    """Kill the server and start it again; return whether it is ready."""
    if server is None or not server.restart():
        return False
    timeline.follow(server.pid)
    log.info("the server was killed and started again")
    return True


def _served_by(server: ServerLives, parameters: Parameters) -> Parameters:
    """Return the parameters with the address of the server of this run."""
    return dataclasses.replace(
        parameters,
        host="127.0.0.1",
        source_port=server.source_port,
        client_port=server.client_port,
    )


def _timing(parameters: Parameters) -> Timing:
    return Timing(
        parameters.timeout,
        parameters.settle,
        parameters.linger,
        parameters.rate,
        parameters.stall_time,
        parameters.away_time,
    )


def _conduct(parameters: Parameters) -> Conduct:
    workload = parameters.workload
    unsteady = habits(
        workload.connected,
        workload.seed,
        parameters.stalling,
        parameters.leaving,
        parameters.returning,
    )
    steady = [user for user in workload.connected if user not in unsteady]
    resuming = leavings(steady, workload.seed, parameters.resuming, parameters.away_time)
    if parameters.restart_server:
        resuming = {user: resuming.get(user, ()) for user in steady}
    steady = [user for user in steady if user not in resuming]
    return Conduct(
        timed=sample(steady, parameters.latency_clients) if parameters.latency else frozenset(),
        habits=unsteady,
        resuming=resuming,
        cut=parameters.cuts or WRITE_BYTES,
        # Events behind a gap are delivered when the reorder buffer is full or the source leaves.
        leave=workload.faults.gaps > 0,
        ahead=workload.batch + len(workload.missing),
        last=None if workload.faults.gaps else workload.events,
        restarts=restarts(workload.seed, parameters.restart_server),
        log_lines=log.isEnabledFor(logging.DEBUG) and workload.events <= _MAX_LOGGED_EVENTS,
    )


def _judge(parameters: Parameters, play: Play, server: ServerLives | None) -> Verdict:
    if play.sessions:
        log.info("comparing what unsteady clients received")
    workload = parameters.workload
    failures = {
        evidence.user: evidence
        for evidence in reversed(verify(workload, play.sessions, parameters.stall_timeout))
    } | {client.user: client.evidence() for client in play.clients if client.failed}
    faults = []
    if failures:
        log.info("finding the first fault of each client that failed")
        failing = [failures[user] for user in workload.connected if user in failures]
        faults = diagnose(workload, failing[:MAX_FAULTS])
    # If every client received everything, the server closed the source after reading everything.
    lost = play.source_lost or (play.source_cut_off if failures else None)
    server_faults = [*play.source_faults, server.fault if server else None]
    hint = None
    gave_up = any(client.gave_up for client in play.all_clients)
    if failures and not (play.received or gave_up):
        hint = unserved_hint(play.address)
    return Verdict(len(failures), faults, lost, list(filter(None, server_faults)), hint)


def _delivered(workload: Workload, play: Play) -> list[tuple[int, int]]:
    """Return the deliveries of each user, summed over the user's sessions."""
    delivered = dict.fromkeys(workload.connected, 0)
    for client in play.all_clients:
        delivered[client.user] += client.delivered
    return list(delivered.items())


def _figures(
    play: Play, prepared_in: float, server: ServerLives | None, cpu_seconds: float | None
) -> Figures:
    return Figures(
        events=play.sent_events,
        deliveries=sum(client.delivered for client in play.all_clients),
        bytes=play.received,
        seconds=play.seconds,
        prepared_in=prepared_in,
        usage=server.usage if server else None,
        cpu_seconds=cpu_seconds,
        resumes=sum(client.resumed for client in play.clients),
        restarts=server.restarts if server else 0,
        reconnects=play.reconnects,
        resent_events=play.resent_events,
    )


def _latency(workload: Workload, chunks: Sequence[Chunk], play: Play) -> Latency | None:
    """Return the latency of the sampled clients.

    Clients that failed are left out, because their offsets do not identify events.
    """
    from simulator.verdict.latency import measure  # noqa: PLC0415, numpy loads slowly

    log.info("computing the latency of the sampled clients")
    timed = [
        (client.user, client.timestamps)
        for client in play.clients
        if client.timestamps is not None and client.complete
    ]
    return measure(workload, chunks, play.source_timestamps, timed, play.behind)


def _preparing(report: ConsoleReport, events: int) -> Callable[[int], None]:
    preparing = report.stage("preparing", events, "events")

    def progress(prepared: int) -> None:
        now = time.monotonic()
        if report.due(now) or prepared == events:
            report.progress(now, [(preparing, prepared)])

    return progress


def _playing(report: ConsoleReport, timeline: Timeline, prepared: Prepared) -> Progress:
    expectations = prepared.expectations
    events = sum(chunk.events for chunks in prepared.feeds for chunk in chunks)
    expected_bytes = sum(expectation.bytes for expectation in expectations)
    expected = sum(expectation.events for expectation in expectations)
    sending = report.stage("sending", events, "events")
    receiving = report.stage("receiving", expected, "deliveries")

    complete = False

    def progress(now: float, sent: int, received: int) -> None:
        nonlocal complete
        timeline.observe(now, sent, received)
        completed = not complete and sent == events and received == expected_bytes
        complete = complete or completed
        if report.due(now) or completed:
            # Only bytes are counted, so deliveries are estimated from them.
            share = min(1.0, received / max(1, expected_bytes))
            report.progress(now, [(sending, sent), (receiving, int(expected * share))])

    return progress
