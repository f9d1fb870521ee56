"""The router: takes ready runs from the reorder buffer, routes them, and flushes the sessions.

It applies back-pressure by one rule: **no batch is routed while a session exceeds its bound, or all
sessions together exceed theirs.**

With ``slow-client=wait`` the router waits for the clients. Meanwhile events become ready up to the
reorder limit. At the limit the sources are paused, and TCP slows them down. If a few sessions hold
up the others for too long, they are disconnected (``holding``); ``slow_clients`` decides which.
With ``slow-client=disconnect`` the router does not wait, but disconnects sessions that exceed a
bound. A drain disconnects clients that take too little while the others wait.

A source is never paused because of a gap: the missing event comes later in the same stream.

``registration_wait`` also delays batches, but not because of slow clients: an event must reach
every client that connected before it.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter
from time import monotonic, time
from typing import cast

import gevent
import structlog
from gevent.event import Event

from maze.core import (
    Fanout,
    FollowGraph,
    Payload,
    Position,
    Recipient,
    Run,
    next_epoch,
)
from maze.listener.registration_wait import Registration
from maze.log.reject_log import RejectLog
from maze.net.time_slice import TimeSlice
from maze.pipeline.implementation import Outbox, flush_all, push_all
from maze.pipeline.ordering import Ordering, count_events
from maze.pipeline.positions import Positions
from maze.pipeline.registry import Sessions
from maze.pipeline.session import CloseReason, Session
from maze.pipeline.slow_clients import Holding, holders
from maze.pipeline.stats import Stats
from maze.settings.options import Settings

log = structlog.get_logger()

BATCH_EVENTS = 16_384
"""Maximum events per batch, and limit on the events read ahead while the router works. A larger
value adds latency and saves little."""

MIN_EVENTS = 64
"""Half the minimum number of events taken for a batch. After a batch that reached a bound in bytes,
twice as many events are taken as it held."""

BATCH_BYTES = 16 * 1024 * 1024
"""Maximum bytes stored for one batch. Copying more takes a tenth of a second."""

FLUSH_SESSIONS = 50
"""Sessions flushed before each check whether to yield. A send of 50 KB takes 0.1 ms."""

DRAIN_STEPS = 16
"""Parts into which a drain divides its timeout and a full buffer: a blocking client has to take one
part of the buffer in each part of the time."""

FROM_GRAPH = "-"
"""Source logged for a follow that exceeds a bound of the graph: runs do not record their source."""

GRACE_SECONDS = 0.001
"""Time that a client has to receive what was just sent before it counts as slow."""


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
        self._rejects = rejects
        self.fanout = Fanout(
            FollowGraph(settings.max_users, settings.max_follows, settings.max_follows_per_user)
        )
        self._epoch = next_epoch(0, int(1000 * time()))
        self._positions = Positions(settings.position_interval, lambda: self.position, self._flush)
        self.routed_events = 0
        self.stats = Stats()
        self._ordering = Ordering(settings, rejects, self.stats, self._yield_if_due)
        self.reorder = self._ordering.reorder
        self.traces = settings.log_level == "debug"
        self.sessions = Sessions(
            self.fanout.graph,
            settings.stall_timeout,
            on_enter=self._on_enter,
            on_progress=self._on_progress,
            on_leave=self._on_leave,
            fail=fail,
        )
        self.queued_memory = self.sessions.queued_memory
        self._full: dict[Session, None] = {}
        self._holding: Holding[Session] = Holding(settings.hold_timeout)
        self.waits_for_room = False
        self._batch_events = BATCH_EVENTS
        self.draining = False
        self._time_slice = TimeSlice()
        self._work = Event()
        self._room = Event()
        self._source_may_read = Event()
        self._source_may_read.set()
        self._idle = Event()
        self._idle.set()

    @property
    def position(self) -> Position:
        """The position of a session that has everything routed so far."""
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
        """Remove a session that has ended, and no longer wait for it."""
        self.stats.latency.remove(session)
        self._positions.remove(session)
        self._holding.remove(session)
        self._on_progress(session)  # it holds nothing any more

    def _on_progress(self, session: Session) -> None:
        """Called when a session has sent something or has ended: there may be room again."""
        if session in self._full and session.held_bytes <= self._settings.client_buffer:
            del self._full[session]
        if self.waits_for_room and not self._lacks_room():
            self._room.set()
        if self.stats.latency.catching_up:
            self.stats.latency.progressed(session)

    # Called by the server.

    def drain(self, timeout: float) -> None:
        """Route everything that is ready, for at most ``timeout`` seconds.

        For the first half of the timeout no client is disconnected. Then a client that blocks the
        others is disconnected if it is too slow to take a full buffer within the whole timeout, so
        that the others receive what is ready.
        """
        self.draining = True
        deadline = monotonic() + timeout
        if self._idle.wait(timeout / 2):
            return
        step_bytes = self._settings.client_buffer // DRAIN_STEPS
        while (remaining := deadline - monotonic()) > 0:
            goals = {
                session: session.taken_bytes() + step_bytes for session in self._blocking_sessions()
            }
            if self._idle.wait(min(remaining, timeout / DRAIN_STEPS)):
                return
            for session in self._blocking_sessions():
                if session.taken_bytes() < goals.get(session, 0):
                    self._drop(session)

    def _blocking_sessions(self) -> list[Session]:
        """Return the sessions for which the router, and so the other sessions, have to wait."""
        if self._over_total():
            return [session for session in self.sessions if session.queued_bytes]
        return list(self._full) if len(self._full) < len(self.sessions) else []

    def run(self) -> None:
        """Route batches whenever runs are ready; never return."""
        while True:
            self._work.wait()
            self._work.clear()
            while self.reorder.ready or self.reorder.advance():
                self._make_room()
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
        sessions = self._route_batch()
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
        if not self.waits_for_room:
            limit = min(limit, BATCH_EVENTS)
        if self.reorder.ready < limit and self.reorder.ready_bytes < self._settings.reorder_bytes:
            self._source_may_read.set()
        else:
            self._source_may_read.clear()

    def _over_total(self) -> bool:
        """Return whether all sessions together exceed their bound."""
        return self.queued_memory.bytes > self._settings.total_buffer

    def _lacks_room(self) -> bool:
        """Return whether any bound is exceeded."""
        return bool(self._full) or self._over_total()

    def _make_room(self) -> None:
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

    def _drop_fullest(self) -> None:
        """Disconnect the sessions that hold most, until the sum is within its bound."""
        fullest_first = sorted(self.sessions, key=attrgetter("held_bytes"), reverse=True)
        for session in fullest_first:
            if not self._over_total():
                return
            self._drop(session)

    def _drop(self, session: Session) -> None:
        """Disconnect a session that blocks the others; yield, as thousands take up to a second."""
        session.close(CloseReason.STOPPED if self.draining else CloseReason.SLOW)
        self._yield_if_due()

    def _wait_for_room(self, timeout: float) -> bool:
        """Wait for room, for at most ``timeout`` seconds; return whether there is any."""
        began = monotonic()
        self.waits_for_room = True
        self._room.clear()
        self._pace_source()
        has_room = self._room.wait(timeout)
        self.waits_for_room = False
        waited = monotonic() - began
        self.stats.waited_seconds += waited
        self._holding.waited(waited)
        return has_room

    def _disconnect_holders(self) -> None:
        """Count the time waited against the sessions that hold up the others.

        Log these sessions, and disconnect those that exceed the hold timeout.
        """
        excess = self.queued_memory.bytes - self._settings.total_buffer
        blocking = holders(self._full, self.sessions, excess, self._yield_if_due)
        now = monotonic()
        overdue = self._holding.count(blocking, now)
        if notice := self._holding.notice(now):
            log.warning("clients_holding", **notice)
        for session, seconds in overdue:
            if session in self._full or self._over_total():
                session.close(CloseReason.HOLDING, waited_seconds=round(seconds, 3))
                self._yield_if_due()

    def _route_batch(self) -> list[Session]:
        """Route one batch and queue its payloads; return the sessions that got one.

        Nothing here waits, so a batch reaches all sessions or none. It adds at most half of
        ``client-buffer`` to one session, and half of ``total-buffer`` to all of them together. A
        session that has taken the batch before is therefore never over its bound.
        """
        settings = self._settings
        began = monotonic()
        runs = self.reorder.take_ready(self._batch_events)
        payloads, rest = self.fanout.route(
            runs, settings.client_buffer // 2, min(settings.total_buffer // 2, BATCH_BYTES)
        )
        self.reorder.put_back(rest)
        self._rejects.record(self.fanout.refused, FROM_GRAPH)
        sessions = cast("list[Session]", push_all(payloads))
        events = count_events(runs) - count_events(rest)
        # Taking runs and putting them back is slow if each holds one event: take fewer next time.
        wanted_events = 2 * max(events, MIN_EVENTS) if rest else 2 * self._batch_events
        self._batch_events = min(wanted_events, BATCH_EVENTS)
        self.routed_events += events
        self.stats.routed(events, monotonic() - began)
        if self.traces:
            self._trace(runs[0].first, events, payloads)
        return sessions

    def _flush(self, sessions: Sequence[Outbox], ready_since: float = 0.0) -> None:
        """Flush the sessions, and yield between groups of them: 10,000 sessions take 0.1 s.

        ``ready_since`` is when the sampled event of the batch became ready; 0 if it has none.
        """
        for first in range(0, len(sessions), FLUSH_SESSIONS):
            if first:
                self._yield_if_due()
            group = list(sessions[first : first + FLUSH_SESSIONS])
            for session in cast("list[Session]", flush_all(group, self._settings.client_buffer)):
                self._full[session] = None
            if ready_since:
                self.stats.latency.flushed(group, ready_since)

    def _trace(self, first: int, events: int, payloads: list[tuple[Recipient, Payload]]) -> None:
        """Log, at level debug, the batch and each payload queued."""
        batch = self.stats.batches
        log.debug(
            "batch_routed",
            batch=batch,
            first=first,
            last=self.reorder.next_sequence - 1,
            routed_events=events,
            sessions=len(payloads),
        )
        for session, payload in cast("list[tuple[Session, Payload]]", payloads):
            log.debug(
                "payload_queued",
                batch=batch,
                user=session.user,
                client=session.peer,
                payload_bytes=payload.size,
                ends_at_byte=session.pushed_bytes,
            )
