"""The router: takes batches from the reorder buffer, routes them, and flushes the sessions.

It applies back-pressure by one rule: **no batch is routed while a session exceeds its bound, or all
sessions together exceed theirs.** While ``slow_clients`` waits, events become ready up to the
reorder limit. At the limit the sources are paused, and TCP slows them down. A source is never
paused because of a gap: the missing event comes later in the same stream.

``registration_wait`` also delays batches, but not because of slow clients: an event must reach
every client whose id line arrived before it.
"""

from collections.abc import Callable, Sequence
from time import time
from typing import cast

import gevent
from gevent.event import Event

from maze.core import Fanout, FollowGraph, Position, Run, next_epoch
from maze.listener.registration_wait import Registration
from maze.log.reject_log import RejectLog
from maze.net.time_slice import TimeSlice
from maze.pipeline.batch import BATCH_EVENTS, Batches
from maze.pipeline.implementation import Outbox, flush_all
from maze.pipeline.ordering import Ordering
from maze.pipeline.positions import Positions
from maze.pipeline.registry import Sessions
from maze.pipeline.session import Session
from maze.pipeline.slow_clients import SlowClients
from maze.pipeline.stats import Stats
from maze.settings.options import Settings

FLUSH_SESSIONS = 50
"""Sessions flushed before each check whether to yield. A send of 50 KB takes 0.1 ms."""


class Router:
    """The server's only router. Its greenlet runs ``run``."""

    def __init__(
        self,
        settings: Settings,
        rejects: RejectLog,
        registration: Registration,
        fail: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._registration = registration
        self.fanout = Fanout(
            FollowGraph(settings.max_users, settings.max_follows, settings.max_follows_per_user)
        )
        self._epoch = next_epoch(0, int(1000 * time()))
        self._positions = Positions(settings.position_interval, lambda: self.position, self._flush)
        self.stats = Stats()
        self._ordering = Ordering(settings, rejects, self.stats, self._yield_if_due)
        self.reorder = self._ordering.reorder
        self.batches = Batches(settings, self.reorder, self.fanout, rejects, self.stats)
        self.sessions = Sessions(
            self.fanout.graph,
            settings.stall_timeout,
            on_enter=self._on_enter,
            on_progress=self._on_progress,
            on_leave=self._on_leave,
            fail=fail,
        )
        self.queued_memory = self.sessions.queued_memory
        self.slow_clients = SlowClients(
            settings,
            self.sessions,
            self.stats,
            on_wait=self._pace_source,
            yield_if_due=self._yield_if_due,
        )
        self._time_slice = TimeSlice()
        self._work = Event()
        self._source_may_read = Event()
        self._source_may_read.set()
        self._idle = Event()
        self._idle.set()

    @property
    def position(self) -> Position:
        """The position after everything routed so far."""
        return Position(self._epoch, self.reorder.next_sequence)

    # Called by the source port.

    def submit(self, runs: Sequence[Run], peer: str) -> None:
        """Add runs to the reorder buffer, then wait until the source may read more.

        Raise ReorderBufferFullError if a gap did not fill and the policy is to fail.
        """
        try:
            self._ordering.add(runs, peer)
        finally:
            self._signal_work()
        if not self._source_may_read.is_set():
            self._source_may_read.wait()
        self._yield_if_due()

    def end_stream(self, peer: str) -> None:
        """Route everything that was received, then clear the follow graph and begin a new epoch.

        Called when the last source has left. With ``on-source-disconnect=keep`` it does nothing.
        """
        if self._settings.on_source_disconnect == "keep":
            return
        self._ordering.give_up_gaps(peer)
        self._signal_work()
        self._idle.wait()
        detached = self.fanout.graph.clear()
        self.reorder.reset()
        self.stats.on_reset()
        self._epoch = next_epoch(self._epoch, int(1000 * time()))
        self._positions.begin_epoch()
        gevent.get_hub().threadpool.apply(detached.free)  # this waits, so it comes last

    # Called by the sessions, through the registry.

    def _on_enter(self, session: Session) -> None:
        """Queue a new session's first position line, if its client asked for positions."""
        if session.mark:
            self._positions.add(session, session.mark)

    def _on_leave(self, session: Session) -> None:
        """Remove a session that has ended."""
        self.stats.latency.remove(session)
        self._positions.remove(session)
        self.slow_clients.remove(session)

    def _on_progress(self, session: Session) -> None:
        """Called when a session has sent something."""
        self.slow_clients.on_progress(session)
        if self.stats.latency.catching_up:
            self.stats.latency.progressed(session)

    # Called by the server.

    def drain(self, timeout: float) -> None:
        """Route everything that is ready, for at most ``timeout`` seconds."""
        self.slow_clients.drain(self._idle, timeout)

    def run(self) -> None:
        """Route batches whenever runs are ready; never return."""
        while True:
            self._work.wait()
            self._work.clear()
            while self.reorder.ready or self.reorder.advance():
                self.slow_clients.make_room()
                self._registration.wait()
                self._deliver()
                self._pace_source()
                if not self._yield_if_due():
                    gevent.sleep(0)  # lets the sources read and the writers send
            self._idle.set()

    def _deliver(self) -> None:
        """Route one batch and flush the sessions that get something.

        This is a method because ``run`` never returns: a local variable there would keep closed
        sessions alive.
        """
        sessions = self.batches.route()
        self._yield_if_due()
        self._flush(sessions, self.stats.latency.due(self.reorder.next_sequence))

    def _yield_if_due(self) -> bool:
        """Yield to the event loop if the time slice is over; return whether it was."""
        if not self._time_slice.is_over():
            return False
        self._signal_work()
        self._time_slice.begin_next()
        return True

    def _signal_work(self) -> None:
        """Wake the router if runs are ready; pause the sources, or let them read."""
        if self.reorder.ready:
            self._idle.clear()
            self._work.set()
        self._pace_source()

    def _pace_source(self) -> None:
        """Pause the sources if enough events are ready, else let them read.

        While the router works, one batch is enough. While it waits for room, events become ready up
        to the reorder limit.
        """
        limit = self._settings.reorder_limit
        if not self.slow_clients.router_waits:
            limit = min(limit, BATCH_EVENTS)
        if self.reorder.ready < limit and self.reorder.ready_bytes < self._settings.reorder_bytes:
            self._source_may_read.set()
        else:
            self._source_may_read.clear()

    def _flush(self, sessions: Sequence[Outbox], ready_since: float = 0.0) -> None:
        """Flush the sessions, and yield between groups of them: 10,000 sessions take 0.1 s.

        ``ready_since`` is when the sampled event of the batch became ready; 0 if it has none.
        """
        for first in range(0, len(sessions), FLUSH_SESSIONS):
            if first:
                self._yield_if_due()
            group = list(sessions[first : first + FLUSH_SESSIONS])
            if full := flush_all(group, self._settings.client_buffer):
                self.slow_clients.add(cast("list[Session]", full))
            if ready_since:
                self.stats.latency.flushed(group, ready_since)
