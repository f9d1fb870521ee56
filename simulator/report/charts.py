"""Draw the charts of the HTML report as SVG.

matplotlib draws in placeholder colours. Each is replaced by a CSS variable of the page, so that one
SVG suits both a light and a dark page. Each chart is drawn twice, for a wide page and for a
phone, because its text would be unreadable if scaled down.
"""

import re
from collections.abc import Callable, Sequence
from html import escape
from io import StringIO
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from simulator.play.timeline import Sample
from simulator.verdict.results import Latency

VARIABLES = {"#010203": "--ink", "#010204": "--grid", "#010205": "--first", "#010206": "--second"}
"""CSS variable for each placeholder colour. Charts use these colours for nothing else."""

_INK, _GRID, _FIRST, _SECOND = VARIABLES
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text, in the page's font
    "font.family": "sans-serif",
    "font.size": 11,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}
WIDTHS = {"wide": 9.0, "narrow": 4.6}
"""Width of a chart for each CSS class; inches of 72 SVG units."""

_MAX_POINTS = 120
"""Maximum steps of a chart over time."""

_MIN_CPU_STEP = 0.2
"""Minimum step of the processor time; seconds. The kernel counts in steps of 0.01."""

_MAX_BARS = 150
"""Maximum number of clients that are drawn as one bar each."""

Floats = NDArray[np.float64]


def throughput(samples: Sequence[Sample], deliveries_per_byte: float) -> str:
    """Draw events and deliveries per second over time."""
    seconds = _column([sample.seconds for sample in samples])
    events = _column([sample.events for sample in samples])
    deliveries = _column([sample.bytes for sample in samples]) * deliveries_per_byte

    def draw(width: float) -> Figure:
        figure, (upper, lower) = _panels(2, width)
        _draw_rate(upper, seconds, events, "events/s", _FIRST)
        _draw_rate(lower, seconds, deliveries, "deliveries/s", _SECOND)
        return figure

    return _sized(draw, "Events and deliveries per second over time")


def usage(samples: Sequence[Sample]) -> str | None:
    """Draw the server's processor time and memory over time; None if they are unknown."""
    seen = [
        (sample.seconds, sample.cpu_seconds, sample.memory)
        for sample in samples
        if sample.cpu_seconds is not None and sample.memory is not None
    ]
    if len(seen) < 2:
        return None
    seconds, cpu, memory = map(_column, zip(*seen, strict=True))

    def draw(width: float) -> Figure:
        figure, (upper, lower) = _panels(2, width)
        _draw_rate(upper, seconds, cpu * 100, "CPU, % of a core", _FIRST, step=_MIN_CPU_STEP)
        lower.plot(seconds, memory / 2**20, color=_SECOND, linewidth=1.6)
        lower.fill_between(seconds, memory / 2**20, color=_SECOND, alpha=0.15, linewidth=0)
        _finish(lower, "memory, MiB")
        return figure

    return _sized(draw, "The server's processor time and memory over time")


def latency_histogram(latency: Latency) -> str:
    """Draw the distribution of latency, with its percentiles."""

    def draw(width: float) -> Figure:
        figure, (axes,) = _panels(1, width)
        lows, highs, counts = zip(*latency.buckets, strict=True)
        left, right = _column(lows) * 1000, _column(highs) * 1000
        axes.bar(left, counts, width=right - left, align="edge", color=_FIRST, alpha=0.8)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(visible=False, axis="x")
        axes.set_ylim(top=max(counts) * 1.4)  # room for the labels
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
        marks = [(f"p{rank:g}", value) for rank, value in latency.percentiles.items()]
        for place, (name, value) in enumerate([*marks, ("max", latency.largest)]):
            # Each line ends one step lower than the last, so that none crosses a label.
            top = 1 - 0.09 * place
            dashes = (0, (4, 2))
            axes.axvline(value * 1000, ymax=top, color=_SECOND, linewidth=1.2, linestyle=dashes)
            axes.annotate(
                name,
                (value * 1000, top),
                xycoords=("data", "axes fraction"),
                xytext=(3, -9),
                textcoords="offset points",
                color=_INK,
            )
        axes.set_xlabel("milliseconds")
        axes.set_ylabel("deliveries")
        return figure

    return _sized(draw, "Distribution of latency, with percentiles")


def deliveries(delivered: Sequence[int]) -> str:
    """Draw the deliveries of each client, in descending order."""
    ordered = sorted(delivered, reverse=True)
    places = np.arange(1, len(ordered) + 1)

    def draw(width: float) -> Figure:
        figure, (axes,) = _panels(1, width)
        if len(ordered) <= _MAX_BARS:
            axes.bar(places, ordered, color=_FIRST, alpha=0.8)
        else:
            axes.fill_between(places, ordered, color=_FIRST, alpha=0.8, linewidth=0)
        axes.grid(visible=False, axis="x")
        axes.set_xlim(0, len(ordered) + 1)
        axes.set_xlabel("clients by deliveries, descending")
        axes.set_ylabel("deliveries")
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
        return figure

    return _sized(draw, "Deliveries of each client")


def _column(values: Sequence[float]) -> Floats:
    return np.array(values, np.float64)


def _sized(draw: Callable[[float], Figure], title: str) -> str:
    """Return the chart in each width."""
    with rc_context(_STYLE):
        return "".join(
            f'<div class="{name}">{_svg(draw(width), title)}</div>'
            for name, width in WIDTHS.items()
        )


def _panels(count: int, width: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, 1.9 * count + 1.0), layout="constrained")
    panels = figure.subplots(count, sharex=True, squeeze=False)
    return figure, [panels[row, 0] for row in range(count)]


def _draw_rate(
    axes: Axes, seconds: Floats, total: Floats, name: str, colour: str, *, step: float = 0.0
) -> None:
    """Draw the growth per second of a total, in steps of at least ``step`` seconds."""
    duration = max(float(seconds[-1]), 1e-3)
    points = int(min(_MAX_POINTS, len(seconds), duration / step if step else _MAX_POINTS))
    edges = np.linspace(0.0, duration, max(points, 1) + 1)
    rates = np.diff(np.interp(edges, seconds, total)) / np.diff(edges)
    axes.stairs(rates, edges, color=colour, linewidth=1.6)
    axes.stairs(rates, edges, color=colour, alpha=0.15, fill=True)
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    _finish(axes, name)


def _finish(axes: Axes, name: str) -> None:
    axes.set_title(name, loc="left", fontsize=11)
    axes.set_ylim(bottom=0)
    axes.set_xmargin(0)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    if axes.get_subplotspec().is_last_row():  # type: ignore[union-attr]
        axes.set_xlabel("seconds")


def _svg(figure: Figure, title: str) -> str:
    buffer = StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Remove the ids of groups, which would be the same in every chart of the page.
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r' width="[\d.]+pt" height="[\d.]+pt"', "", svg, count=1)
    svg = re.sub(
        r"<svg([^>]*)>", rf'<svg role="img"\1><title>{escape(title)}</title>', svg, count=1
    )
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg
