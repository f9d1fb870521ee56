"""What the admin port shows: of one server, or of all processes together."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from maze.admin.client_list import find_session, list_clients
from maze.admin.metrics import Format, Metrics
from maze.admin.status import page_status, status, unready_reason
from maze.pipeline.session import CloseReason

if TYPE_CHECKING:
    from maze.admin.monitor import Monitor
    from maze.server import Server
    from maze.settings.options import Settings

log = structlog.get_logger()


class View(Protocol):
    """What the admin port shows. Methods may wait, but not for long."""

    settings: Settings

    @property
    def points(self) -> deque[dict[str, Any]]:
        """The page's charts, one point per tick, oldest first."""

    @property
    def ticks(self) -> int:
        """Number of ticks so far; a tick is a second."""

    def seconds_to_tick(self) -> float:
        """Return the seconds until shortly after the next tick is due."""

    def unready_reason(self) -> str | None:
        """Return why clients should not be sent here; None if they may."""

    def metrics(self, form: Format) -> bytes:
        """Return all metrics in a format."""

    def status(self) -> dict[str, Any]:
        """Return the status."""

    def page_status(self) -> dict[str, Any]:
        """Return the status plus what only the live page shows."""

    def clients(self, sort: str, limit: int, user: int | None) -> dict[str, Any]:
        """Return how many clients are connected, and the first ones in a sort order.

        With ``user``, only the sessions of that user count. May raise HttpError.
        """

    def disconnect(self, session: int) -> bool:
        """Disconnect a client; return False if there is no such session. May raise HttpError."""

    def disconnect_user(self, user: int) -> int:
        """Disconnect all sessions of a user; return how many. May raise HttpError."""


class ServerView(View):
    """What the admin port of one server shows."""

    def __init__(self, server: Server, monitor: Monitor) -> None:
        self.settings = server.settings
        self._server = server
        self._monitor = monitor
        self._metrics = Metrics(server, monitor)

    @property
    def points(self) -> deque[dict[str, Any]]:
        """The page's charts, one point per tick, oldest first."""
        return self._monitor.points

    @property
    def ticks(self) -> int:
        """Number of ticks so far."""
        return self._monitor.ticks

    def seconds_to_tick(self) -> float:
        """Return the seconds until shortly after the next tick is due."""
        return self._monitor.seconds_to_tick()

    def unready_reason(self) -> str | None:
        """Return why the server is not ready for clients; None if it is ready."""
        return unready_reason(self._server, self._monitor)

    def metrics(self, form: Format) -> bytes:
        """Return all metrics in a format."""
        return self._metrics.text(form)

    def status(self) -> dict[str, Any]:
        """Return the status."""
        return status(self._server, self._monitor)

    def page_status(self) -> dict[str, Any]:
        """Return the status plus what only the live page shows."""
        return page_status(self._server, self._monitor)

    def clients(self, sort: str, limit: int, user: int | None) -> dict[str, Any]:
        """Return how many clients are connected, and the first ones in a sort order."""
        sessions = self._server.sessions
        chosen = sessions if user is None else sessions.of_user(user)
        return {"connected": len(chosen), "clients": list_clients(chosen, sort, limit)}

    def disconnect(self, session: int) -> bool:
        """Disconnect a client; return False if there is no such session."""
        found = find_session(self._server, session)
        if found is None:
            return False
        log.info("client_disconnected", client=found.peer, user=found.user)
        found.close(CloseReason.OPERATOR)
        return True

    def disconnect_user(self, user: int) -> int:
        """Disconnect all sessions of a user; return how many."""
        disconnected = self._server.sessions.close_user(user, CloseReason.OPERATOR)
        log.info("user_disconnected", user=user, sessions=disconnected)
        return disconnected
