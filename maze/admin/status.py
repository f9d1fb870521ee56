"""The status of a server as plain values, ready to become JSON."""

from __future__ import annotations

import os
import platform
import resource
import time
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from maze import __version__
from maze.admin import reading
from maze.core import TWIN, Reason
from maze.handshake import HandshakeReason
from maze.log_lines import RATE_LIMIT, RECENT
from maze.places import RefusalReason
from maze.session import CloseReason
from maze.settings import Settings, key_of

if TYPE_CHECKING:
    from maze.admin.monitor import Monitor
    from maze.gate import Gate
    from maze.server import MazeServer

LIMITS = (
    *("reorder_limit", "reorder_bytes", "gap_policy", "on_source_disconnect", "max_users"),
    *("max_follows", "max_follows_per_user", "max_sources", "line_limit"),
    *("max_clients", "max_clients_per_address", "max_clients_per_user"),
    *("max_handshakes", "handshake_timeout", "handshake_limit", "peer_timeout", "client_buffer"),
    *("total_buffer", "slow_client", "stall_timeout", "hold_timeout", "drain_timeout"),
)
"""the options that bound something or decide what happens at a bound"""
STUCK_SECONDS = 10.0
"""Longest time that the router routes nothing without a fault; all its steps are shorter."""
SLOWEST = 10
"""clients in the status that the page gets"""


def status(server: MazeServer, monitor: Monitor) -> dict[str, Any]:
    """Everything an operator asks first. O(sessions)."""
    return {
        "version": __version__,
        "core": TWIN,
        "python": platform.python_version(),
        "state": server.state,
        "is_ready": unready_because(server, monitor) is None,
        "started_at": round(monitor.started_at, 3),
        "uptime_seconds": round(time.time() - monitor.started_at, 3),
        "events": _events(server),
        "order": _order(server),
        "sources": _sources(server),
        "sessions": _sessions(server),
        "queues": reading.queues(server)._asdict(),
        "accepting_pauses": server.accepting_pauses,
        "graph": {
            "users": server.router.fanout.graph.users,
            "follows": server.router.fanout.graph.follows,
            "listeners": server.router.fanout.graph.listeners,
        },
        "rates": monitor.rates(),
        "latency": monitor.latency(),
        "router": {
            "batches": server.router.meter.batches,
            "stuck_seconds": round(monitor.stuck_seconds(), 3),
            "waited_seconds": round(server.router.meter.waited_seconds, 3),
        },
        "hub_lag_seconds": round(monitor.last_lag, 6),
        "log_lines": {"suppressed": RATE_LIMIT.suppressed, "dropped": monitor.log_lines_dropped},
        "process": _process(),
        "limits": _limits(server.settings),
    }


def page_status(server: MazeServer, monitor: Monitor) -> dict[str, Any]:
    """The status, and what else the page shows."""
    return {
        **status(server, monitor),
        "clients": reading.clients(server, "queued", SLOWEST),
        "warnings": list(RECENT.lines),
        "point": monitor.points[-1] if monitor.points else None,
    }


def unready_because(server: MazeServer, monitor: Monitor) -> str | None:
    """Why nobody should be sent to this server now; None if it is ready."""
    if server.failed:
        return "the server failed"
    if server.state != "ready":
        return server.state
    stuck = monitor.stuck_seconds()
    if stuck > STUCK_SECONDS:
        return (
            f"the router has routed nothing for {stuck:.0f} s although events are ready "
            "and it waits for no client"
        )
    return None


def _events(server: MazeServer) -> dict[str, Any]:
    return {
        "received": server.router.meter.received_events,
        "routed": server.router.routed_events,
        "by_type": {name: tally._asdict() for name, tally in reading.tallies(server).items()},
        "rejected": {reason.value: server.rejects.counts[reason] for reason in Reason},
        "reject_file": _reject_file(server),
    }


def _reject_file(server: MazeServer) -> dict[str, int] | None:
    """None if none is kept."""
    trail = server.rejects.trail
    return {"written": trail.written, "dropped": trail.dropped} if trail else None


def _order(server: MazeServer) -> dict[str, Any]:
    reorder = server.router.reorder
    return {
        "next_sequence": reorder.next_sequence,
        "ready_events": reorder.ready,
        "waiting_events": reorder.waiting,
        "missing_sequence": reorder.missing_sequence if reorder.waiting else None,
        "missing_seconds": round(server.router.meter.missing_seconds(reorder), 3),
    }


def _sources(server: MazeServer) -> dict[str, Any]:
    return {
        "connected": [
            {"connection": peer.connection, "source": str(peer)} for peer in server.source.sources
        ],
        "refused": server.source.refused,
        "handshakes_rejected": _handshakes(server.source.gate),
        "received_bytes": server.source.received_bytes,
    }


def _sessions(server: MazeServer) -> dict[str, Any]:
    clients = server.clients
    return {
        "connected": len(server.sessions),
        "opened": reading.sessions_opened(server),
        "closed": {reason.value: server.sessions.closed[reason] for reason in CloseReason},
        "handshakes": clients.places.handshakes,
        "handshakes_rejected": _handshakes(clients.gate),
        "refused": {reason.value: clients.places.refused[reason] for reason in RefusalReason},
        "sent_bytes": reading.sent_bytes(server),
    }


def _handshakes(gate: Gate) -> dict[str, int]:
    return {reason.value: gate.rejects.counts[reason] for reason in HandshakeReason}


def _process() -> dict[str, Any]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "pid": os.getpid(),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 3),
        "memory_bytes": _resident_bytes(),
    }


def _resident_bytes() -> int | None:
    """What the process holds in memory, where the system tells it as Linux does."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return None


def _limits(settings: Settings) -> dict[str, Any]:
    known = {spec.name for spec in fields(Settings)}
    return {key_of(name): getattr(settings, name) for name in LIMITS if name in known}
