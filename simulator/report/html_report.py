"""Render a result as one HTML file that loads nothing else."""

from collections.abc import Iterable
from html import escape

from simulator import __version__
from simulator.report import charts
from simulator.report.text_report import (
    command_line,
    figure_rows,
    latency_rows,
    parameter_rows,
    verdict_lines,
)
from simulator.verdict.results import Result

_MAX_UNBROKEN = 20
"""Maximum length of a value that is kept on one line; characters."""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{
  --page: #fbfbfa; --card: #ffffff; --ink: #24292f; --soft: #5b6470; --grid: #dfe3e8;
  --first: #1f6feb; --second: #b35900; --good: #1a7f37; --bad: #cf222e;
}}
@media (prefers-color-scheme: dark) {{
  :root {{
    --page: #14171c; --card: #1c2128; --ink: #e6e9ee; --soft: #9aa5b1; --grid: #39424e;
    --first: #6cb0ff; --second: #f0a35e; --good: #4cc264; --bad: #ff7b72;
  }}
}}
* {{ box-sizing: border-box; }}
body {{
  margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 60rem; background: var(--page);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif;
}}
h1 {{ font-size: 1.5rem; margin: 0 0 1rem; }}
h2 {{ font-size: 1.1rem; margin: 0 0 .25rem; }}
p {{ margin: .25rem 0 .75rem; color: var(--soft); }}
section, .verdict {{
  background: var(--card); border: 1px solid var(--grid); border-radius: .5rem;
  padding: 1rem; margin: 0 0 1rem;
}}
.verdict {{ border-left: .4rem solid var(--bad); }}
.verdict.passed {{ border-left-color: var(--good); }}
.verdict strong {{ color: var(--bad); font-size: 1.15rem; }}
.verdict.passed strong {{ color: var(--good); }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; margin: .5rem 0 0; }}
svg {{ display: block; width: 100%; height: auto; }}
.narrow {{ display: none; max-width: 30rem; }}
@media (max-width: 40rem) {{
  .wide {{ display: none; }}
  .narrow {{ display: block; }}
}}
svg text {{ font-family: system-ui, sans-serif !important; }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: left; padding: .3rem .5rem; border-top: 1px solid var(--grid); }}
th {{ font-weight: 400; color: var(--soft); }}
td {{ text-align: right; white-space: nowrap; }}
td.long {{ white-space: normal; overflow-wrap: anywhere; }}
.command {{ margin: -.5rem 0 1rem; color: var(--soft); font-size: .875rem; }}
.columns {{
  display: grid; gap: 1rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr));
}}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{occasion}</p>
<pre class="command">{command}</pre>
{verdict}
{sections}
</body>
</html>
"""


def page(result: Result) -> str:
    """Return the HTML of the report."""
    workload = result.parameters.workload
    title = f"Follower Maze: {workload.events:,} events, {workload.clients:,} clients"
    sections = [*_charts(result), _tables(result)]
    return _PAGE.format(
        title=title,
        occasion=_occasion(result),
        command=escape(command_line(result.parameters)),
        verdict=_verdict(result),
        sections="\n".join(sections),
    )


def _occasion(result: Result) -> str:
    return f"{result.started:%Y-%m-%d %H:%M:%S} UTC, Follower Maze {__version__}"


def _verdict(result: Result) -> str:
    first, *rest = verdict_lines(result.verdict)
    state = "failed" if result.verdict.status else "passed"
    details = f"<pre>{escape(chr(10).join(rest))}</pre>" if rest else ""
    return f'<div class="verdict {state}"><strong>{escape(first)}</strong>{details}</div>'


def _charts(result: Result) -> Iterable[str]:
    samples = result.timeline
    figures = result.figures
    if len(samples) > 1:
        share = figures.deliveries / max(1, figures.bytes)
        yield _section(
            "Throughput",
            "Events sent and deliveries received per second. Deliveries over time are estimated "
            "from bytes.",
            charts.throughput(samples, share),
        )
    if result.latency is not None:
        yield _section(
            "Latency",
            "Time from when an event and all events before it were sent until it arrived, "
            f"for {result.latency.deliveries:,} deliveries to {result.latency.clients:,} clients. "
            "The buckets are logarithmic, twenty per factor of ten.",
            charts.latency_histogram(result.latency),
            _table(latency_rows(result.latency)),
        )
    if (usage := charts.usage(samples)) is not None:
        yield _section("Server", "Processor time and resident memory.", usage)
    yield _section(
        "Deliveries per client",
        f"{figures.deliveries:,} deliveries to {len(result.delivered):,} clients.",
        charts.deliveries([count for _, count in result.delivered]),
    )


def _tables(result: Result) -> str:
    parameters = parameter_rows(result.parameters)
    figures = _section("Figures", "", _table(figure_rows(result.figures)))
    return f'<div class="columns">{figures}{_section("Parameters", "", _table(parameters))}</div>'


def _section(title: str, text: str, *parts: str) -> str:
    words = f"<p>{escape(text)}</p>" if text else ""
    return f"<section><h2>{escape(title)}</h2>{words}{''.join(parts)}</section>"


def _table(rows: Iterable[tuple[str, str]]) -> str:
    cells = (f"<tr><th scope=row>{escape(name)}</th>{_cell(value)}</tr>" for name, value in rows)
    return f"<table>{''.join(cells)}</table>"


def _cell(value: str) -> str:
    return f"<td{' class=long' if len(value) > _MAX_UNBROKEN else ''}>{escape(value)}</td>"
