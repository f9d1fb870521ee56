"""Merges the statuses of an ingest and its edges into one, of the same form."""

from collections.abc import Iterable, Mapping, Sequence
from heapq import nlargest
from itertools import chain
from typing import Any

from maze.admin.status import SLOWEST_CLIENTS
from maze.log.processors import KEPT_WARNINGS

MAX_EDGES = 64
"""Maximum edges; a session's number in the merged lists tells its edge modulo this number."""

DELIVERED = ("deliveries", "delivered_bytes")
"""The rates of what clients get."""

Status = dict[str, Any]


def merged(ingest: Status, edges: Mapping[int, Status]) -> Status:
    """Return one status; ``edges`` are by number, and begin with 1.

    What sources send is counted by the ingest, what clients get by the edges. Of latencies and
    lags, the worst is shown.
    """
    each = list(edges.values())
    every = [ingest, *each]
    return {
        **ingest,
        "role": "all",
        "events": _events(ingest, each),
        "sessions": added([edge["sessions"] for edge in each] or [ingest["sessions"]]),
        "queues": _queues(each),
        "accepting_pauses": added(part["accepting_pauses"] for part in every),
        "graph": ingest["graph"] | {"listeners": sum(edge["graph"]["listeners"] for edge in each)},
        "router": _router(every),
        "resumes": _resumes(ingest, each),
        "rates": _rates(ingest, each),
        "latency": _worst(edge["latency"] for edge in each),
        "hub_lag_seconds": max(part["hub_lag_seconds"] for part in every),
        "log_lines": added(part["log_lines"] for part in every),
        "process": added(part["process"] for part in every) | {"pid": ingest["process"]["pid"]},
        "clients": slowest(edges),
        "warnings": _newest_warnings(every),
        "point": _point(ingest, each),
    }


def numbered(edge: int, clients: Iterable[Status]) -> list[Status]:
    """Return clients with numbers of their sessions that also tell the edge."""
    return [
        client | {"session": client["session"] * MAX_EDGES + edge - 1, "edge": edge}
        for client in clients
    ]


def edge_and_session(number: int) -> tuple[int, int]:
    """Return the edge's number and the session's number there."""
    session, edge = divmod(number, MAX_EDGES)
    return edge + 1, session


def slowest(edges: Mapping[int, Status]) -> list[Status]:
    """Return the clients with the most bytes queued."""
    clients = chain(*(numbered(edge, status["clients"]) for edge, status in edges.items()))
    return nlargest(SLOWEST_CLIENTS, clients, key=lambda client: int(client["queued_bytes"]))


def added(parts: Iterable[Mapping[str, Any]]) -> Status:
    """Add up numbers, and mappings of numbers; of anything else, return the first."""
    total: Status = {}
    for part in parts:
        for key, value in part.items():
            if isinstance(value, Mapping):
                total[key] = added([total.get(key, {}), value])
            elif isinstance(value, (int, float)) and not isinstance(value, bool):
                total[key] = round(total.get(key, 0) + value, 6)
            else:
                total.setdefault(key, value)
    return total


def _events(ingest: Status, edges: Sequence[Status]) -> Status:
    by_type = added(edge["events"]["by_type"] for edge in edges)
    for kind, tally in ingest["events"]["by_type"].items():
        by_type.setdefault(kind, dict.fromkeys(tally, 0))["routed"] = tally["routed"]
    return {**ingest["events"], "by_type": by_type}


def _queues(edges: Sequence[Status]) -> Status:
    queues = [edge["queues"] for edge in edges]
    largest = max((queue["largest"] for queue in queues), default=0)
    return {"total": 0, "memory": 0} | added(queues) | {"largest": largest}


def _router(statuses: Sequence[Status]) -> Status:
    routers = [status["router"] for status in statuses]
    worst = ("waited_seconds", "stuck_seconds")
    return added(routers) | {name: max(router[name] for router in routers) for name in worst}


def _resumes(ingest: Status, edges: Sequence[Status]) -> Status:
    resumes = [edge["resumes"] for edge in edges] or [ingest["resumes"]]
    oldest = min(each["oldest_recent_sequence"] for each in resumes)
    return added(resumes) | {"oldest_recent_sequence": oldest}


def _rates(ingest: Status, edges: Sequence[Status]) -> Status:
    """Return the ingest's rates, with the deliveries of the edges."""
    delivered = added(edge["rates"] for edge in edges)
    return {
        window: rates | {name: delivered.get(window, {}).get(name, 0) for name in DELIVERED}
        for window, rates in ingest["rates"].items()
    }


def _worst(latencies: Iterable[Status]) -> Status:
    worst: Status = {}
    for latency in latencies:
        for name, value in latency.items():
            known = worst.get(name)
            worst[name] = value if known is None else max(known, value or 0.0)
    return worst or dict.fromkeys(("p50", "p90", "p99"))


def _newest_warnings(statuses: Iterable[Status]) -> list[Status]:
    lines = chain(*(status["warnings"] for status in statuses))
    return sorted(lines, key=lambda line: str(line.get("timestamp", "")))[-KEPT_WARNINGS:]


def _point(ingest: Status, edges: Sequence[Status]) -> Status | None:
    """Return the point of the charts."""
    first: Status | None = ingest["point"]
    points = [edge["point"] for edge in edges if edge["point"]]
    if first is None or not points:
        return first
    sums = (*DELIVERED, "queue_bytes", "sessions")
    return {
        **first,
        **{name: sum(point[name] for point in points) for name in sums},
        **_worst({name: point[name] for name in ("p50", "p90", "p99")} for point in points),
    }
