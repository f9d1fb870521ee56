"""Owns the course of a run: parameters in, connect, prepare, play, judge, exit status out."""

import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from simulator.diagnosis import Fault, diagnose
from simulator.errors import ParameterError, SimulatorError
from simulator.oracle import Expectation, block_size, prepare
from simulator.parameters import Parameters, parse
from simulator.player import Address, Play, Progress, Timing, connect_clients
from simulator.report import Report
from simulator.server_process import COMMAND, ServerProcess, Usage

log = logging.getLogger("simulator")

ALL_RECEIVED = r"\o/ ALL NOTIFICATIONS RECEIVED \o/"
SHOWN_FAULTS = 10
_LINES_LOGGED = 10_000  # up to so many events, debug logs each line
_PASSED, _FAILED, _IMPOSSIBLE, _INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True)
class Verdict:
    """How a run ended. `faults` are those of the first ten failing clients."""

    failing: int = 0
    faults: list[Fault] = field(default_factory=list)
    source_lost: str | None = None

    @property
    def status(self) -> int:
        """The exit status: 0 if every client received exactly what it should."""
        return _FAILED if self.failing or self.source_lost else _PASSED


@dataclass(frozen=True)
class Figures:
    """What a run measured."""

    events: int
    deliveries: int
    bytes: int
    seconds: float
    prepared_in: float
    usage: Usage | None


def main(argv: Sequence[str] | None = None, server_command: Sequence[str] = COMMAND) -> int:
    """Runs the simulator; returns the exit status. `server_command` is what --serve starts."""
    try:
        parameters = parse(argv, os.environ)
        with Report(parameters.log_level, parameters.log_interval) as report:
            return simulate(parameters, report, server_command).status
    except ParameterError as error:
        print(f"simulator: error: {error}", file=sys.stderr)
    except SimulatorError as error:
        print(f"simulator: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("simulator: interrupted", file=sys.stderr)
        return _INTERRUPTED
    return _IMPOSSIBLE


def simulate(
    parameters: Parameters, report: Report, server_command: Sequence[str] = COMMAND
) -> Verdict:
    """One run, reported; raises SimulatorError if it cannot take place."""
    workload = parameters.workload
    server: ServerProcess | None = None
    with ExitStack() as stack:
        address = Address(parameters.host, parameters.source_port, parameters.client_port)
        if parameters.serve:
            server = stack.enter_context(ServerProcess(server_command))
            address = Address("127.0.0.1", server.source_port, server.client_port)
        # Connected before the stream is prepared: that no server is there shows at once.
        connections = stack.enter_context(connect_clients(address, workload.connected))
        began = time.monotonic()
        chunks, expectations = prepare(
            workload, block_size(workload.clients), _preparing(report, workload.events)
        )
        prepared_in = time.monotonic() - began
        play = Play(
            address,
            Timing(parameters.timeout, parameters.settle, parameters.linger, parameters.rate),
            _playing(report, workload.events, expectations),
            log_lines=log.isEnabledFor(logging.DEBUG) and workload.events <= _LINES_LOGGED,
        )
        play.run(workload.connected, connections, chunks, expectations)
    report.end_progress()
    verdict = _judge(parameters, play)
    usage = server.usage if server else None
    _show(report, verdict, _figures(play, prepared_in, usage))
    return verdict


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


def _show(report: Report, verdict: Verdict, figures: Figures) -> None:
    report.table(_rows(figures))
    if not verdict.status:
        report.verdict(ALL_RECEIVED)
        return
    report.verdict("FAILED")
    if verdict.source_lost:
        report.verdict(verdict.source_lost)
    for fault in verdict.faults:
        report.verdict(str(fault))
    if more := verdict.failing - len(verdict.faults):
        report.verdict(f"and {more:,} more clients")


def _rows(figures: Figures) -> list[tuple[str, str]]:
    seconds = max(figures.seconds, 1e-9)
    rows = [
        ("events sent", f"{figures.events:,}"),
        ("deliveries", f"{figures.deliveries:,}"),
        ("bytes received", f"{figures.bytes:,}"),
        ("prepared in", f"{figures.prepared_in:,.1f} s"),
        ("played in", f"{figures.seconds:,.3f} s"),
        ("events/s", f"{figures.events / seconds:,.0f}"),
        ("deliveries/s", f"{figures.deliveries / seconds:,.0f}"),
        ("MB/s", f"{figures.bytes / seconds / 1e6:,.1f}"),
    ]
    if figures.usage:
        rows.append(("server's CPU", f"{figures.usage.cpu_seconds:,.2f} s"))
        rows.append(("server's peak memory", f"{figures.usage.peak_bytes / 2**20:,.1f} MiB"))
    return rows


def _preparing(report: Report, events: int) -> Callable[[int], None]:
    preparing = report.stage("preparing", events, "events")

    def progress(prepared: int) -> None:
        now = time.monotonic()
        if report.due(now) or prepared == events:
            report.progress(now, [(preparing, prepared)])

    return progress


def _playing(report: Report, events: int, expectations: Sequence[Expectation]) -> Progress:
    expected_bytes = sum(expectation.bytes for expectation in expectations)
    expected = sum(expectation.events for expectation in expectations)
    sending = report.stage("sending", events, "events")
    receiving = report.stage("receiving", expected, "deliveries")

    complete = False

    def progress(now: float, sent: int, received: int) -> None:
        nonlocal complete
        completed = not complete and sent == events and received == expected_bytes
        complete = complete or completed
        if report.due(now) or completed:
            # Bytes are counted; deliveries, while they come, are estimated from them.
            share = min(1.0, received / max(1, expected_bytes))
            report.progress(now, [(sending, sent), (receiving, int(expected * share))])

    return progress
