"""Draw benchmark results: a panel for each figure, with a row for each workload.

Bars begin at 0. If the values are too far apart for bars, the panel has dots on a logarithmic axis
instead.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator

from simulator.bench.table import COLUMNS, NEW, Column, Results, earlier_of, ratio

_MAX_BAR_RATIO = 100
"""Maximum ratio of the largest value to the smallest for which the shortest bar is visible."""

_AFTER, _BEFORE, _INK, _SOFT, _GRID = "#1f6feb", "#aab2bd", "#24292f", "#5b6470", "#dfe3e8"
_ROW_HEIGHT = 0.34
"""Height of a workload's row; inches. It is doubled if there are earlier results."""

_PANEL_HEIGHT = 0.7
"""Height of a panel's title and axis; inches."""

_BLANK = str.maketrans("0123456789,", "\u2007" * 10 + "\u2008")
"""Spaces as wide as a digit and as a comma, to align numbers."""


class _Row(NamedTuple):
    """The values of one workload in a panel, in the column's unit."""

    median: float
    runs: Sequence[float]
    before: float | None
    words: str
    words_before: str


def picture(results: Results, before: Results | None, path: str, form: str) -> None:
    """Write the picture as PNG or SVG; raise OSError."""
    with rc_context({"svg.fonttype": "none"}):  # text stays text
        # Omit the date of an SVG, so that equal results give equal files.
        metadata = {"Date": None} if form == "svg" else {}
        drawn(results, before).savefig(path, format=form, dpi=120, metadata=metadata)


def drawn(results: Results, before: Results | None) -> Figure:
    """Draw the panels in pairs, each as high as its number of workloads."""
    entries = results["workloads"]
    columns = [column for column in COLUMNS if _having(entries, [column])]
    pairs = [columns[place : place + 2] for place in range(0, len(columns), 2)]
    row = _ROW_HEIGHT * (1 if before is None else 2)
    heights = [row * len(_having(entries, pair)) for pair in pairs]
    height = 0.8 + sum(heights) + _PANEL_HEIGHT * len(pairs)
    with rc_context({"font.size": 10, "text.color": _INK, "axes.labelcolor": _INK}):
        layout = ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.08)
        figure = Figure(figsize=(13, height), layout=layout, facecolor="white")
        grid = figure.add_gridspec(len(pairs), 2, height_ratios=heights)
        for line, pair in enumerate(pairs):
            names = _having(entries, pair)
            for side, column in enumerate(pair):
                axes = figure.add_subplot(grid[line, side])
                _draw(axes, _rows(entries, names, before, column), column)
                # Both panels have the same rows, labelled only on the left.
                labels = [_label(name, entries[name]) for name in names] if not side else []
                axes.set_yticks(range(len(names)), labels or [""] * len(names))
                axes.set_ylim(len(names) - 0.5, -0.5)
        if before is not None:
            keys = [_key(_BEFORE, "before"), _key(_AFTER, "after, with its ratio to before")]
            figure.legend(handles=keys, loc="outside lower center", ncols=2, frameon=False)
        figure.suptitle(_caption(results), fontsize=10, color=_SOFT)
    return figure


def _having(entries: Results, columns: Sequence[Column]) -> list[str]:
    """Return the workloads that measured any of the columns."""
    return [
        name
        for name, entry in entries.items()
        if any(entry["median"][column.figure] is not None for column in columns)
    ]


def _label(name: str, entry: Results) -> str:
    return f"{entry['stresses']}  {name}" + ("" if entry["passed"] else "\nFAILED")


def _rows(
    entries: Results, names: Sequence[str], before: Results | None, column: Column
) -> dict[int, _Row]:
    """Return the rows by place; a workload without a median has none."""
    medians = {
        place: median
        for place, name in enumerate(names)
        if (median := entries[name]["median"][column.figure]) is not None
    }
    earlier = {place: earlier_of(before, names[place]).get(column.figure) for place in medians}
    numbers = [*medians.values(), *(value for value in earlier.values() if value is not None)]
    longest = max((column.text(number) for number in numbers), key=len)
    rows = {}
    for place, median in medians.items():
        measured = [run[column.figure] for run in entries[names[place]]["runs"]]
        was = earlier[place]
        compared = "" if before is None else NEW if was is None else ratio(median, was)
        rows[place] = _Row(
            median * column.factor,
            [value * column.factor for value in measured if value is not None],
            None if was is None else was * column.factor,
            f"{_aligned(column.text(median), longest)} {compared}".rstrip(" "),
            "" if was is None else _aligned(column.text(was), longest),
        )
    return rows


def _aligned(number: str, longest: str) -> str:
    return longest[: len(longest) - len(number)].translate(_BLANK) + number


def _draw(axes: Axes, rows: Mapping[int, _Row], column: Column) -> None:
    values = [value for row in rows.values() for value in (row.median, *row.runs)]
    values += [row.before for row in rows.values() if row.before is not None]
    low, high = min(values), max(values)
    logarithmic = high > _MAX_BAR_RATIO * low > 0
    for place, row in rows.items():
        shift = 0.0 if row.before is None else 0.21
        thickness = 0.62 if row.before is None else 0.4
        if row.before is not None:
            _mark(axes, row.before, place - shift, thickness, _BEFORE, dot=logarithmic)
            _write(axes, row.words_before, place - shift, _SOFT)
        _mark(axes, row.median, place + shift, thickness, _AFTER, dot=logarithmic)
        runs = [place + shift] * len(row.runs)
        axes.plot(row.runs, runs, "o", color=_INK, markersize=4, markeredgecolor="white")
        _write(axes, row.words, place + shift, _INK)
    axes.set_title(column.title, loc="left", fontsize=11)
    if logarithmic:
        axes.set_title(f"{column.title}, logarithmic", loc="left", fontsize=11)
        axes.set_xscale("log")
        axes.set_xlim(low / 2, high * 2)
        axes.xaxis.set_major_locator(LogLocator(numticks=8))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(0, high * 1.04 or 1)
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(EngFormatter(sep="") if high > 10_000 else "{x:g}")
    axes.grid(axis="x", color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_GRID)
    axes.spines["left"].set_visible(not logarithmic)  # bars stand on it
    axes.tick_params(which="both", length=0, colors=_INK)


def _mark(
    axes: Axes, value: float, place: float, thickness: float, colour: str, *, dot: bool
) -> None:
    if dot:
        axes.axhline(place, color=_GRID, linewidth=0.8, zorder=0.5)
        axes.plot([value], [place], "o", color=colour, markersize=9)
    else:
        axes.barh(place, value, thickness, color=colour)


def _write(axes: Axes, words: str, place: float, colour: str) -> None:
    """Write to the right of the panel."""
    axes.annotate(
        words,
        (1, place),
        xycoords=axes.get_yaxis_transform(),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
        color=colour,
        annotation_clip=False,
    )


def _key(colour: str, label: str) -> Line2D:
    return Line2D([], [], color=colour, marker="s", linestyle="", markersize=9, label=label)


def _caption(results: Results) -> str:
    machine = results["machine"]
    return (
        f"medians, a small dot for each run; {machine['processors']} processors, "
        f"{machine['architecture']}, Python {machine['python']}"
    )
