"""An edge follows its ingest: reads the journal over the feed, and hands the runs to the router.

An edge asks for more while it has room. When its clients are slow, it asks for less, and what it
does not ask for stays in the journal.

If the ingest cannot be reached, the edge tries again until it can; its clients stay connected. If
what the edge needs is no longer kept, it begins again with the newest snapshot: clients that asked
for positions are told that they have missed something, and the others are disconnected.
"""

from collections.abc import Callable
from time import monotonic

import gevent
import structlog
from gevent import socket
from gevent.event import Event

from maze.core import Decoder, Position, Run
from maze.errors import JournalUnusableError
from maze.feed.arrived import Arrived
from maze.feed.reader import FeedReader
from maze.feed.redis_follower import RedisFollower
from maze.journal.journal import (
    Batch,
    JournalError,
    TrimmedError,
    UnavailableError,
    follows,
)
from maze.journal.marks import Marks, UncarriedMarks
from maze.journal.state import LINE_LIMIT, merged
from maze.pipeline.journal_blocks import JournalBlocks
from maze.pipeline.ready_queue import count_numbers
from maze.pipeline.recovery import Recovery, free_in_thread
from maze.pipeline.router import Router
from maze.settings.options import Settings

log = structlog.get_logger()

READ_BYTES = 1024 * 1024
"""Bytes of batches asked for at a time; an event has about 16."""

WAIT_SECONDS = 1.0
"""Longest that the ingest waits for a batch before it answers that there is none."""

ANSWER_SECONDS = 5.0
"""Time after which an ingest that does not answer counts as gone."""

MIN_RETRY_SECONDS = 0.05
MAX_RETRY_SECONDS = 1.0
"""Delays before an edge connects again: the first, and the longest; each is twice the one before.
"""


