"""Owns the words for a result: what people read in the table, the verdict and the report."""

import shlex

from simulator.parameters import Parameters
from simulator.stream.workload import ORIGINAL_MIX, Mix
from simulator.verdict.results import Figures, Latency, Verdict

ALL_RECEIVED = r"\o/ ALL NOTIFICATIONS RECEIVED \o/"


def verdict_lines(verdict: Verdict) -> list[str]:
    """The verdict in words."""
    if not verdict.status:
        return [ALL_RECEIVED]
    lines = ["FAILED"]
    if verdict.source_lost:
        lines.append(verdict.source_lost)
    lines += verdict.server_faults
    if verdict.hint:
        lines.append(verdict.hint)
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
        if figures.cpu_seconds is not None:
            rows.append(("server's CPU", f"{figures.cpu_seconds:,.2f} s"))
        else:
            life = f"{figures.usage.cpu_seconds:,.2f} s"
            rows.append(("server's CPU, from start to stop", life))
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


def command_line(parameters: Parameters) -> str:
    """What was typed, as a shell takes it."""
    return shlex.join(["python", "-m", "simulator", *parameters.arguments])


def parameter_rows(parameters: Parameters) -> list[tuple[str, str]]:
    """The parameters of a run with their units, for people; what had no part in it is left out."""
    workload, faults = parameters.workload, parameters.workload.faults
    rate = parameters.rate
    rows = [
        ("events", f"{workload.events:,}"),
        ("clients", f"{workload.clients:,}"),
        ("users", f"{workload.users:,}"),
        ("events in a shuffled batch, at most", f"{workload.batch:,}"),
        ("seed", str(workload.seed)),
        ("weights of F, U, B, P, S", _mix(workload.mix)),
        ("lines end with", "CR LF" if workload.crlf else "LF"),
        ("sources", f"{workload.sources:,}"),
        ("rate", "all that is taken" if rate is None else f"{rate:,g} events/s"),
        ("latency measured", "yes" if parameters.latency else "no"),
    ]
    if parameters.latency:
        rows.append(("clients whose deliveries are timed", f"{parameters.latency_clients:,}"))
    rows += [
        ("duplicates", f"{faults.duplicates:g} %"),
        ("conflicts", f"{faults.conflicts:g} %"),
        ("malformed", f"{faults.malformed:g} %"),
        ("gaps", f"{faults.gaps:,}"),
    ]
    if parameters.cuts is not None:
        rows.append(("bytes that a source writes at once, at most", f"{parameters.cuts:,}"))
    rows.append(("clients that stall", f"{parameters.stalling:,}"))
    if parameters.stalling:
        rows.append(("stall time", _milliseconds(parameters.stall_time)))
        rows.append(("stall timeout", _milliseconds(parameters.stall_timeout)))
    rows += [
        ("clients that leave", f"{parameters.leaving:,}"),
        ("clients that come back", f"{parameters.returning:,}"),
        ("server", "started for the run" if parameters.serve else "was running"),
    ]
    if parameters.server_options:
        rows.append(("server options", shlex.join(parameters.server_options)))
    return [
        *rows,
        ("host", parameters.host),
        ("source port", str(parameters.source_port)),
        ("client port", str(parameters.client_port)),
        ("TLS", "no" if parameters.tls_ca is None else "yes"),
        ("timeout", _milliseconds(parameters.timeout)),
        ("settle", _milliseconds(parameters.settle)),
        ("linger", _milliseconds(parameters.linger)),
        ("log level", parameters.log_level),
        ("log interval", _milliseconds(parameters.log_interval)),
    ]


def _mix(mix: Mix) -> str:
    return "original" if mix == ORIGINAL_MIX else ", ".join(f"{weight:g}" for weight in mix)


def _milliseconds(seconds: float) -> str:
    """As the flags have it."""
    return f"{seconds * 1000:,.0f} ms"
