"""The registry of sessions: who is connected, and what the sessions that ended have left behind.

The router owns it. Sessions report here that they began, sent something, ended. The set itself is
that of the follow graph, which is the first to need it.
"""

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from typing import cast

import gevent
from gevent.event import Event

from maze.core import FollowGraph
from maze.net.background import BackgroundWork
from maze.pipeline.implementation import QueuedMemory
from maze.pipeline.session import CloseReason, Session

STEP_AUDIENCES = 1_000
"""Audiences entered or left per step (about 0.5 ms). A user may follow 50,000, and thousands of
users may come or go at once."""

CLOSED_AT_ONCE = 20
"""Sessions closed before others run; to close one in a thousand audiences takes 0.2 ms."""


class Sessions(Collection[Session]):
    """The connected sessions, in the order in which they connected.

    ``on_enter``, ``on_progress`` and ``on_leave`` are told of each session that began, sent
    something, ended; ``fail`` of an exception in the graph.
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
        self.stall_timeout = stall_timeout
        self._on_enter = on_enter
        self.on_progress = on_progress
        self._on_leave = on_leave
        self._fail = fail
        self.queued_memory = QueuedMemory()
        self.closed: Counter[CloseReason] = Counter()
        self.sent_bytes_of_closed = 0
        self.discarded_bytes = 0
        """sent by clients after their ids"""
        self._readable: deque[Session] = deque()
        self._reading = BackgroundWork(self._read_next)
        self._settling = BackgroundWork(self._settle)
        self._empty = Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._connected)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._connected)

    def __contains__(self, session: object) -> bool:
        return session in self._connected

    def count_of(self, user: int) -> int:
        """Return how many sessions the user has."""
        return self._graph.session_count(user)

    def close(self, timeout: float) -> None:
        """Let every session send what it has, for at most ``timeout`` seconds, and end it."""
        for session in list(self):
            session.close_when_sent()
        self._empty.wait(timeout)
        for count, session in enumerate(list(self), start=1):
            session.close(CloseReason.FINISHED if session.has_taken_all() else CloseReason.STOPPED)
            if not count % CLOSED_AT_ONCE:
                gevent.sleep(0)

    # For the sessions.

    def enter(self, session: Session) -> None:
        """A session has begun: from the next batch on it gets its payloads."""
        self._empty.clear()
        self._change_graph(self._graph.connect, session)
        self._on_enter(session)

    def leave(self, session: Session, reason: CloseReason) -> None:
        """A session has ended."""
        self._change_graph(self._graph.disconnect, session)
        self._on_leave(session)
        self.closed[reason] += 1
        self.sent_bytes_of_closed += session.sent_bytes
        if not self._connected:
            self._empty.set()

    def read_soon(self, session: Session) -> None:
        """Have the session read what its client sent; a turn of the event loop reads for a few."""
        self._readable.append(session)
        self._reading.begin()

    def _read_next(self) -> bool:
        self._readable.popleft().read()
        return bool(self._readable)

    # The graph, which all sessions share: a fault in it is one of the server's.

    def _change_graph(self, change: Callable[[Session], None], session: Session) -> None:
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
