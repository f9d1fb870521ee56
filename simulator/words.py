"""Owns the words for a result: what people read in the table, the verdict and the report."""

from simulator.results import Figures, Latency, Verdict

ALL_RECEIVED = r"\o/ ALL NOTIFICATIONS RECEIVED \o/"


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


def figure_rows(figures: Figures) -> list[tuple[str, str]]:
    """The figures of a run, for people."""
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


def latency_rows(latency: Latency | None) -> list[tuple[str, str]]:
    """The same for the latency."""
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