class Following:
    """The journal that an edge follows, and the runs that have arrived (a router's ``Upstream``).

    ``open_reader`` makes a reader that uses the sockets of a module. ``fail`` stops the server.
    """

    def __init__(
        self,
        settings: Settings,
        router: Router,
        open_reader: Callable[..., FeedReader | RedisFollower],
        fail: Callable[..., None],
    ) -> None:
        self._router = router
        self._fail = fail
        self.ready = Arrived(
            Position(0, settings.first_sequence), max_bytes=settings.reorder_bytes // 2
        )
        """The runs to be routed."""
        self._open_reader = open_reader
        self._reader = open_reader()
        """For recovery and for resumes, which read in native threads."""
        self._follower = open_reader(sockets=socket)
        self._marks = UncarriedMarks()
        self._has_room = Event()
        self._has_room.set()
        self._greenlet = gevent.Greenlet(self._run)
        self._retry_seconds = MIN_RETRY_SECONDS
        self.ended = Event()
        """Set while everything has arrived that the ingest had when it stopped."""
        self._expects_end = False
        self._lost: str | None = None
        """Why the ingest cannot be reached; None if it can."""
        self._behind: str | None = None
        """Why the graph is rebuilt; None if it is not."""
        self._address = settings.feed
        self._resume_bytes = settings.resume_bytes
        self._asked_at = self._answer_asked_at = 0.0
        """When the present request was sent, and the last one that was answered."""
        self._answered_at: float | None = None
        """When the last answer came."""
        self.losses = 0
        """Number of times that the ingest could no longer be reached."""
        self.snapshots_loaded = 0
        router.resumes.may_reach = self._may_reach
        router.take_from(self)

    @property
    def epoch(self) -> int:
        """Epoch of the runs that are ready."""
        return self.ready.epoch

    @property
    def unrouted_events(self) -> int:
        """Number of events that have arrived and are to be routed; more if the end has not come."""
        return self.ready.events + self._awaits_end

    @property
    def _awaits_end(self) -> bool:
        return self._expects_end and not self.ended.is_set()

    @property
    def position(self) -> Position | None:
        """Position of the ingest's journal, as it said last; None if it has said nothing yet."""
        state = self._follower.state
        return state.position if state else None

    @property
    def lag_events(self) -> int | None:
        """Sequence numbers of the ingest's journal that are not routed yet; None if unknown.

        If the ingest has begun another epoch, these are the numbers of that epoch.
        """
        position, routed = self.position, self.ready.position
        if position is None:
            return None
        if position.epoch != routed.epoch:
            return position.next
        return max(0, position.next - routed.next)  # Redis may have lost what was routed

    @property
    def is_connected(self) -> bool:
        """Whether the ingest has answered on this connection, and nothing is wrong."""
        return self._answered_at is not None and self.trouble is None

    @property
    def answer_seconds(self) -> float | None:
        """Seconds since the last answer; None before the first."""
        return None if self._answered_at is None else monotonic() - self._answered_at

    @property
    def trouble(self) -> str | None:
        """Why nothing can arrive at present; None if it can."""
        return self._lost or self._behind

    # Called by the server.

    def recover(self, report: Callable[[Position], None]) -> None:
        """Rebuild the follow graph and the recent events; wait until the ingest can be reached.

        Raise JournalUnusableError if it refuses this edge, or its journal cannot be used.
        """
        try:
            self._recover(report)
        except JournalError as error:
            feed = f"the feed {self._address}: " if self._address else ""
            raise JournalUnusableError(f"{feed}{error}") from None

    def _recover(self, report: Callable[[Position], None]) -> None:
        """Rebuild the follow graph, which is empty, and the recent events. Raise JournalError."""
        router = self._router
        while True:
            recovery = Recovery(self._reader, router.fanout.graph, router.recent, report)
            began = monotonic()
            try:
                recovery.run()
                break
            except (UnavailableError, TrimmedError) as error:
                if isinstance(error, UnavailableError):  # else there is a newer snapshot
                    self._set_lost(str(error))
                free_in_thread(router.fanout.graph.clear())
                self._wait_to_retry()
        position = recovery.state.position
        self.snapshots_loaded += recovery.snapshot is not None
        self.ready.begin(position)
        self._set_lost(None)
        self._marks = recovery.uncarried
        router.resumes.blocks = JournalBlocks(
            self._reader, self._marks.all, router.recent, self._resume_bytes
        )
        graph = router.fanout.graph
        log.info(
            "journal_replayed",
            position=str(position),
            events=recovery.events,
            users=graph.users,
            follows=graph.follows,
            seconds=round(monotonic() - began, 3),
        )

    def start(self) -> None:
        """Begin to follow, where the recovery has ended."""
        self._greenlet.start()

    def expect_end(self) -> None:
        """Let the router be idle only once everything has arrived that the ingest has."""
        self._expects_end = True
        self._router.wake()

    def close(self) -> None:
        """Stop following."""
        self._greenlet.kill(block=False)
        self._follower.close()
        self._reader.close()

    # Called by the router.

    @property
    def has_work(self) -> bool:
        """Whether the router has something to do."""
        ready = self.ready
        return ready.ready > 0 or ready.change is not None or ready.can_skip or self.ended.is_set()

    def gather(self) -> None:
        """Do nothing: what has arrived is ready."""

    def advance(self) -> bool:
        """Make changes that are due; return whether runs can be routed."""
        while not self.ready.ready:
            if self.ready.can_skip:
                self._skip()
            elif change := self.ready.change:
                self._make(change)
            else:
                return False
        return True

    def _skip(self) -> None:
        """Pass over numbers without events."""
        self.ready.skip()
        self._router.recent.add([], self.ready.next_sequence)
        self.on_routed([], self.ready.next_sequence)

    def _make(self, change: Batch) -> None:
        """Make a change; everything before it was routed."""
        begins_epoch = change.epoch != self.ready.epoch
        self.ready.make_change()
        if change.bounds:
            self._router.fanout.graph.set_bounds(*change.bounds)
        if begins_epoch:
            self._marks.begin(change.first)
            self._router.begin_epoch()

    def pace(self, router_waits: bool) -> None:
        """Ask for more while there is room."""
        if self.ready.is_full:
            self._has_room.clear()
        else:
            self._has_room.set()

    def on_routed(self, runs: list[Run], end: int) -> None:
        """Note the marks of runs that were routed, for clients that resume."""
        self._marks.note(runs, end)
        self._router.resumes.on_advance()

    def _run(self) -> None:
        while True:
            try:
                if self._behind:
                    self._rebuild()
                self._follow()
                return
            except TrimmedError as error:
                self._behind = str(error)
            except UnavailableError as error:
                if self._expects_end:  # the ingest stops as well, and has said all it had to say
                    self._end()
                    return
                self._set_lost(str(error))
                self._wait_to_retry()
            except JournalError as error:
                self._fail("feed_failed", error=str(error), position=str(self.ready.end))
                return
            except Exception:
                self._fail("feed_failed", position=str(self.ready.end))
                return

    def _rebuild(self) -> None:
        """Begin again with the newest snapshot. Raise JournalError."""
        router = self._router
        sessions = len(router.sessions)
        log.error(
            "feed_behind", error=self._behind, position=str(router.position), sessions=sessions
        )
        self.ready.begin(router.position)  # what has arrived is dropped: it is old as well
        router.begin_rebuild()
        self._reader.close()  # a resume may still wait for an answer
        self._reader = self._open_reader()
        self._recover(_report_progress)
        told = router.end_rebuild()
        self._behind = None
        log.warning("feed_rebuilt", position=str(self.ready.end), sessions_told=told)

    def _follow(self) -> None:
        """Read until nothing follows, or the ingest cannot be reached. Raise JournalError."""
        self._ask(self.ready.end)
        self._set_lost(None)
        self.ended.clear()
        while True:
            is_last = self._expects_end and not self._follower.tells_end
            batches = self._follower.receive()
            self._answered_at = monotonic()
            if self._follower.tells_position:
                self._answer_asked_at = self._asked_at
            state = self._follower.state
            if is_last and not batches:  # asked after the ingest had ended
                self._end()
                return
            end = batches[-1].position if batches else self.ready.end
            if state and state.has_ended and state.position == end:
                self._arrive(batches)
                self._router.resumes.on_advance()
                self._end()
                self._router.wait_until_idle()  # nothing is left but to say what was routed
                self._ask(end)
                continue
            self.ended.clear()
            self._ask(end)  # so that the answer is under way while these are decoded
            self._arrive(batches)
            self._router.resumes.on_advance()
            self._has_room.wait()

    def _may_reach(self, position: Position, since: float) -> bool:
        """Return whether the ingest has a position, or was not asked since a time."""
        known = self.position
        return known is None or position <= known or self._answer_asked_at < since

    def _end(self) -> None:
        self.ended.set()
        self._router.wake()

    def _ask(self, after: Position) -> None:
        routed = self._router.position
        self._asked_at = monotonic()
        self._follower.request(after, READ_BYTES, wait=WAIT_SECONDS, routed=routed)

    def _arrive(self, batches: list[Batch]) -> None:
        """Decode batches and hand them to the router."""
        if batches and not follows(batches[0], self.ready.end):
            batch_end = batches[0].position
            raise JournalError(f"the batch {batch_end} does not follow {self.ready.end}")
        for batch in merged(batches):
            decoder = Decoder(LINE_LIMIT)
            runs, rejects = decoder.feed(batch.body)
            if rejects or decoder.finish():
                raise JournalError(f"the batch {batch.position} has a line that is no event")
            self.ready.add(batch, runs)
            carried = Marks.decode(batch.unchanged)
            if carried and batch.epoch == self.ready.epoch:
                self._marks.cover(carried.end)
            if runs:
                self._router.stats.received_events += count_numbers(runs)
                self._router.stats.latency.ready(runs[-1].end - 1, monotonic())
            self._router.wake()
            self._router.yield_if_due()

    def _wait_to_retry(self) -> None:
        gevent.sleep(self._retry_seconds)
        self._retry_seconds = min(2 * self._retry_seconds, MAX_RETRY_SECONDS)

    def _set_lost(self, reason: str | None) -> None:
        """Log that the feed is lost or back, once."""
        if reason and not self._lost:
            self.losses += 1
            log.critical("feed_unavailable", error=reason, delivers="nothing until it is back")
        elif self._lost and not reason:
            log.warning("feed_available", position=str(self.ready.end))
        if not reason:
            self._retry_seconds = MIN_RETRY_SECONDS
        self._lost = reason


def _report_progress(position: Position) -> None:
    log.info("journal_replaying", position=str(position))
