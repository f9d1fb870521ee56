"""Owns the course of a run: connect, prepare, play, judge, measure."""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from simulator.connecting import Address, connect_clients
from simulator.diagnosis import diagnose
from simulator.latency import Latency, measure
from simulator.oracle import Expectation, block_size, prepare
from simulator.parameters import Parameters
from simulator.player import Play, Progress, Timing
from simulator.report import Report
from simulator.results import Figures, Result, Verdict
from simulator.server_process import COMMAND, ServerProcess, Usage
from simulator.timeline import Timeline
from simulator.workload import Chunk, Workload

log = logging.getLogger("simulator")

SHOWN_FAULTS = 10
_LINES_LOGGED = 10_000  # up to so many events, debug logs each line


def run(parameters: Parameters, report: Report, server_command: Sequence[str] = COMMAND) -> Result:
    """One run, with its progress reported; raises SimulatorError if it cannot take place."""
    workload = parameters.workload
    server: ServerProcess | None = None
    with ExitStack() as stack:
        address = Address(parameters.host, parameters.source_port, parameters.client_port)
        if parameters.serve:
            server = stack.enter_context(ServerProcess(server_command))
            address = Address("127.0.0.1", server.source_port, server.client_port)
        # Connected before the stream is prepared: that no server is there shows at once.
        connections = stack.enter_context(connect_clients(address, workload.connected))
        timeline = Timeline(server.pid if server else None)
        began = time.monotonic()
        chunks, expectations = prepare(
            workload, block_size(workload.clients), _preparing(report, workload.events)
        )
        prepared_in = time.monotonic() - began
        play = Play(
            address,
            Timing(parameters.timeout, parameters.settle, parameters.linger, parameters.rate),
            _playing(report, timeline, workload.events, expectations),
            timed=sample(workload, parameters.latency_clients) if parameters.latency else (),
            log_lines=log.isEnabledFor(logging.DEBUG) and workload.events <= _LINES_LOGGED,
        )
        play.run(workload.connected, connections, chunks, expectations)
    report.end_progress()
    return Result(
        parameters,
        _judge(parameters, play),
        _figures(play, prepared_in, server.usage if server else None),
        _latency(workload, chunks, play) if parameters.latency else None,
        [(client.user, client.delivered) for client in play.clients],
        timeline.samples,
    )


def sample(workload: Workload, size: int) -> tuple[int, ...]:
    """At most so many of the connected users, spread evenly over the order of connecting."""
    users = workload.connected
    size = min(size, len(users))
    return tuple(users[place * len(users) // size] for place in range(size))


def _judge(parameters: Parameters, play: Play) -> Verdict:
    failures = [client.evidence() for client in play.clients if not client.complete]
    faults = []
    if failures:
        log.info("looking for the first fault of each client that failed")
        faults = diagnose(parameters.workload, failures[:SHOWN_FAULTS])
    return Verdict(len(failures), faults, play.source_lost)


def _figures(play: Play, prepared_in: float, usage: Usage | None) -> Figures:
    deliveries = sum(client.delivered for client in play.clients)
    return Figures(play.sent_events, deliveries, play.received, play.seconds, prepared_in, usage)


def _latency(workload: Workload, chunks: Sequence[Chunk], play: Play) -> Latency | None:
    """Measured on those who received all: where bytes are missing, offsets mean nothing."""
    log.info("working out the latency of every delivery that was timed")
    timed = [
        (client.user, client.marks)
        for client in play.clients
        if client.marks is not None and client.complete
    ]
    return measure(workload, chunks, play.source_marks, timed, play.behind)


def _preparing(report: Report, events: int) -> Callable[[int], None]:
    preparing = report.stage("preparing", events, "events")

    def progress(prepared: int) -> None:
        now = time.monotonic()
        if report.due(now) or prepared == events:
            report.progress(now, [(preparing, prepared)])

    return progress


def _playing(
    report: Report, timeline: Timeline, events: int, expectations: Sequence[Expectation]
) -> Progress:
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
        if completed:
            timeline.take(now, sent, received)
        if report.due(now) or completed:
            # Bytes are counted; deliveries, while they come, are estimated from them.
            share = min(1.0, received / max(1, expected_bytes))
            report.progress(now, [(sending, sent), (receiving, int(expected * share))])

    return progress
