"""Journaling: writes the events that are in order, and passes the committed ones to the router.

So every event is durable before it is delivered: no crash can contradict a client. While a commit
is under way, further events wait and become one batch; the next commit takes all batches.

A disk that is full, slow or faulty holds up the router, and through it the sources. Nothing is
lost, and everything goes on once the disk works again. If the file was removed or replaced, nothing
is written any more, and the server is not ready until it is restarted.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from time import monotonic, time

import gevent
import structlog
from gevent.event import Event

from maze.core import FollowGraph, Position, Recent, ReorderBuffer, next_epoch
from maze.errors import JournalFencedError, JournalUnusableError
from maze.journal.figures import Statistics
from maze.journal.group_commit import GroupCommit
from maze.journal.journal import (
    AheadError,
    Batch,
    Bounds,
    FencedError,
    GoneError,
    JournalError,
    OtherEpochError,
    TrimmedError,
    UnavailableError,
)
from maze.journal.snapshot_schedule import RETRY_SECONDS, SnapshotSchedule
from maze.journal.snapshots import STOPPED, SnapshotTaker
from maze.net.native_thread import run_in_thread
from maze.pipeline.committed import Committed
from maze.pipeline.journal_store import open_store
from maze.pipeline.lease_keeper import LeaseKeeper
from maze.pipeline.recovery import Recovery, free_in_thread
from maze.pipeline.stats import COMMIT_SECONDS, Histogram
from maze.pipeline.unwritten_marks import UnwrittenMarks
from maze.settings.options import Settings

log = structlog.get_logger()

UPKEEP_SECONDS = 1.0
"""Time between two inspections of the file."""


class Journaling:
    """The journal of a server.

    ``on_commit`` is called when more events are committed. ``fail`` stops the server.
    """

    def __init__(
        self, settings: Settings, *, on_commit: Callable[[], None], fail: Callable[..., None]
    ) -> None:
        """Open the journal. Raise JournalUnusableError or SettingsError."""
        assert settings.journal is not None
        start = Position(next_epoch(0, int(1000 * time())), settings.first_sequence)
        try:
            self._store = open_store(settings, start)
        except JournalError as error:
            raise JournalUnusableError(str(error)) from None
        self.journal = self._store.journal
        self.reader = self._store.reader
        """A second connection, for resumes; it only reads."""
        self.lease = self._store.lease
        """The lease of a journal that several processes can open; None for a file."""
        self._keeper = self.lease and LeaseKeeper(
            self.lease,
            watch=self._store.watch,
            on_renewal=self._ask,
            on_lost=self._on_lease_lost,
        )
        self.tailed = self._store.tailed
        """The journal, if its server may lose what it has confirmed; else None."""
        self._on_commit = on_commit
        self._fail = fail
        self._bounds = Bounds(
            settings.max_users, settings.max_follows, settings.max_follows_per_user
        )
        self._bounds_are_written = False
        self.committed = Committed(self._put, start, max_bytes=settings.reorder_bytes // 2)
        self.marks = UnwrittenMarks()
        self._fence = 0
        self.position = start
        """The position up to which everything is durable."""
        self.on_batches: Callable[[list[Batch]], None] = lambda batches: None
        """Called with the batches of each commit."""
        self.on_wait: Callable[[], None] = lambda: None
        """Called while this process waits for the lease, whenever the reason changes."""
        self.is_held: Callable[[], bool] = lambda: False
        """Whether nothing may be written at present."""
        self.seconds = Histogram(COMMIT_SECONDS)
        self.statistics: Statistics | None = None
        """Figures about the file, at most some seconds old; None before the start."""
        self._commit: GroupCommit | None = None
        self._schedule = SnapshotSchedule(
            settings.snapshot_events, settings.snapshot_interval, monotonic()
        )
        self._taker: SnapshotTaker | None = None
        """The taker of the present snapshot, if one is being taken."""
        self._is_asked = False  # whether the journal has not yet answered if it is there
        self._upkeep = gevent.Greenlet(self._keep_up)
        self._epoch_has_begun = Event()

    @property
    def trouble(self) -> str | None:
        """Why the journal cannot be written at present; None if it can."""
        if self._commit is None:
            return None
        return str(self._commit.lost) if self._commit.lost else self._commit.trouble

    @property
    def is_standby(self) -> bool:
        """Whether another process writes the journal, and this one waits to take over."""
        return self.lease is not None and self.lease.is_awaited

    @property
    def commits(self) -> int:
        """Number of commits since the start."""
        return self._commit.commits if self._commit else 0

    @property
    def committed_bytes(self) -> int:
        """Bytes of event lines committed since the start."""
        return self._commit.committed_bytes if self._commit else 0

    def recover(
        self, graph: FollowGraph, recent: Recent, report: Callable[[Position], None]
    ) -> Position:
        """Rebuild graph and recent events; return the position at which the stream continues.

        If another process holds the lease, wait until it is gone. Raise JournalUnusableError if the
        journal is damaged. Raise JournalFencedError if another process takes the lease meanwhile.
        """
        try:
            if self._keeper:
                self._fence = self._keeper.take(self.on_wait)
            began = monotonic()
            recovery = self._read(graph, recent, report)
            if not self.lease:  # only then, because a file that is damaged must not be changed
                self._fence = run_in_thread(self.journal.lease)
        except FencedError as error:
            log.critical("journal_fenced", error=str(error))
            raise JournalFencedError(str(error)) from None
        except JournalError as error:
            raise JournalUnusableError(str(error)) from None
        self._bounds_are_written = recovery.state.bounds == self._bounds
        graph.set_bounds(*self._bounds)
        self.position = recovery.state.position
        self._store.begin(self.position)
        self.committed.begin(self.position)
        uncarried = recovery.uncarried.all()
        self.marks.begin(uncarried[0].first if uncarried else self.position.next)
        for marks in uncarried:
            self.marks.extend(marks)
        self._commit = GroupCommit(
            self.journal,
            self._fence,
            on_committed=self._on_committed,
            on_trouble=self._on_trouble,
            on_lost=self._on_lost,
            observe=self.seconds.observe,
            group_bytes=self._store.group_bytes,
        )
        self._schedule.add(recovery.events)
        self._upkeep.start()
        log.info(
            "journal_replayed",
            position=str(self.position),
            events=recovery.events,
            users=graph.users,
            follows=graph.follows,
            seconds=round(monotonic() - began, 3),
        )
        return self.position

    def _read(
        self, graph: FollowGraph, recent: Recent, report: Callable[[Position], None]
    ) -> Recovery:
        """Rebuild graph and recent events. Raise JournalError.

        Read anew if Redis was away, or has lost, or another process has removed, what is read.

        The lease is renewed meanwhile. If a renewal fails for good, for example because another
        process has taken the lease, raise that error.
        """
        trouble = None
        while True:
            recovery = Recovery(self.journal, graph, recent, report)
            try:
                recovery.run()
                break
            except (UnavailableError, TrimmedError, AheadError, OtherEpochError) as error:
                if not self._keeper:
                    raise
                self._keeper.check()
                if str(error) != trouble:
                    trouble = str(error)
                    self._on_trouble(trouble)
            free_in_thread(graph.clear())
            gevent.sleep(self._keeper.retry_seconds)
            self._keeper.check()
        if self._keeper:
            self._keeper.check()
        if trouble:
            log.warning("journal_available", position=str(recovery.state.position))
        return recovery

    def _ask(self) -> None:
        """Check that the journal is there and has lost nothing; a commit would find out itself."""
        if self._commit and not (self._commit.pending_batches or self._is_asked):
            self._is_asked = True
            self._commit.submit(partial(self.journal.append, [], self._fence), self._on_asked)

    def _on_asked(self, error: Exception | None) -> None:
        """Called with the result of a check that the journal is there and has lost nothing."""
        assert self._commit
        self._is_asked = False
        if error is None or isinstance(error, UnavailableError):
            self._commit.set_trouble(str(error) if error else None)
        else:
            self._commit.lose(error)

    def take(self, reorder: ReorderBuffer) -> None:
        """Put batches of runs that are in order, as many as may wait for their commit."""
        while not self.is_held() and self.committed.take_from(reorder):
            pass

    def begin_epoch(self, first: int) -> Position:
        """Begin a new epoch, at the number ``first``; return its position once it is durable.

        Everything put before must have been committed.
        """
        epoch = next_epoch(self.position.epoch, int(1000 * time()))
        self._epoch_has_begun.clear()
        self.committed.begin_epoch(Position(epoch, first))
        self._epoch_has_begun.wait()
        self.committed.enter_epoch()
        self.marks.begin(first)
        return self.position

    def close(self, timeout: float) -> None:
        """Commit what was put and close the file, for at most ``timeout`` seconds."""
        deadline = monotonic() + timeout
        self._upkeep.kill(block=False)
        if self._keeper:
            self._keeper.close()
        if self._taker:
            self._taker.stop()
        if self.tailed:
            self.tailed.hurry()
        if self._commit is not None:
            self._commit.close(timeout)
            if not self._commit.has_ended:
                log.error("journal_not_closed", error="a write has not ended")
                return
            if isinstance(self._commit.lost, GoneError):
                return  # SQLite would remove the log at the path, which may belong to another file
        try:
            with gevent.Timeout(max(0.0, deadline - monotonic())):
                run_in_thread(self._close)
        except gevent.Timeout:
            log.error("journal_not_closed", error="closing the file has not ended")

    def _close(self) -> None:
        """Let another process write, and close the journal."""
        if self.lease and self._fence:
            with suppress(JournalError):  # then the lease ends by itself
                self.lease.release(self._fence)
        self._store.close()

    def _keep_up(self) -> None:
        """Once a second, read the figures about the file, and take a snapshot if one is due."""
        assert self._commit is not None
        while not self._commit.lost:
            self._update_statistics(self._commit)
            if self._schedule.is_due(monotonic()):
                gevent.spawn(self._take_snapshot)
            gevent.sleep(UPKEEP_SECONDS)

    def _take_snapshot(self) -> None:
        """Save the follow graph in the journal, made by a child process."""
        assert self._commit is not None
        began = monotonic()
        self._schedule.begin(began)
        self._taker = SnapshotTaker(
            self._store.place,
            self.journal,
            self._fence,
            submit=self._commit.submit,
            report=lambda message: log.warning("snapshot_not_used", error=message),
        )
        reason = run_in_thread(self._taker.run)
        position, self._taker = self._taker.position, None
        if reason is None:
            self._schedule.finish()
            seconds = round(monotonic() - began, 3)
            log.info("snapshot_taken", position=str(position), seconds=seconds)
        elif reason != STOPPED:
            self._schedule.fail(monotonic())
            log.error("snapshot_failed", error=reason, retries_after_seconds=RETRY_SECONDS)

    def _update_statistics(self, commit: GroupCommit) -> None:
        """Read the figures, and leave them as they are if they cannot be read."""
        if self.lease:  # a journal that any thread may read, and commits need not wait
            with suppress(JournalError):
                run_in_thread(self._read_statistics)
            return
        read = Event()
        commit.submit(self._read_statistics, partial(_on_read, read))
        read.wait()

    def _read_statistics(self) -> None:
        """Called in another thread: with a file, the one that commits."""
        self.statistics = self._store.figures.statistics()

    def _put(self, batch: Batch) -> None:
        assert self._commit is not None
        if not self._bounds_are_written:
            batch = batch._replace(bounds=self._bounds)
            self._bounds_are_written = True
        self._commit.put(batch._replace(unchanged=self.marks.carry(batch.end)))

    def _on_committed(self, batches: list[Batch]) -> None:
        position = batches[-1].position
        if position.epoch == self.position.epoch:
            self._schedule.add(position.next - self.position.next)
        self.position = position
        self.committed.on_committed(position)
        self.marks.on_committed(position.next)
        if self.committed.epoch_is_due:
            self._epoch_has_begun.set()
        self.on_batches(batches)
        self._on_commit()

    def _on_trouble(self, message: str | None) -> None:
        if message is None:
            log.warning("journal_available", position=str(self.position))
        else:
            log.critical(
                "journal_unavailable", error=message, delivers="nothing until it can be written"
            )

    def _on_lease_lost(self, error: JournalError) -> None:
        """Called when the lease is no longer renewed. While the journal is read, ``_read`` asks."""
        if self._commit:
            self._commit.lose(error)

    def _on_lost(self, error: Exception) -> None:
        if isinstance(error, GoneError):
            log.critical("journal_gone", error=str(error), delivers="nothing until a restart")
        elif isinstance(error, FencedError):
            self._fail("journal_fenced", exit_status=JournalFencedError.status, error=str(error))
        else:
            self._fail("journal_failed", error=str(error))


def _on_read(read: Event, error: Exception | None) -> None:
    read.set()
