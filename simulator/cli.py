"""Run the command line: parse the parameters, run, show the result, return the exit status."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace

try:
    from rich.console import Console
except ModuleNotFoundError as missing:
    sys.exit(
        f"simulator: {missing.name} is not installed for {sys.executable}: use the environment "
        "that `make .venv` makes (.venv/bin/python), or pip install -r requirements.txt"
    )

from simulator.bench.benchmark import bench
from simulator.errors import ParameterError, SimulatorError, check_installed
from simulator.parameters import Parameters, parse, parse_record, parse_replay, with_workload
from simulator.play.server_process import COMMAND
from simulator.report.console import ConsoleReport
from simulator.report.json_report import STDOUT, as_json, check_writable, write_json, write_text
from simulator.report.text_report import figure_rows, latency_rows, verdict_lines
from simulator.run import prepare_reported, run
from simulator.stream.oracle import Prepared
from simulator.stream.recording import load, save
from simulator.verdict.results import PASSED, Result, Verdict

_IMPOSSIBLE, _INTERRUPTED = 2, 130
"""Exit statuses of a run that could not take place, and of one that was interrupted."""


def main(argv: Sequence[str] | None = None, server_command: Sequence[str] = COMMAND) -> int:
    """Run the simulator and return the exit status. --serve starts ``server_command``."""
    argv = sys.argv[1:] if argv is None else argv
    command, *rest = [*argv, ""]
    try:
        if command == "record":
            return _record(rest[:-1])
        if command == "replay":
            return _replay(rest[:-1], server_command)
        if command == "bench":
            return bench(rest[:-1], server_command)
        return _reported(parse(argv, os.environ), server_command).status
    except ParameterError as error:
        print(f"simulator: error: {error}", file=sys.stderr)
    except SimulatorError as error:
        print(f"simulator: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("simulator: interrupted", file=sys.stderr)
        return _INTERRUPTED
    return _IMPOSSIBLE


def _record(argv: Sequence[str]) -> int:
    path, workload, given = parse_record(argv, os.environ)
    check_writable(path)
    with ConsoleReport(given.log_level, given.log_interval / 1000) as report:
        prepared = prepare_reported(workload, report)
        report.end_progress()
        save(path, workload, prepared)
        report.print_line(f"recorded {workload.events:,} events for {workload.clients:,} clients")
    return PASSED


def _replay(argv: Sequence[str], server_command: Sequence[str]) -> int:
    path, given = parse_replay(argv, os.environ)
    workload, prepared = load(path)
    parameters = replace(with_workload(given, workload), arguments=("replay", *argv))
    return _reported(parameters, server_command, prepared).status


def _reported(
    parameters: Parameters, server_command: Sequence[str], prepared: Prepared | None = None
) -> Verdict:
    console = Console(highlight=False, stderr=True) if parameters.json == STDOUT else None
    with ConsoleReport(parameters.log_level, parameters.log_interval, console) as report:
        return simulate(parameters, report, server_command, prepared)


def simulate(
    parameters: Parameters,
    report: ConsoleReport,
    server_command: Sequence[str] = COMMAND,
    prepared: Prepared | None = None,
) -> Verdict:
    """Run once, show the result and write the files asked for. Raise SimulatorError."""
    if parameters.latency:
        check_installed("--latency", "numpy")
    if parameters.report is not None:
        check_installed("--report", "numpy", "matplotlib")
    for path in (parameters.json, parameters.report):
        if path is not None and path != STDOUT:
            check_writable(path)
    result = run(parameters, report, server_command, prepared)
    _show(report, result)
    if parameters.json is not None:
        write_json(as_json(result), parameters.json)
    if parameters.report is not None:
        write_report(result, parameters.report)
    return result.verdict


def _show(report: ConsoleReport, result: Result) -> None:
    rows = figure_rows(result.figures)
    if result.parameters.latency:
        rows += latency_rows(result.latency)
    report.table(rows)
    for line in verdict_lines(result.verdict):
        report.print_line(line)


def write_report(result: Result, path: str) -> None:
    """Write the result as an HTML page."""
    from simulator.report.html_report import page  # noqa: PLC0415, matplotlib loads slowly

    write_text(page(result), path)
