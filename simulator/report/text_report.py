"""Render a result as text: the verdict, and the rows of the tables."""

import shlex

from simulator.parameters import Parameters
from simulator.stream.workload import ORIGINAL_MIX, Mix
from simulator.verdict.results import Figures, Latency, Verdict

ALL_RECEIVED = r"\o/ ALL NOTIFICATIONS RECEIVED \o/"


def verdict_lines(verdict: Verdict) -> list[str]:
    """Return the lines of the verdict."""
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
        lines.append(f"and {more:,} more client{'s' if more > 1 else ''}")
    return lines


def figure_rows(figures: Figures) -> list[tuple[str, str]]:
    """Return the rows of a run's figures: name and value with its unit."""
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
    if figures.restarts:
        rows.append(("server restarts", f"{figures.restarts:,}"))
    if figures.resumes:
        rows.append(("clients resumed", f"{figures.resumes:,}"))
    if figures.reconnects:
        rows.append(("sources reconnected", f"{figures.reconnects:,}"))
        rows.append(("events sent again", f"{figures.resent_events:,}"))
    if figures.usage:
        if figures.cpu_seconds is not None:
            rows.append(("server CPU", f"{figures.cpu_seconds:,.2f} s"))
        else:
            life = f"{figures.usage.cpu_seconds:,.2f} s"
            rows.append(("server CPU, from start to stop", life))
        rows.append(("server peak memory", f"{figures.usage.peak_bytes / 2**20:,.1f} MiB"))
    return rows


def latency_rows(latency: Latency | None) -> list[tuple[str, str]]:
    """Return the rows of the latency."""
    if latency is None:
        return [("latency", "no deliveries")]
    rows = [
        (f"latency p{rank:g}", f"{seconds * 1000:,.3f} ms")
        for rank, seconds in latency.percentiles.items()
    ]
    return [
        ("deliveries timed", f"{latency.deliveries:,}"),
        ("clients sampled", f"{latency.clients:,}"),
        *rows,
        ("latency max", f"{latency.largest * 1000:,.3f} ms"),
        ("source delay max", f"{latency.behind * 1000:,.3f} ms"),
    ]


def command_line(parameters: Parameters) -> str:
    """Return the command line, quoted for a shell."""
    return shlex.join(["python", "-m", "simulator", *parameters.arguments])


def parameter_rows(parameters: Parameters) -> list[tuple[str, str]]:
    """Return the rows of the parameters that affected the run."""
    workload, faults = parameters.workload, parameters.workload.faults
    rate = parameters.rate
    rows = [
        ("events", f"{workload.events:,}"),
        ("clients", f"{workload.clients:,}"),
        ("users", f"{workload.users:,}"),
        ("maximum batch size", f"{workload.batch:,}"),
        ("seed", str(workload.seed)),
        ("weights of F, U, B, P, S", _mix(workload.mix)),
        ("line terminator", "CR LF" if workload.crlf else "LF"),
        ("sources", f"{workload.sources:,}"),
        ("rate", "unlimited" if rate is None else f"{rate:,g} events/s"),
        ("latency measured", "yes" if parameters.latency else "no"),
    ]
    if parameters.latency:
        rows.append(("clients sampled", f"{parameters.latency_clients:,}"))
    rows += [
        ("duplicates", f"{faults.duplicates:g} %"),
        ("conflicts", f"{faults.conflicts:g} %"),
        ("malformed", f"{faults.malformed:g} %"),
        ("gaps", f"{faults.gaps:,}"),
    ]
    if parameters.cuts is not None:
        rows.append(("maximum bytes per write", f"{parameters.cuts:,}"))
    rows.append(("stalling clients", f"{parameters.stalling:,}"))
    if parameters.stalling:
        rows.append(("stall time", _milliseconds(parameters.stall_time)))
        rows.append(("stall timeout", _milliseconds(parameters.stall_timeout)))
    rows += [
        ("leaving clients", f"{parameters.leaving:,}"),
        ("returning clients", f"{parameters.returning:,}"),
        ("resuming clients", f"{parameters.resuming:,}"),
    ]
    if parameters.resuming or parameters.restart_server:
        rows.append(("maximum time away", _milliseconds(parameters.away_time)))
    rows += [
        ("sources send again", "yes" if parameters.resend else "no"),
        ("server", "started for the run" if parameters.serve else "already running"),
    ]
    if parameters.restart_server:
        rows.append(("server restarts", f"{parameters.restart_server:,}"))
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
    """Return the text in milliseconds, the unit of the flags."""
    return f"{seconds * 1000:,.0f} ms"
