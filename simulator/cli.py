"""Owns the command line: parameters in, a run, what the user reads at its end, exit status out."""

import os
import sys
from collections.abc import Sequence

from rich.console import Console

from simulator.document import STDOUT, check_writable, document, write_json
from simulator.errors import ParameterError, SimulatorError
from simulator.latency import Latency
from simulator.parameters import Parameters, parse
from simulator.report import Report
from simulator.results import Figures, Result, Verdict
from simulator.run import run
from simulator.server_process import COMMAND

ALL_RECEIVED = r"\o/ ALL NOTIFICATIONS RECEIVED \o/"
_IMPOSSIBLE, _INTERRUPTED = 2, 130


def main(argv: Sequence[str] | None = None, server_command: Sequence[str] = COMMAND) -> int:
    """Runs the simulator; returns the exit status. `server_command` is what --serve starts."""
    try:
        parameters = parse(argv, os.environ)
        console = Console(highlight=False, stderr=True) if parameters.json == STDOUT else None
        with Report(parameters.log_level, parameters.log_interval, console) as report:
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
    if parameters.json is not None and parameters.json != STDOUT:
        check_writable(parameters.json)
    result = run(parameters, report, server_command)
    _show(report, result)
    if parameters.json is not None:
        write_json(document(result), parameters.json)
    return result.verdict


def _show(report: Report, result: Result) -> None:
    rows = _rows(result.figures)
    if result.parameters.latency:
        rows += _latency_rows(result.latency)
    report.table(rows)
    for line in verdict_lines(result.verdict):
        report.verdict(line)


def verdict_lines(verdict: Verdict) -> list[str]:
    """The verdict in words."""
    if not verdict.status:
        return [ALL_RECEIVED]
    lines = ["FAILED"]
    if verdict.source_lost:
        lines.append(verdict.source_lost)
    lines += map(str, verdict.faults)
    if more := verdict.failing - len(verdict.faults):
        lines.append(f"and {more:,} more clients")
    return lines


def _rows(figures: Figures) -> list[tuple[str, str]]:
    rows = [
        ("events sent", f"{figures.events:,}"),
        ("deliveries", f"{figures.deliveries:,}"),
        ("bytes received", f"{figures.bytes:,}"),
        ("prepared in", f"{figures.prepared_in:,.1f} s"),
        ("played in", f"{figures.seconds:,.3f} s"),
        ("events/s", f"{figures.events_per_second:,.0f}"),
        ("deliveries/s", f"{figures.deliveries_per_second:,.0f}"),
        ("MB/s", f"{figures.bytes_per_second / 1e6:,.1f}"),
    ]
    if figures.usage:
        rows.append(("server's CPU", f"{figures.usage.cpu_seconds:,.2f} s"))
        rows.append(("server's peak memory", f"{figures.usage.peak_bytes / 2**20:,.1f} MiB"))
    return rows


def _latency_rows(latency: Latency | None) -> list[tuple[str, str]]:
    if latency is None:
        return [("latency", "nothing to measure")]
    rows = [
        (f"latency p{rank:g}", f"{seconds * 1000:,.3f} ms")
        for rank, seconds in latency.percentiles.items()
    ]
    return [
        ("deliveries timed", f"{latency.deliveries:,}"),
        ("of so many clients", f"{latency.clients:,}"),
        *rows,
        ("latency max", f"{latency.largest * 1000:,.3f} ms"),
        ("source behind its rate, at most", f"{latency.behind * 1000:,.3f} ms"),
    ]
