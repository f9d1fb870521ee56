"""The router: takes batches of runs that are in order, routes them, and flushes the sessions.

It applies back-pressure by one rule: **no batch is routed while a session exceeds its bound, or all
sessions together exceed theirs.** ``slow_clients`` waits then, and the upstream is held up.

``registration_wait`` also delays batches, but not because of slow clients: an event must reach
every client whose id line arrived before it.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, cast

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
)
from maze.listener.registration_wait import Registration
from maze.log.reject_log import RejectLog
from maze.net.time_slice import TimeSlice
from maze.pipeline.batch import Batches, ReadyRuns
from maze.pipeline.implementation import Outbox, flush_all
from maze.pipeline.positions import Positions
from maze.pipeline.registry import CLOSED_AT_ONCE, Sessions
from maze.pipeline.resumes import Resumes
from maze.pipeline.session import CloseReason, Session
from maze.pipeline.slow_clients import SlowClients
from maze.pipeline.stats import Stats
from maze.settings.options import Settings

FLUSH_SESSIONS = 50
"""Sessions flushed before each check whether to yield. A send of 50 KB takes 0.1 ms."""


class Upstream(Protocol):
    """What the router takes its runs from."""

    @property
    def epoch(self) -> int:
        """Epoch of the runs that are ready."""

    @property
    def ready(self) -> ReadyRuns:
        """The runs that can be routed."""

    @property
    def unrouted_events(self) -> int:
        """Number of events that are to be routed; some may not be ready yet."""

    @property
    def has_work(self) -> bool:
        """Whether the router has something to do."""

    def gather(self) -> None:
        """Do what runs that are at hand need to become ready."""

    def advance(self) -> bool:
        """Make more runs ready; return whether any are."""

    def pace(self, router_waits: bool) -> None:
        """Let more runs come if few are ready, else hold them up.

        ``router_waits`` tells whether the router waits for slow clients.
        """

    def on_routed(self, runs: list[Run], end: int) -> None:
        """Called with the runs of each batch and the number after its last event."""


class Router:
    """The server's only router. Its greenlet runs ``run``."""

    def __init__(
        self,
        settings: Settings,
        rejects: RejectLog,
        registration: Registration,
        fail: Callable[..., None],
    ) -> None:
        """Create the parts. ``take_from`` comes next."""
        self._settings = settings
        self._registration = registration
        self.fanout = Fanout(
            FollowGraph(settings.max_users, settings.max_follows, settings.max_follows_per_user),
            keeps_undelivered=settings.rejects_undelivered,
        )
        self._positions = Positions(settings.position_interval, lambda: self.position, self._flush)
        self.stats = Stats()
        self.recent = Recent(settings.resume_events, settings.resume_bytes)
        self.batches = Batches(
            settings, self.fanout, self._on_routed, rejects=rejects, stats=self.stats
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
        )
        self.slow_clients = SlowClients(
            settings,
            self.sessions,
            self.stats,
            on_wait=self._pace,
            yield_if_due=self.yield_if_due,
        )
        self._is_rebuilding = False
        self._waiting: dict[Session, bool] = {}
        """Sessions that wait for the end of a rebuild, and whether each has missed something."""
        self._time_slice = TimeSlice()
        self._work = Event()
        self._idle = Event()
        self._idle.set()

    @property
    def position(self) -> Position:
        """The position after everything routed so far."""
        return Position(self._upstream.epoch, self._upstream.ready.next_sequence)

    @property
    def unrouted_events(self) -> int:
        """Number of events that are to be routed."""
        return self._upstream.unrouted_events

    # Called by what the runs come from.

    def take_from(self, upstream: Upstream) -> None:
        """Take runs from there; called once, before anything is routed."""
        self._upstream = upstream
        self.recent.begin(upstream.ready.next_sequence)

    def wake(self) -> None:
        """Route what is ready; let the upstream go on, or hold it up."""
        self._upstream.gather()
        if self._upstream.unrouted_events:
            self._idle.clear()
        if self._upstream.has_work:
            self._work.set()
        self._pace()

    def yield_if_due(self) -> bool:
        """Yield to the event loop if the time slice is over; return whether it was."""
        if not self._time_slice.is_over():
            return False
        self.wake()
        self._time_slice.begin_next()
        return True

    def wait_until_idle(self) -> None:
        """Wait until everything that the upstream has is routed."""
        self._idle.wait()

    def begin_epoch(self) -> None:
        """Clear the follow graph: the upstream has begun a new epoch, and all before was routed."""
        detached = self.fanout.graph.clear()
        self.recent.begin(self._upstream.ready.next_sequence)
        self.stats.on_reset()
        asking = self._positions.sessions()
        self.resumes.begin_epoch()  # first, and without a wait: its replays are of the old epoch
        self._positions.begin_epoch(asking)  # but not to those told by the line above
        gevent.get_hub().threadpool.apply(detached.free)  # this waits, so it comes last

    def begin_rebuild(self) -> None:
        """Empty the follow graph, which the upstream rebuilds because it has missed something.

        The upstream has no runs meanwhile. Plain sessions are closed, because they cannot be told;
        the others wait, unconnected. Sessions that begin meanwhile are treated the same, because
        they would miss the events that the upstream reads for the new graph.
        """
        self._is_rebuilding = True
        detached = self.fanout.graph.clear()
        self.stats.latency.forget()
        for session in self.resumes.withdraw():
            self._waiting[session] = False
        for count, session in enumerate(list(self.sessions), start=1):
            if session in self.sessions:  # it has not ended meanwhile
                self._suspend(session)
            if not count % CLOSED_AT_ONCE:
                self.yield_if_due()
        gevent.get_hub().threadpool.apply(detached.free)

    def _suspend(self, session: Session, *, has_missed: bool = True) -> None:
        """Close a session, or have it wait for the end of a rebuild."""
        if session in self._waiting:
            return
        if not session.asks:
            session.close(CloseReason.BEHIND)
            return
        if session in self.fanout.graph.recipients:
            self.sessions.disconnect(session)
            self._positions.remove(session)
        self._waiting[session] = has_missed

    def end_rebuild(self) -> int:
        """Connect the sessions that wait; return how many were told that they have missed events.

        The graph is that of the present position; from there on, they get everything.
        """
        self._registration.wait()  # clients whose ids have arrived may have missed something
        self._is_rebuilding = False
        told = 0
        while self._waiting:
            session = next(iter(self._waiting))
            if self._waiting.pop(session):
                told += 1
                self._connect(session, True)
            else:
                self._on_enter(session)
            self._flush([session])
            self.yield_if_due()
        return told

    # Called by the sessions, through the registry.

    def _on_enter(self, session: Session) -> None:
        """Connect a new session at once, or once its client was sent what it has missed."""
        if self._is_rebuilding:
            self._suspend(session, has_missed=False)
            return
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
        self._waiting.pop(session, None)
        self.slow_clients.remove(session)

    def _on_progress(self, session: Session) -> None:
        """Called when a session has sent something."""
        self.slow_clients.on_progress(session)
        self.resumes.on_progress(session)
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
            while self._upstream.advance():
                self.slow_clients.make_room()
                self._registration.wait()
                if self._upstream.ready.ready:  # unless a rebuild has dropped it meanwhile
                    self._deliver()
                self._pace()
                if not self.yield_if_due():
                    gevent.sleep(0)  # lets the sources read and the writers send
            if not self._upstream.unrouted_events:
                self._idle.set()

    def _on_routed(self, runs: list[Run], end: int) -> None:
        """Keep the runs of a batch for clients that resume."""
        self.recent.add(runs, end)
        self._upstream.on_routed(runs, end)

    def _deliver(self) -> None:
        """Route one batch and flush the sessions that get something.

        This is a method because ``run`` never returns: a local variable there would keep closed
        sessions alive.
        """
        sessions = self.batches.route(self._upstream.ready)
        self.yield_if_due()
        self._flush(sessions, self.stats.latency.due(self._upstream.ready.next_sequence))

    def _pace(self) -> None:
        self._upstream.pace(self.slow_clients.router_waits)

    def _flush(self, sessions: Sequence[Outbox], ready_since: float = 0.0) -> None:
        """Flush the sessions, and yield between groups of them: 10,000 sessions take 0.1 s.

        ``ready_since`` is when the sampled event of the batch became ready; 0 if it has none.
        """
        for first in range(0, len(sessions), FLUSH_SESSIONS):
            if first:
                self.yield_if_due()
            group = list(sessions[first : first + FLUSH_SESSIONS])
            if full := flush_all(group, self._settings.client_buffer):
                self.slow_clients.add(cast("list[Session]", full))
            if ready_since:
                self.stats.latency.flushed(group, ready_since)
        self.resumes.on_flush()
