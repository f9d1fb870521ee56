"""The router: takes batches from the reorder buffer, routes them, and flushes the sessions.

It applies back-pressure by one rule: **no batch is routed while a session exceeds its bound, or all
sessions together exceed theirs.** While ``slow_clients`` waits, events become ready up to the
reorder limit. At the limit the sources are paused, and TCP slows them down. A source is never
paused because of a gap: the missing event comes later in the same stream.

``registration_wait`` also delays batches, but not because of slow clients: an event must reach
every client whose id line arrived before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic, time
from typing import TYPE_CHECKING, cast

import gevent
from gevent.event import Event

from maze.core import (
    MISSED,
    REACHED,
    Fanout,
    FollowGraph,
    Position,
    Recent,
    Run,
    next_epoch,
)
from maze.listener.registration_wait import Registration
from maze.log.reject_log import RejectLog
from maze.net.time_slice import TimeSlice
from maze.pipeline.acknowledgements import Acknowledgements
from maze.pipeline.batch import BATCH_EVENTS, Batches, ReadyRuns
from maze.pipeline.implementation import Outbox, flush_all
from maze.pipeline.ordering import Ordering
from maze.pipeline.positions import Positions
from maze.pipeline.registry import Sessions
from maze.pipeline.resumes import Resumes
from maze.pipeline.session import Session
from maze.pipeline.slow_clients import SlowClients
from maze.pipeline.stats import Stats
from maze.settings.options import Settings

if TYPE_CHECKING:
    from maze.pipeline.journaling import Journaling

FLUSH_SESSIONS = 50
"""Sessions flushed before each check whether to yield. A send of 50 KB takes 0.1 ms."""


class Router:
    """The server's only router. Its greenlet runs ``run``."""

    def __init__(
        self,
        settings: Settings,
        rejects: RejectLog,
        registration: Registration,
        fail: Callable[..., None],
    ) -> None:
        """Create the parts. Raise JournalUnusableError."""
        self._settings = settings
        self._registration = registration
        self.fanout = Fanout(
            FollowGraph(settings.max_users, settings.max_follows, settings.max_follows_per_user)
        )
        self._epoch = next_epoch(0, int(1000 * time()))
        self._positions = Positions(settings.position_interval, lambda: self.position, self._flush)
        self.stats = Stats()
        self.recent = Recent(settings.resume_events, settings.resume_bytes)
        self.recent.begin(settings.first_sequence)
        self._ordering = Ordering(settings, rejects, self.stats, self._yield_if_due)
        self.reorder = self._ordering.reorder
        self.journaling = _open_journal(settings, self._on_commit, fail)
        self.ready: ReadyRuns = self.reorder
        """The runs to be routed: those in order or, with a journal, those committed."""
        if self.journaling:
            self.ready = self.journaling.committed
        self.acknowledgements = Acknowledgements(lambda: self._durable)
        self.batches = Batches(
            settings, self.ready, self.fanout, self._on_routed, rejects=rejects, stats=self.stats
        )
        self.sessions = Sessions(
            self.fanout.graph,
            settings.stall_timeout,
            on_enter=self._on_enter,
            on_progress=self._on_progress,
            on_leave=self._on_leave,
            fail=fail,
        )
        self.queued_memory = self.sessions.queued_memory
        self.resumes = Resumes(
            settings,
            self.recent,
            self.fanout.graph,
            self.queued_memory,
            present=lambda: self.position,
            connect=self._connect,
            flush=self._flush,
            pause=registration.wait_for_batch,
            journaling=self.journaling,
        )
        self.slow_clients = SlowClients(
            settings,
            self.sessions,
            self.stats,
            on_wait=self._pace_source,
            yield_if_due=self._yield_if_due,
        )
        self._time_slice = TimeSlice()
        self._work = Event()
        self._has_committed = Event()
        self._source_may_read = Event()
        self._source_may_read.set()
        self._idle = Event()
        self._idle.set()

    @property
    def position(self) -> Position:
        """The position after everything routed so far."""
        return Position(self._epoch, self.ready.next_sequence)

    @property
    def unrouted_events(self) -> int:
        """Number of events in order but not routed yet; some may wait for their commit."""
        committed = self.journaling and self.journaling.committed
        return self.reorder.ready + (committed.ready + committed.in_flight if committed else 0)

    @property
    def _durable(self) -> Position:
        return self.journaling.position if self.journaling else self.position

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

    def await_durable(self, timeout: float) -> None:
        """Wait until everything that is in order is durable, for at most ``timeout`` seconds."""
        deadline = monotonic() + timeout
        while self.reorder.ready or (self.journaling and self.journaling.committed.in_flight):
            self._has_committed.clear()
            if not self._has_committed.wait(deadline - monotonic()):
                return

    def end_stream(self, peer: str) -> None:
        """Route everything that was received, then clear the follow graph and begin a new epoch.

        Called when the last source has left. Does nothing if the stream is to be kept.
        """
        if self._settings.keeps_stream:
            return
        self._ordering.give_up_gaps(peer)
        self._signal_work()
        self._idle.wait()
        epoch = next_epoch(self._epoch, int(1000 * time()))
        if self.journaling:
            epoch = self.journaling.begin_epoch(self._settings.first_sequence).epoch
        detached = self.fanout.graph.clear()
        self.reorder.reset()
        self.recent.begin(self.reorder.next_sequence)
        self.stats.on_reset()
        self._epoch = epoch
        asking = self._positions.sessions()
        self.resumes.begin_epoch()  # first, and without a wait: its replays are of the old epoch
        self._positions.begin_epoch(asking)  # but not to those told by the line above
        gevent.get_hub().threadpool.apply(detached.free)  # this waits, so it comes last

    # Called by the sessions, through the registry.

    def _on_enter(self, session: Session) -> None:
        """Connect a new session at once, or once its client was sent what it has missed."""
        if session.position is not None:
            self.resumes.begin(session)
            return
        self.sessions.connect(session)
        if session.asks:
            self._positions.add(session)
            self._positions.queue([session], REACHED)

    def _connect(self, session: Session, has_missed: bool) -> None:
        """Connect the session of a client that has resumed; answer ``!`` if it ``has_missed``."""
        self.sessions.connect(session)
        self._positions.add(session)
        if has_missed:
            self._positions.queue([session], MISSED)

    def _on_leave(self, session: Session) -> None:
        """Remove a session that has ended."""
        self.stats.latency.remove(session)
        self._positions.remove(session)
        self.resumes.remove(session)
        self.slow_clients.remove(session)

    def _on_progress(self, session: Session) -> None:
        """Called when a session has sent something."""
        self.slow_clients.on_progress(session)
        self.resumes.on_progress(session)
        if self.stats.latency.catching_up:
            self.stats.latency.progressed(session)

    # Called by the server.

    def recover(self, report: Callable[[Position], None]) -> None:
        """Continue where the journal ends, if there is one; ``report`` is told the progress.

        Raise JournalUnusableError.
        """
        if self.journaling:
            position = self.journaling.recover(self.fanout.graph, self.recent, report)
            self._epoch = position.epoch
            self.reorder.reset(position.next)

    def drain(self, timeout: float) -> None:
        """Route everything that is ready, for at most ``timeout`` seconds."""
        self.slow_clients.drain(self._idle, timeout)

    def run(self) -> None:
        """Route batches whenever runs are ready; never return."""
        while True:
            self._work.wait()
            self._work.clear()
            while self._has_ready_runs():
                self.slow_clients.make_room()
                self._registration.wait()
                self._deliver()
                self._pace_source()
                if not self._yield_if_due():
                    gevent.sleep(0)  # lets the sources read and the writers send
            if not self.unrouted_events:
                self._idle.set()

    def _has_ready_runs(self) -> bool:
        """Return whether runs can be routed; pass those that are in order to the journal."""
        if (self.reorder.ready or self.reorder.advance()) and self.journaling:
            self.journaling.take(self.reorder)
        return self.ready.ready > 0

    def _on_routed(self, runs: list[Run], end: int) -> None:
        """Keep the runs of a batch for clients that resume."""
        self.recent.add(runs, end)
        if self.journaling:
            self.journaling.marks.add(runs, end)

    def _on_commit(self) -> None:
        """Route what is committed, and tell the sources."""
        self._has_committed.set()
        self.acknowledgements.on_commit()
        self._signal_work()

    def _deliver(self) -> None:
        """Route one batch and flush the sessions that get something.

        This is a method because ``run`` never returns: a local variable there would keep closed
        sessions alive.
        """
        sessions = self.batches.route()
        self._yield_if_due()
        self._flush(sessions, self.stats.latency.due(self.ready.next_sequence))

    def _yield_if_due(self) -> bool:
        """Yield to the event loop if the time slice is over; return whether it was."""
        if not self._time_slice.is_over():
            return False
        self._signal_work()
        self._time_slice.begin_next()
        return True

    def _signal_work(self) -> None:
        """Wake the router if runs are ready; pause the sources, or let them read."""
        if self.journaling and self.reorder.ready:
            self.journaling.take(self.reorder)
        if self.unrouted_events:
            self._idle.clear()
        if self.ready.ready:
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
        self.resumes.on_flush()


def _open_journal(
    settings: Settings, on_commit: Callable[[], None], fail: Callable[..., None]
) -> Journaling | None:
    """Open the journal, if the settings name one. Raise JournalUnusableError."""
    if settings.journal is None:
        return None
    from maze.pipeline.journaling import Journaling  # noqa: PLC0415, SQLite takes 1.4 MB

    return Journaling(settings, on_commit=on_commit, fail=fail)
