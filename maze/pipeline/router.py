"""The router greenlet: takes what is ready, routes it, hands payloads to sessions.

Every back-pressure decision is made in this module and nowhere else. There is
one rule: **no batch is handed out while a session, or all sessions together,
hold more than they may.** With ``slow-client=wait`` the router waits; what is
ready piles up to the reorder limit, then the source is not read, then TCP tells
the source; if a few sessions hold up the others for too long, they are disconnected (``holding``).
With ``slow-client=disconnect`` the sessions that hold too much are disconnected and
nobody waits. A drain waits for those who take something. A source is never paused
for a gap: the missing event is behind in the same stream.
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
"""Events routed in one go, and read ahead for it; more adds latency and saves little."""

MIN_EVENTS = 64
"""of which a batch is cut, where less was routed than was taken"""

BATCH_BYTES = 16 * 1024 * 1024
"""stored for one batch at most: to copy more takes a tenth of a second"""

FLUSH_SESSIONS = 50
"""sessions that send before the time is looked at; a send of 50 KB takes 0.1 ms"""

DRAIN_STEPS = 16
"""in so many parts of a drain's timeout it is asked who took their part of a full buffer"""

FROM_GRAPH = "-"
"""logged as the source of a follow for which the graph has no room: runs do not know theirs"""

GRACE_SECONDS = 0.001
"""How long a client may take to fetch what was just sent, before it counts as slow."""


