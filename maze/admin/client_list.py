"""The connected clients as plain values, and the search for one session."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import nlargest
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maze.pipeline.session import Session
    from maze.server import Server

SORT_KEYS = {
    "queued": lambda session: session.queued_bytes,
    "sent": lambda session: session.sent_bytes,
    "age": lambda session: -session.opened_at,
    "newest": lambda session: session.opened_at,
}
"""Sort orders of the client list, largest key first."""
SORT_FIELDS = {
    "queued": ("queued_bytes", True),
    "sent": ("sent_bytes", True),
    "age": ("connected_seconds", True),
    "newest": ("connected_seconds", False),
}
"""The same orders for lists that are made: the field, and whether the largest value comes first."""


def list_clients(sessions: Iterable[Session], sort: str, limit: int) -> list[dict[str, Any]]:
    """Return the first ``limit`` clients in that sort order."""
    now = monotonic()
    chosen = nlargest(limit, sessions, key=SORT_KEYS[sort])
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


def find_session(server: Server, connection: int) -> Session | None:
    """Return the session on that connection; None if there is none. O(sessions)."""
    for session in server.sessions:
        if session.peer.connection == connection:
            return session
    return None
