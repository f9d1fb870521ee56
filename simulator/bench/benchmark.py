"""Run the benchmark: play the named workloads, compute medians, write the results.

Each workload is prepared once. Each run starts a new server, so that runs do not affect each other.
"""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from simulator.bench.table import markdown
from simulator.bench.workloads import WORKLOADS
from simulator.errors import OutputError, ParameterError, check_installed
from simulator.flags import TLS_FLAGS
from simulator.parameter_types import Parser, ending, whole, words
from simulator.parameters import Parameters, parse
from simulator.play.connecting import check_files
from simulator.play.server_process import COMMAND
from simulator.report.console import ConsoleReport
from simulator.report.json_report import check_writable, write_json, write_text
from simulator.report.text_report import verdict_lines
from simulator.run import prepare_reported, run, tls_of
from simulator.verdict.results import FAILED, PASSED, Result

FORMAT = 1
"""Version of the format of --json."""

NEW_DIRECTORY = "{new}"
"""Placeholder in the server's options for an empty directory, a new one for each run."""

FIGURES = (
    "events_per_second",
    "deliveries_per_second",
    "cpu_seconds_per_million_events",
    "peak_bytes",
    "latency_p50",
    "latency_p99",
)


@dataclass(frozen=True)
class Plan:
    """What to run, and where to write the results."""

    names: tuple[str, ...]
    runs: int
    server_options: tuple[str, ...]
    tls: tuple[str, ...]  # flags and their values
    json: str | None
    markdown: str | None
    pictures: dict[str, str]  # paths by format
    compare: str | None


def bench(argv: Sequence[str], server_command: Sequence[str] = COMMAND) -> int:
    """Run the benchmark, show and write the results, and return the exit status."""
    plan = _plan(argv)
    check_installed("bench", "numpy", "matplotlib")
    for path in (plan.json, plan.markdown, *plan.pictures.values()):
        if path is not None:
            check_writable(path)
    tls_of(parse(plan.tls, {}))
    before = None if plan.compare is None else _load(plan.compare)
    for name in plan.names:
        clients = parse(WORKLOADS[name].flags.split(), {}).workload.clients
        check_files(clients, f"leave {name} out with --workloads")
    with ConsoleReport("warning", 1.0) as report:
        results = measure(plan, report, server_command)
        _show(plan, results, before, report)
    passed = all(entry["passed"] for entry in results["workloads"].values())
    return PASSED if passed else FAILED


def measure(
    plan: Plan, report: ConsoleReport, server_command: Sequence[str] = COMMAND
) -> dict[str, Any]:
    """Run all workloads; return the results as JSON data."""
    workloads = {}
    for name in plan.names:
        flags = [*WORKLOADS[name].flags.split(), "--serve", *plan.tls]
        parameters = parse(flags, {})
        workloads[name] = _measured(name, parameters, plan, report, server_command)
    return {
        "format": FORMAT,
        "machine": {
            "processors": os.cpu_count(),
            "architecture": platform.machine(),
            "system": platform.system(),
            "python": platform.python_version(),
        },
        "server_options": list(plan.server_options),
        "workloads": workloads,
    }


def _measured(
    name: str,
    parameters: Parameters,
    plan: Plan,
    report: ConsoleReport,
    server_command: Sequence[str],
) -> dict[str, Any]:
    prepared = prepare_reported(parameters.workload, report)
    runs = []
    passed = True
    for number in range(1, plan.runs + 1):
        with TemporaryDirectory(prefix="maze-bench-") as directory:
            options = (option.replace(NEW_DIRECTORY, directory) for option in plan.server_options)
            result = run(parameters, report, [*server_command, *options], prepared)
        runs.append(figures_of(result))
        report.print_line(
            f"{name} run {number} of {plan.runs}: {result.figures.events_per_second:,.0f} events/s"
        )
        if result.verdict.status:
            passed = False
            for line in verdict_lines(result.verdict):
                report.print_line(line)
    return {
        "flags": WORKLOADS[name].flags,
        "stresses": WORKLOADS[name].stresses,
        "passed": passed,
        "runs": runs,
        **summary(runs),
    }


def figures_of(result: Result) -> dict[str, float | None]:
    """Return the figures of one run; a figure that was not measured is None."""
    figures, latency = result.figures, result.latency
    return {
        "events_per_second": figures.events_per_second,
        "deliveries_per_second": figures.deliveries_per_second,
        "cpu_seconds_per_million_events": _cpu(result),
        "peak_bytes": None if figures.usage is None else figures.usage.peak_bytes,
        "latency_p50": None if latency is None else latency.percentiles[50.0],
        "latency_p99": None if latency is None else latency.percentiles[99.0],
    }


