"""The status of a server as plain values, ready for JSON."""

from __future__ import annotations

import os
import platform
import resource
from typing import TYPE_CHECKING, Any

from maze import __version__
from maze.admin.client_list import list_clients
from maze.admin.counters import counters
from maze.core import IMPLEMENTATION
from maze.log.processors import RATE_LIMIT, RECENT
from maze.settings.options import key_of

if TYPE_CHECKING:
    from maze.admin.monitor import Monitor
    from maze.server import Server

LIMITS = (
    *("reorder_limit", "reorder_bytes", "gap_policy", "gap_timeout", "on_source_disconnect"),
    *("max_users", "max_follows", "max_follows_per_user", "max_sources", "line_limit"),
    *("max_clients", "max_clients_per_address", "max_clients_per_user"),
    *("max_handshakes", "handshake_timeout", "handshake_limit", "peer_timeout", "client_buffer"),
    *(
        "resume_events",
        "resume_bytes",
        "total_buffer",
        "slow_client",
        "stall_timeout",
        "hold_timeout",
        "drain_timeout",
    ),
)
"""Options listed under ``limits``: those that set a bound or decide what happens at it."""
STUCK_SECONDS = 10.0
"""Seconds without routing that count as a fault; every step of a healthy router is shorter."""
STANDBY = "standby: another process writes the journal, and this one waits to take over"
"""Why a standby is not ready."""
SLOWEST_CLIENTS = 10
"""Clients in the status that the live page receives."""


def status(server: Server, monitor: Monitor) -> dict[str, Any]:
    """Return the counters, rates, process figures and limits of a server. O(sessions)."""
    snapshot = counters(server)
    order, router = snapshot["order"], snapshot["router"]
    order["missing_seconds"] = round(order["missing_seconds"], 3)
    if not order["waiting_events"]:
        order["missing_sequence"] = None
    router["waited_seconds"] = round(router["waited_seconds"], 3)
    router["stuck_seconds"] = round(monitor.stuck_seconds(), 3)
    if snapshot["journal"]:
        snapshot["journal"]["commit_seconds"] = monitor.commit_seconds()
    return {
        "version": __version__,
        "core": IMPLEMENTATION,
        "python": platform.python_version(),
        "state": "standby" if server.is_standby else server.state,
        "is_ready": unready_reason(server, monitor) is None,
        "started_at": round(monitor.started_at, 3),
        "uptime_seconds": round(monitor.uptime_seconds(), 3),
        **snapshot,
        "rates": monitor.rates(),
        "latency": monitor.latency(),
        "hub_lag_seconds": round(monitor.last_lag, 6),
        "log_lines": {"suppressed": RATE_LIMIT.suppressed, "dropped": monitor.log_lines_dropped},
        "process": _process(),
        "limits": {key_of(name): getattr(server.settings, name) for name in LIMITS},
    }


def page_status(server: Server, monitor: Monitor) -> dict[str, Any]:
    """Return the status plus the slowest clients, recent warnings and the last chart point."""
    return {
        **status(server, monitor),
        "clients": list_clients(server.sessions, "queued", SLOWEST_CLIENTS),
        "warnings": list(RECENT.lines),
        "point": monitor.points[-1] if monitor.points else None,
    }


def unready_reason(server: Server, monitor: Monitor) -> str | None:
    """Return why the server is not ready for clients; None if it is ready."""
    if server.failed:
        return "the server failed"
    if server.is_standby:
        return STANDBY
    if server.state != "ready":
        return server.state
    if server.trouble:
        return server.trouble
    stuck = monitor.stuck_seconds()
    if stuck > STUCK_SECONDS:
        return (
            f"the router has routed nothing for {stuck:.0f} s although events are ready "
            "and neither a client nor the journal holds it up"
        )
    return None


def _process() -> dict[str, Any]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "pid": os.getpid(),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 3),
        "memory_bytes": _resident_bytes(),
    }


def _resident_bytes() -> int | None:
    """Return the resident set size; None on systems without ``/proc/self/statm``."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return None
