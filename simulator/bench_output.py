"""Owns how benchmark results are shown: a Markdown table, and a picture.

Must never know how they were measured.
"""

from collections.abc import Mapping
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

Results = Mapping[str, Any]
Column = tuple[str, str, float, int]

# Figure, column, and the factor and decimals it is shown with.
_COLUMNS: tuple[Column, ...] = (
    ("events_per_second", "events/s", 1.0, 0),
    ("deliveries_per_second", "deliveries/s", 1.0, 0),
    ("cpu_seconds_per_million_events", "CPU s / million events", 1.0, 2),
    ("peak_bytes", "peak MiB", 2.0**-20, 1),
    ("latency_p50", "p50 ms", 1e3, 2),
    ("latency_p99", "p99 ms", 1e3, 2),
)
_FAR = 20  # times: bars so far apart are drawn on a logarithmic scale
_AFTER, _BEFORE, _INK = "#1f6feb", "#b6bec9", "#24292f"


def markdown(results: Results, before: Results | None) -> list[str]:
    """The lines of a table: medians, with their spread, and ratios to those before."""
    table = [["workload", "runs", *(column for _, column, _, _ in _COLUMNS)]]
    for name, entry in results["workloads"].items():
        earlier = (before or {"workloads": {}})["workloads"].get(name)
        label = f"{name} {entry['stresses']}" + ("" if entry["passed"] else " **FAILED**")
        cells = [
            _cell(entry, earlier, figure, factor, decimals)
            for figure, _, factor, decimals in _COLUMNS
        ]
        table.append([label, str(len(entry["runs"])), *cells])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    rows = [_row(cells, widths) for cells in table]
    rule = "|".join(
        "-" * (width + 1) + (":" if place else "-") for place, width in enumerate(widths)
    )
    return [rows[0], f"|{rule}|", *rows[1:]]


def picture(results: Results, before: Results | None, path: str, form: str) -> None:
    """A bar for each workload and figure, with a dot for each run, as png or svg.

    Raises OSError.
    """
    entries = results["workloads"]
    drawn = [
        column
        for column in _COLUMNS
        if any(entry["median"][column[0]] is not None for entry in entries.values())
    ]
    rows = -(-len(drawn) // 2)
    with (
        rc_context({"font.size": 10, "text.color": _INK, "axes.labelcolor": _INK}),
        rc_context({"svg.fonttype": "none"}),  # text stays text
    ):
        figure = Figure(figsize=(11, 0.8 + rows * 3), layout="constrained", facecolor="white")
        panels = figure.subplots(rows, 2, squeeze=False).flatten()
        for axes, column in zip(panels, drawn, strict=False):
            _draw(axes, entries, (before or {"workloads": {}})["workloads"], column)
        for axes in panels[len(drawn) :]:
            axes.set_visible(False)
        if before is not None:
            figure.legend(
                *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2
            )
        figure.suptitle(_caption(results), fontsize=10, color=_INK)
        # Without its date, which only an SVG has, a picture changes with the results alone.
        metadata = {"Date": None} if form == "svg" else {}
        figure.savefig(path, format=form, dpi=120, metadata=metadata)


def _cell(
    entry: Results, earlier: Results | None, figure: str, factor: float, decimals: int
) -> str:
    middle, spread = entry["median"][figure], entry["spread"][figure]
    if middle is None:
        return ""
    text = f"{middle * factor:,.{decimals}f}"
    if spread is not None and len(entry["runs"]) > 1:
        text += f" ±{spread * 50:.0f}%"
    if earlier is not None and earlier["median"][figure]:
        text += f" ({middle / earlier['median'][figure]:.2f}x)"
    return text


def _row(cells: list[str], widths: list[int]) -> str:
    first, *rest = zip(cells, widths, strict=True)
    padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]
    return f"| {' | '.join(padded)} |"


def _draw(axes: Axes, entries: Results, before: Results, column: Column) -> None:
    figure, title, factor, decimals = column
    names = [name for name in entries if entries[name]["median"][figure] is not None]
    height = 0.38 if before else 0.7
    shift = height / 2 if before else 0.0
    for place, name in enumerate(names):
        earlier = before.get(name)
        if earlier is not None and earlier["median"][figure] is not None:
            width = earlier["median"][figure] * factor
            axes.barh(place - shift, width, height, color=_BEFORE, label=_once("before", place))
        width = entries[name]["median"][figure] * factor
        axes.barh(place + shift, width, height, color=_AFTER, label=_once("after", place))
        measured = [run[figure] for run in entries[name]["runs"]]
        values = [value * factor for value in measured if value is not None]
        axes.plot(values, [place + shift] * len(values), "o", color=_INK, markersize=2.5)
        axes.annotate(
            f"{width:,.{decimals}f}",
            (max(values), place + shift),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    widths = [entries[name]["median"][figure] for name in names]
    axes.set_title(title, loc="left", fontsize=11)
    if max(widths) > _FAR * min(widths) > 0:
        axes.set_xscale("log")
        axes.set_xlim(min(widths) * factor / 3, max(widths) * factor * 4)
        axes.set_title(f"{title} (logarithmic)", loc="left", fontsize=11)
    else:
        axes.set_xlim(0, max(widths) * factor * 1.25 or 1)
    large = max(widths) * factor > 10_000
    axes.xaxis.set_major_formatter(EngFormatter(sep="") if large else "{x:g}")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(max(len(names), 4) - 0.5, -0.5)
    axes.grid(axis="x", color="#dfe3e8", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(which="both", length=0, colors=_INK)


def _once(label: str, place: int) -> str | None:
    """A legend needs each name once."""
    return label if place == 0 else None


def _caption(results: Results) -> str:
    machine = results["machine"]
    return (
        f"medians, a dot for each run; {machine['processors']} processors, "
        f"{machine['architecture']}, Python {machine['python']}"
    )