class Router:
    """Feeds sessions from the reorder buffer; one for the whole server."""

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
        """The position of a session that was given everything routed so far."""
        return Position(self._epoch, self.reorder.next_sequence)

    # For the source port.

    def submit(self, runs: Sequence[Run], peer: str) -> None:
        """Put runs in order, and wait until the source may read on.

        Raises ReorderBufferFullError if a gap did not fill and the policy is to fail.
        """
        try:
            self._ordering.add(runs, peer)
        finally:
            self._signal_work()
        if not self._source_may_read.is_set():
            self._source_may_read.wait()
        self._yield_if_due()

    def end_stream(self, peer: str) -> None:
        """The last source has left: route all it sent, then forget the stream.

        With ``on-source-disconnect=keep`` nothing of this happens.
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
        gevent.get_hub().threadpool.apply(detached.free)  # waits, so it comes last

    # For the sessions.

    def _on_enter(self, session: Session) -> None:
        if session.mark:
            self._positions.add(session, session.mark)

    def _on_leave(self, session: Session) -> None:
        """Nobody waits for the session any more."""
        self.stats.latency.remove(session)
        self._positions.remove(session)
        self._holding.remove(session)
        self._on_progress(session)  # it holds nothing any more

    def _on_progress(self, session: Session) -> None:
        """The session has sent something, or ended."""
        if session in self._full and session.held_bytes <= self._settings.client_buffer:
            del self._full[session]
        if self.waits_for_room and not self._lacks_room():
            self._room.set()
        if self.stats.latency.catching_up:
            self.stats.latency.progressed(session)

    # For the server.

    def drain(self, timeout: float) -> None:
        """Hand out everything ready, within the timeout in seconds.

        Clients that hold others up are waited for half of it, whatever they do; then those
        who would not take a full buffer within all of it are disconnected, so that what is
        in order reaches the others.
        """
        self.draining = True
        deadline = monotonic() + timeout
        if self._idle.wait(timeout / 2):
            return
        enough = self._settings.client_buffer // DRAIN_STEPS
        while (left := deadline - monotonic()) > 0:
            goals = {
                session: session.taken_bytes() + enough for session in self._blocking_sessions()
            }
            if self._idle.wait(min(left, timeout / DRAIN_STEPS)):
                return
            for session in self._blocking_sessions():
                if session.taken_bytes() < goals.get(session, 0):
                    self._drop(session)

    def _blocking_sessions(self) -> list[Session]:
        """The sessions that the router waits for, and others with it."""
        if self._over_total():
            return [session for session in self.sessions if session.queued_bytes]
        return list(self._full) if len(self._full) < len(self.sessions) else []

    def run(self) -> None:
        """The router greenlet; it never returns."""
        while True:
            self._work.wait()
            self._work.clear()
            while self.reorder.ready or self.reorder.advance():
                self._make_room()
                self._registration.wait()
                self._deliver()  # whose frame ends with it: this one would keep sessions alive
                self._pace_source()
                if not self._yield_if_due():
                    gevent.sleep(0)  # let the sources read, and the writers send
            self._idle.set()

    def _deliver(self) -> None:
        """Route one batch, and send it."""
        sessions = self._route_batch()
        self._yield_if_due()
        self._flush(sessions, self.stats.latency.due(self.reorder.next_sequence))

    def _yield_if_due(self) -> bool:
        """Have sockets and signals looked at, if they were not for a turn; whether they were."""
        if not self._time_slice.is_over():
            return False
        self._signal_work()
        self._time_slice.begin_next()
        return True

    def _signal_work(self) -> None:
        """Something may be ready."""
        if self.reorder.ready:
            self._idle.clear()
            self._work.set()
        self._pace_source()

    def _pace_source(self) -> None:
        """Let the source read, or pause it: up to a batch is read ahead while the router works.

        While the router waits for room it is as much as the reorder buffer takes.
        """
        limit = self._settings.reorder_limit
        fits = self.reorder.ready < (limit if self.waits_for_room else min(limit, BATCH_EVENTS))
        if fits and self.reorder.ready_bytes < self._settings.reorder_bytes:
            self._source_may_read.set()
        else:
            self._source_may_read.clear()

    def _over_total(self) -> bool:
        return self.queued_memory.bytes > self._settings.total_buffer

    def _lacks_room(self) -> bool:
        return bool(self._full) or self._over_total()

    def _make_room(self) -> None:
        if self._settings.slow_client == "wait":
            while self._lacks_room():
                if not self._wait_for_room(self._holding.pause) and not self.draining:
                    self._look()
            return
        if not self._lacks_room():
            return
        self._wait_for_room(GRACE_SECONDS)
        for session in list(self._full):
            if session in self._full:
                self._drop(session)
        if self._over_total():
            self._close_fullest()

    def _close_fullest(self) -> None:
        """Disconnect those for whom most waits, until the sum is within its bound."""
        fullest_first = sorted(self.sessions, key=attrgetter("held_bytes"), reverse=True)
        for session in fullest_first:
            if not self._over_total():
                return
            self._drop(session)

    def _drop(self, session: Session) -> None:
        """Disconnect a session that others wait for; of thousands it may take a second."""
        session.close(CloseReason.STOPPED if self.draining else CloseReason.SLOW)
        self._yield_if_due()

    def _wait_for_room(self, timeout: float) -> bool:
        """Wait for room; return whether there is some within the timeout, in seconds."""
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

    def _look(self) -> None:
        """Count the time waited against the sessions that caused it; log and disconnect them."""
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
        """Route one batch; returns who got something.

        Nothing here waits, so a batch reaches all sessions or none. It adds to
        one session, and to all, at most half of what may wait for them: who has
        taken the batch before is never over the bound.
        """
        settings = self._settings
        started = monotonic()
        runs = self.reorder.take_ready(self._batch_events)
        payloads, rest = self.fanout.route(
            runs, settings.client_buffer // 2, min(settings.total_buffer // 2, BATCH_BYTES)
        )
        self.reorder.put_back(rest)
        self._rejects.record(self.fanout.refused, FROM_GRAPH)
        sessions = cast("list[Session]", push_all(payloads))
        events = count_events(runs) - count_events(rest)
        # What is put back was taken in vain, which counts where each event is a run.
        wanted = 2 * max(events, MIN_EVENTS) if rest else 2 * self._batch_events
        self._batch_events = min(wanted, BATCH_EVENTS)
        self.routed_events += events
        self.stats.routed(events, monotonic() - started)
        if self.traces:
            self._trace(runs[0].first, events, payloads)
        return sessions

    def _flush(self, sessions: Sequence[Outbox], ready_since: float = 0.0) -> None:
        """Have every session send what its client takes at once, in pieces: 10,000 take 0.1 s.

        A batch with a sampled event has been ready since a time; else that is 0.
        """
        for first in range(0, len(sessions), FLUSH_SESSIONS):
            if first:
                self._yield_if_due()
            piece = list(sessions[first : first + FLUSH_SESSIONS])
            for session in cast("list[Session]", flush_all(piece, self._settings.client_buffer)):
                self._full[session] = None
            if ready_since:
                self.stats.latency.flushed(piece, ready_since)

    def _trace(self, first: int, events: int, payloads: list[tuple[Recipient, Payload]]) -> None:
        """At debug: a line for the batch, and one for each session that gets something of it."""
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
