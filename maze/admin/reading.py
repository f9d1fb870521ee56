"""Reads the counters of a server's parts, and puts them together where they lie apart."""

from __future__ import annotations

from heapq import nlargest
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from maze.server import MazeServer
    from maze.session import Session

TYPE_NAMES = {
    b"F": "follow",
    b"U": "unfollow",
    b"B": "broadcast",
    b"P": "private",
    b"S": "status",
}


class Tally(NamedTuple):
    """What was routed of one event type."""

    routed: int
    deliveries: int
    delivered_bytes: int


class Queues(NamedTuple):
    """What waits for clients, in bytes."""

    total: int
    largest: int
    memory: int
    """less than the total, because what several clients share is stored once"""


def tallies(server: MazeServer) -> dict[str, Tally]:
    """What was routed, by the type's name."""
    return {
        TYPE_NAMES[kind]: Tally(*tally) for kind, tally in server.router.fanout.tallies().items()
    }


def queues(server: MazeServer) -> Queues:
    """O(sessions): some 0.1 us each."""
    sizes = [session.queued_bytes for session in server.sessions]
    return Queues(sum(sizes), max(sizes, default=0), server.router.held.bytes)


def sent_bytes(server: MazeServer) -> int:
    """All that kernels took for clients. O(sessions)."""
    live = sum(session.sent_bytes for session in server.sessions)
    return server.sessions.sent_bytes_of_closed + live


def sessions_opened(server: MazeServer) -> int:
    """How many sessions there were so far, those included that there are."""
    return len(server.sessions) + server.sessions.closed.total()


SORT_KEYS = {
    "queued": lambda session: session.queued_bytes,
    "sent": lambda session: session.sent_bytes,
    "age": lambda session: -session.opened_at,
    "newest": lambda session: session.opened_at,
}
"""how clients can be sorted; those with the most come first"""


def clients(server: MazeServer, sort: str, limit: int) -> list[dict[str, Any]]:
    """The clients that come first in that order."""
    now = monotonic()
    chosen = nlargest(limit, server.sessions, key=SORT_KEYS[sort])
    return [
        {
            "session": session.peer.connection,
            "user": session.user,
            "client": str(session.peer),
            "queued_bytes": session.queued_bytes,
            "sent_bytes": session.sent_bytes,
            "waits_for_room": bool(session.writing),
            "connected_seconds": round(now - session.opened_at, 3),
        }
        for session in chosen
    ]


def session_of(server: MazeServer, connection: int) -> Session | None:
    """The session on the connection of that number. O(sessions)."""
    for session in server.sessions:
        if session.peer.connection == connection:
            return session
    return None
