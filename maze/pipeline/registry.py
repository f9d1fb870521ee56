"""The registry of sessions: those that are open, and the totals of those that have ended.

The router owns it. A session reports here when it begins, makes progress or ends. The set of
sessions connected to the graph is the graph's own, so that it is kept only once.
"""

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from itertools import chain
from typing import cast

import gevent
from gevent.event import Event

from maze.core import FollowGraph
from maze.net.background import BackgroundWork
from maze.pipeline.implementation import QueuedMemory
from maze.pipeline.session import CloseReason, Session

STEP_AUDIENCES = 1_000
"""Audiences entered or left per step (about 0.5 ms). A user may follow 50,000 users, and thousands
of users may connect or disconnect at once."""

CLOSED_AT_ONCE = 20
"""Sessions closed before a yield. Closing a session in a thousand audiences takes 0.2 ms."""


class Sessions(Collection[Session]):
    """The open sessions: first those connected to the graph, in that order, then the others.

    A session that has entered gets payloads once it is connected to the graph. ``on_enter`` is
    called when a session has begun, and must connect it, now or later. ``on_progress`` and
    ``on_leave`` are called when a session has sent something or has ended, and ``fail`` when the
    graph raises an exception.
    """

    def __init__(
        self,
        graph: FollowGraph,
        stall_timeout: float,
        *,
        on_enter: Callable[[Session], None],
        on_progress: Callable[[Session], None],
        on_leave: Callable[[Session], None],
        fail: Callable[[str], None],
    ) -> None:
        self._graph = graph
        self._connected = cast("Collection[Session]", graph.recipients)
        self._unconnected: dict[Session, None] = {}
        self._unconnected_users: Counter[int] = Counter()
        self.stall_timeout = stall_timeout
        self._on_enter = on_enter
        self.on_progress = on_progress
        self._on_leave = on_leave
        self._fail = fail
        self.queued_memory = QueuedMemory()
        self.closed: Counter[CloseReason] = Counter()
        self.sent_bytes_of_closed = 0
        self.discarded_bytes = 0
        """Bytes that clients sent after their ids."""
        self._readable: deque[Session] = deque()
        self._reading = BackgroundWork(self._read_next)
        self._settling = BackgroundWork(self._settle)
        self._empty = Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._connected) + len(self._unconnected)

    def __iter__(self) -> Iterator[Session]:
        return chain(self._connected, self._unconnected)

    def __contains__(self, session: object) -> bool:
        return session in self._connected or session in self._unconnected

    def count_of(self, user: int) -> int:
        """Return the number of sessions that the user has."""
        return self._graph.session_count(user) + self._unconnected_users[user]

    def of_user(self, user: int) -> list[Session]:
        """Return the user's sessions. O(sessions)."""
        return [session for session in self if session.user == user]

    def close_user(self, user: int, reason: CloseReason) -> int:
        """End the user's sessions now; return how many. Those that begin meanwhile stay."""
        closed = 0
        for session in self.of_user(user):
            if session in self:  # others ran since the last yield
                session.close(reason)
                closed += 1
                if not closed % CLOSED_AT_ONCE:
                    gevent.sleep(0)
        return closed

    def close(self, timeout: float) -> None:
        """Let all sessions send what is queued, for at most ``timeout`` seconds, and end them."""
        for session in list(self):
            session.close_when_sent()
        self._empty.wait(timeout)
        for count, session in enumerate(list(self), start=1):
            session.close(CloseReason.FINISHED if session.has_taken_all() else CloseReason.STOPPED)
            if not count % CLOSED_AT_ONCE:
                gevent.sleep(0)

    def connect(self, session: Session) -> None:
        """Connect a session to the graph: it gets payloads from the next batch on."""
        self._remove_unconnected(session)
        self._change_graph(self._graph.connect, session)

    def disconnect(self, session: Session) -> None:
        """Take a session out of the graph: it gets no payloads until it is connected again."""
        self._add_unconnected(session)
        self._change_graph(self._graph.disconnect, session)

    # Called by the sessions.

    def enter(self, session: Session) -> None:
        """Add a session that begins."""
        self._empty.clear()
        self._add_unconnected(session)
        self._on_enter(session)

    def leave(self, session: Session, reason: CloseReason) -> None:
        """Remove a session that has ended."""
        if session in self._unconnected:
            self._remove_unconnected(session)
        else:
            self._change_graph(self._graph.disconnect, session)
        self._on_leave(session)
        self.closed[reason] += 1
        self.sent_bytes_of_closed += session.sent_bytes
        if not len(self):
            self._empty.set()

    def read_soon(self, session: Session) -> None:
        """Schedule a read of what the session's client sent. Reads are background work."""
        self._readable.append(session)
        self._reading.begin()

    def _read_next(self) -> bool:
        self._readable.popleft().read()
        return bool(self._readable)

    def _add_unconnected(self, session: Session) -> None:
        self._unconnected[session] = None
        self._unconnected_users[session.user] += 1

    def _remove_unconnected(self, session: Session) -> None:
        del self._unconnected[session]
        self._unconnected_users[session.user] -= 1
        if not self._unconnected_users[session.user]:
            del self._unconnected_users[session.user]

    def _change_graph(self, change: Callable[[Session], None], session: Session) -> None:
        """Connect or disconnect a session; an error in the shared graph stops the server."""
        try:
            change(session)
            if self._graph.settle(0):
                self._settling.begin()
        except Exception:
            self._fail("graph_failed")

    def _settle(self) -> bool:
        """Enter and leave some audiences; return whether any are left."""
        try:
            return self._graph.settle(STEP_AUDIENCES)
        except Exception:
            self._fail("graph_failed")
            return False
