"""Format benchmark results as a Markdown table."""

from collections.abc import Mapping
from typing import Any, NamedTuple

Results = Mapping[str, Any]
NEW = "(new)"
"""Shown instead of a ratio where the earlier results lack the workload."""


class Column(NamedTuple):
    """A figure, its title, and the factor and decimals of its values."""

    figure: str
    title: str
    factor: float
    decimals: int

    def text(self, value: float) -> str:
        """Return the value in the column's unit."""
        return f"{value * self.factor:,.{self.decimals}f}"


COLUMNS = (
    Column("events_per_second", "events/s", 1.0, 0),
    Column("deliveries_per_second", "deliveries/s", 1.0, 0),
    Column("cpu_seconds_per_million_events", "CPU s / million events", 1.0, 2),
    Column("peak_bytes", "peak MiB", 2.0**-20, 1),
    Column("latency_p50", "latency p50, ms", 1e3, 2),
    Column("latency_p99", "latency p99, ms", 1e3, 2),
)


def markdown(results: Results, before: Results | None) -> list[str]:
    """Return the lines of the table: medians with their spread, and ratios to earlier ones."""
    table = [["workload", "runs", *(column.title for column in COLUMNS)]]
    for name, entry in results["workloads"].items():
        label = f"{name} {entry['stresses']}"
        if before is not None and name not in before["workloads"]:
            label += f" {NEW}"
        label += "" if entry["passed"] else " **FAILED**"
        earlier = earlier_of(before, name)
        cells = [_cell(entry, earlier, column) for column in COLUMNS]
        table.append([label, str(len(entry["runs"])), *cells])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    rows = [_row(cells, widths) for cells in table]
    rule = "|".join(
        "-" * (width + 1) + (":" if place else "-") for place, width in enumerate(widths)
    )
    return [rows[0], f"|{rule}|", *rows[1:]]


def earlier_of(before: Results | None, name: str) -> Mapping[str, float | None]:
    """Return the workload's earlier medians by figure; empty if there are none."""
    entry = (before or {"workloads": {}})["workloads"].get(name)
    return {} if entry is None else dict(entry["median"])


def ratio(after: float, before: float | None) -> str:
    """Return the ratio in parentheses; empty without an earlier value."""
    return f"({after / before:.2f}x)" if before else ""


def _cell(entry: Results, earlier: Mapping[str, float | None], column: Column) -> str:
    middle, spread = entry["median"][column.figure], entry["spread"][column.figure]
    if middle is None:
        return ""
    parts = [column.text(middle)]
    if spread is not None and len(entry["runs"]) > 1:
        parts.append(f"±{spread * 50:.0f}%")
    parts.append(ratio(middle, earlier.get(column.figure)))
    return " ".join(filter(None, parts))


def _row(cells: list[str], widths: list[int]) -> str:
    first, *rest = zip(cells, widths, strict=True)
    padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]
    return f"| {' | '.join(padded)} |"