def summary(runs: Sequence[Mapping[str, float | None]]) -> dict[str, Any]:
    """Return the median of each figure, and its range as a share of the median."""
    medians: dict[str, float | None] = {}
    spreads: dict[str, float | None] = {}
    for name in FIGURES:
        values = [value for figures in runs if (value := figures[name]) is not None]
        middle = median(values) if values else None
        medians[name] = middle
        spreads[name] = (max(values) - min(values)) / middle if middle else None
    return {"median": medians, "spread": spreads}


def _cpu(result: Result) -> float | None:
    """Return the server's CPU seconds per million events, its start not counted."""
    seconds = result.figures.cpu_seconds
    return None if seconds is None else seconds / max(1, result.figures.events) * 1e6


def _plan(argv: Sequence[str]) -> Plan:
    parser = Parser(
        prog="python -m simulator bench",
        description="Play the named workloads, each run to a new server, and show medians. "
        + " ".join(f"{name}: {workload.stresses}." for name, workload in WORKLOADS.items()),
        epilog="Exit status: 0 if every run passed, 1 if one failed, 2 if the benchmark could not "
        "take place. docs/benchmarks.md says how to get comparable figures.",
    )
    add = parser.add_argument
    add(
        "--workloads",
        default=",".join(WORKLOADS),
        metavar="W1,W2",
        help="workloads to run (default: all)",
    )
    add("--runs", type=whole(1), default=5, metavar="N", help="runs of each workload (default 5)")
    add(
        "--server-options",
        type=words,
        default=(),
        metavar="OPTIONS",
        help="options for the server, quoted as one argument: "
        "--server-options='--stall-timeout 1s'; {new} is replaced with a new, empty directory for "
        "each run: --server-options='--journal {new}/journal'",
    )
    for flag, text in TLS_FLAGS.items():
        add(flag, metavar="FILE", help=text)
    add("--json", metavar="FILE", help="write all measurements as JSON, the format of --compare")
    add("--markdown", metavar="FILE", help="write the table of medians as Markdown")
    add("--png", metavar="FILE", help="write a chart of the medians as PNG")
    add("--svg", metavar="FILE", help="write a chart of the medians as SVG")
    add(
        "--compare",
        metavar="BEFORE.json",
        help="show ratios to an earlier benchmark, from the file that its --json wrote",
    )
    given = parser.parse_args(argv)
    names = tuple(given.workloads.upper().split(","))
    if unknown := [name for name in names if name not in WORKLOADS]:
        raise ParameterError(
            f"--workloads: {', '.join(unknown)} is not one of {', '.join(WORKLOADS)}"
        )
    for form in ("png", "svg"):
        ending(f"--{form}", vars(given)[form], f".{form}")
    return Plan(
        names,
        given.runs,
        given.server_options,
        tuple(
            part
            for flag in TLS_FLAGS
            if (path := vars(given)[flag[2:].replace("-", "_")]) is not None
            for part in (flag, path)
        ),
        given.json,
        given.markdown,
        {form: path for form in ("png", "svg") if (path := vars(given)[form]) is not None},
        given.compare,
    )


def _load(path: str) -> dict[str, Any]:
    try:
        results = json.loads(Path(path).read_text(encoding="utf-8"))
        if results["format"] != FORMAT:
            raise ParameterError(
                f"--compare: {path} has the format of another version: run that benchmark again"
            )
        for entry in results["workloads"].values():
            _check_medians(entry["median"])
    except OSError as error:
        raise ParameterError(f"--compare: cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ParameterError(f"--compare: {path} is not a file that bench --json wrote") from error
    return dict(results)


def _check_medians(medians: Mapping[str, float | None]) -> None:
    for name in FIGURES:
        value = medians[name]
        if value is not None and not isinstance(value, int | float):
            raise TypeError(name)


def _show(
    plan: Plan, results: dict[str, Any], before: dict[str, Any] | None, report: ConsoleReport
) -> None:
    lines = markdown(results, before)
    for line in lines:
        report.print_line(line)
    if plan.json is not None:
        write_json(results, plan.json)
    if plan.markdown is not None:
        write_text("\n".join(lines) + "\n", plan.markdown)
    for form, path in plan.pictures.items():
        from simulator.bench.picture import picture  # noqa: PLC0415, matplotlib loads slowly

        try:
            picture(results, before, path, form)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error
