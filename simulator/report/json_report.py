"""Write a result as JSON: parameters, verdict, figures, latency.

Times are in seconds and sizes in bytes. ``format`` increases when a field changes its meaning or is
removed.
"""

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

from simulator import __version__
from simulator.errors import OutputError
from simulator.parameters import Parameters
from simulator.verdict.results import Figures, Latency, Result, Verdict

FORMAT = 1
"""Version of the format."""

STDOUT = "-"
"""Path that stands for stdout."""


def as_json(result: Result) -> dict[str, Any]:
    """Return the result as JSON data."""
    return {
        "format": FORMAT,
        "started": result.started.isoformat(timespec="seconds"),
        "version": __version__,
        "parameters": _parameters(result.parameters),
        "verdict": _verdict(result.verdict),
        "figures": _figures(result.figures),
        "timeline": [dataclasses.asdict(sample) for sample in result.timeline],
        "latency": None if result.latency is None else _latency(result.latency),
    }


def write_json(data: object, path: str) -> None:
    """Write data as JSON to a file or to stdout; raise OutputError if that fails."""
    text = json.dumps(data, indent=2) + "\n"
    if path == STDOUT:
        sys.stdout.write(text)
    else:
        write_text(text, path)


def write_text(text: str, path: str) -> None:
    """Write text to a file; raise OutputError if that fails."""
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


def check_writable(path: str) -> None:
    """Raise OutputError if the file cannot be written, before a run that may be long."""
    file = Path(path)
    if file.is_dir():
        raise OutputError(f"cannot write {path}: it is a directory")
    if not file.parent.is_dir():
        raise OutputError(f"cannot write {path}: there is no directory {file.parent}")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise OutputError(f"cannot write {path}: permission denied")


def _parameters(parameters: Parameters) -> dict[str, Any]:
    given = dataclasses.asdict(parameters)
    workload: dict[str, Any] = given.pop("workload")
    faults: dict[str, Any] = workload.pop("faults")
    return workload | faults | given


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "passed": verdict.status == 0,
        "failing_clients": verdict.failing,
        "source_lost": verdict.source_lost,
        "server_faults": verdict.server_faults,
        "faults": [
            dataclasses.asdict(fault)
            | {"expected": _text(fault.expected), "received": _text(fault.received)}
            for fault in verdict.faults
        ],
    }


def _figures(figures: Figures) -> dict[str, Any]:
    return dataclasses.asdict(figures) | {
        "events_per_second": figures.events_per_second,
        "deliveries_per_second": figures.deliveries_per_second,
        "bytes_per_second": figures.bytes_per_second,
    }


def _latency(latency: Latency) -> dict[str, Any]:
    return dataclasses.asdict(latency) | {
        "percentiles": {f"p{rank:g}": value for rank, value in latency.percentiles.items()}
    }


def _text(line: bytes | None) -> str | None:
    return None if line is None else line.decode("ascii", "backslashreplace")
