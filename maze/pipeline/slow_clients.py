"""Slow clients: waits until they have taken enough, or disconnects them.

No batch is routed while a session exceeds its bound, or all sessions together exceed theirs. With
``slow-client=wait`` the router waits here for the clients. If a few sessions hold up the others for
too long, they are disconnected (``holding``); ``core.holding`` decides which. With
``slow-client=disconnect`` the sessions that exceed a bound are disconnected instead (``slow``). A
drain disconnects clients that take too little while the others wait (``stopped``).

A client that takes nothing at all is disconnected by its session (``stalled``).
"""

from collections.abc import Callable, Iterable
from operator import attrgetter
from time import monotonic

import structlog
from gevent.event import Event

from maze.core import Holding, holders
from maze.pipeline.registry import Sessions
from maze.pipeline.session import CloseReason, Session
from maze.pipeline.stats import Stats
from maze.settings.options import Settings

log = structlog.get_logger()

DRAIN_STEPS = 16
"""Parts into which a drain divides its timeout and a full buffer: a blocking client has to take one
part of the buffer in each part of the time."""

GRACE_SECONDS = 0.001
"""Time that a client has to receive what was just sent before it counts as slow."""


class SlowClients:
    """The sessions that exceed a bound.

    ``on_wait`` is called when a wait begins, ``yield_if_due`` between steps of long work.
    """

    def __init__(
        self,
        settings: Settings,
        sessions: Sessions,
        stats: Stats,
        *,
        on_wait: Callable[[], object],
        yield_if_due: Callable[[], object],
    ) -> None:
        self._settings = settings
        self._sessions = sessions
        self._stats = stats
        self._on_wait = on_wait
        self._yield_if_due = yield_if_due
        self._full: dict[Session, None] = {}
        self._holding: Holding[Session] = Holding(settings.hold_timeout)
        self._room = Event()
        self.router_waits = False
        """Whether the router waits here for room."""
        self.draining = False

    def add(self, sessions: Iterable[Session]) -> None:
        """Note sessions that exceed their own bound."""
        self._full.update(dict.fromkeys(sessions))

    def on_progress(self, session: Session) -> None:
        """Called when a session has sent something or has ended: there may be room again."""
        if session in self._full and session.held_bytes <= self._settings.client_buffer:
            del self._full[session]
        if self.router_waits and not self._lacks_room():
            self._room.set()

    def remove(self, session: Session) -> None:
        """Remove a session that has ended, and no longer wait for it."""
        self._holding.remove(session)
        self.on_progress(session)  # it holds nothing any more

    def make_room(self) -> None:
        """Wait, or disconnect sessions, until no bound is exceeded."""
        if self._settings.slow_client == "wait":
            while self._lacks_room():
                if not self._wait_for_room(self._holding.pause) and not self.draining:
                    self._disconnect_holders()
            return
        if not self._lacks_room():
            return
        self._wait_for_room(GRACE_SECONDS)
        for session in list(self._full):
            if session in self._full:
                self._drop(session)
        if self._over_total():
            self._drop_fullest()

    def drain(self, idle: Event, timeout: float) -> None:
        """Wait until ``idle`` is set, for at most ``timeout`` seconds.

        For the first half of the timeout no client is disconnected. Then a client that blocks the
        others is disconnected if it is too slow to take a full buffer within the whole timeout, so
        that the others receive what is ready.
        """
        self.draining = True
        deadline = monotonic() + timeout
        if idle.wait(timeout / 2):
            return
        step_bytes = self._settings.client_buffer // DRAIN_STEPS
        while (remaining := deadline - monotonic()) > 0:
            goals = {
                session: session.taken_bytes() + step_bytes for session in self._blocking_sessions()
            }
            if idle.wait(min(remaining, timeout / DRAIN_STEPS)):
                return
            for session in self._blocking_sessions():
                if session.taken_bytes() < goals.get(session, 0):
                    self._drop(session)

    def _blocking_sessions(self) -> list[Session]:
        """Return the sessions for which the router, and so the other sessions, have to wait."""
        if self._over_total():
            return [session for session in self._sessions if session.queued_bytes]
        return list(self._full) if len(self._full) < len(self._sessions) else []

    def _excess(self) -> int:
        """Return by how many bytes all sessions together exceed their bound."""
        return self._sessions.queued_memory.bytes - self._settings.total_buffer

    def _over_total(self) -> bool:
        return self._excess() > 0

    def _lacks_room(self) -> bool:
        """Return whether any bound is exceeded."""
        return bool(self._full) or self._over_total()

    def _drop_fullest(self) -> None:
        """Disconnect the fullest sessions until the total is within its limit."""
        fullest_first = sorted(self._sessions, key=attrgetter("held_bytes"), reverse=True)
        for session in fullest_first:
            if not self._over_total():
                return
            self._drop(session)

    def _drop(self, session: Session) -> None:
        """Disconnect a session; yield if due, as it may take a second for thousands."""
        session.close(CloseReason.STOPPED if self.draining else CloseReason.SLOW)
        self._yield_if_due()

    def _wait_for_room(self, timeout: float) -> bool:
        """Wait for room, for at most ``timeout`` seconds; return whether there is any."""
        began = monotonic()
        self.router_waits = True
        self._room.clear()
        self._on_wait()
        has_room = self._room.wait(timeout)
        self.router_waits = False
        waited = monotonic() - began
        self._stats.waited_seconds += waited
        self._holding.waited(waited)
        return has_room

    def _disconnect_holders(self) -> None:
        """Count the time waited against the sessions that hold up the others.

        Log these sessions, and disconnect those that exceed the hold timeout.
        """
        blocking = holders(self._full, self._sessions, self._excess(), self._yield_if_due)
        now = monotonic()
        overdue = self._holding.count(blocking, now)
        if notice := self._holding.notice(now):
            log.warning("clients_holding", **notice)
        for session, seconds in overdue:
            if session in self._full or self._over_total():
                session.close(CloseReason.HOLDING, waited_seconds=round(seconds, 3))
                self._yield_if_due()
