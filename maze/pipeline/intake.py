"""The intake: brings what sources send into order, and hands it to the router.

With a journal, the events are written before the router gets them. The sources are paused while
enough events are ready; TCP then slows them down. A source is never paused because of a gap: the
missing event comes later in the same stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic, time
from typing import TYPE_CHECKING

from gevent.event import Event

from maze.core import Position, Run, next_epoch
from maze.log.reject_log import RejectLog
from maze.pipeline.acknowledgements import Acknowledgements
from maze.pipeline.batch import BATCH_EVENTS, ReadyRuns
from maze.pipeline.gap_watch import GapWatch
from maze.pipeline.journal_blocks import JournalBlocks
from maze.pipeline.ordering import Ordering
from maze.pipeline.router import Router
from maze.settings.options import Settings

if TYPE_CHECKING:
    from maze.pipeline.journaling import Journaling


class Intake:
    """What lies between the sources and the router: the reorder buffer and the journal."""

    def __init__(
        self, settings: Settings, rejects: RejectLog, router: Router, fail: Callable[..., None]
    ) -> None:
        """Create the parts. Raise JournalUnusableError."""
        self._settings = settings
        self._router = router
        self.stats = router.stats
        self._ordering = Ordering(settings, rejects, self.stats, router.yield_if_due)
        self.reorder = self._ordering.reorder
        self.advice = self._ordering.advice
        self._gaps = GapWatch(settings, self._ordering, router.wake)
        self.journaling = _open_journal(settings, self._on_commit, fail)
        self.ready: ReadyRuns = self.reorder
        """The runs to be routed: those in order or, with a journal, those committed."""
        if self.journaling:
            self.ready = self.journaling.committed
            router.resumes.blocks = JournalBlocks(
                self.journaling.reader,
                self.journaling.marks.all,
                router.recent,
                settings.resume_bytes,
            )
        self.epoch = next_epoch(0, int(1000 * time()))
        """Epoch of the runs that are ready."""
        self.acknowledgements = Acknowledgements(lambda: self._durable)
        self._has_committed = Event()
        self._source_may_read = Event()
        self._source_may_read.set()
        router.take_from(self)

    @property
    def unrouted_events(self) -> int:
        """Number of events in order but not routed yet; some may wait for their commit."""
        committed = self.journaling and self.journaling.committed
        return self.reorder.ready + (committed.ready + committed.in_flight if committed else 0)

    @property
    def _durable(self) -> Position:
        return self.journaling.position if self.journaling else self._router.position

    # Called by the source port.

    def submit(self, runs: Sequence[Run], peer: str) -> None:
        """Add runs to the reorder buffer, then wait until the source may read more.

        Raise ReorderBufferFullError if a gap did not fill and the policy is to fail.
        """
        try:
            self._ordering.add(runs, peer)
        finally:
            if self.reorder.waiting:
                self._gaps.begin()
            self._router.wake()
        if not self._source_may_read.is_set():
            self._source_may_read.wait()
        self._router.yield_if_due()

    def await_durable(self, timeout: float) -> None:
        """Wait until everything that is in order is durable, for at most ``timeout`` seconds."""
        deadline = monotonic() + timeout
        while self.reorder.ready or (self.journaling and self.journaling.committed.in_flight):
            self._has_committed.clear()
            if not self._has_committed.wait(deadline - monotonic()):
                return

    def end_stream(self, peer: str) -> None:
        """Route everything that was received, then begin a new epoch.

        Called when the last source has left. Does nothing if the stream is to be kept.
        """
        if self._settings.keeps_stream:
            return
        self._ordering.give_up_gaps(peer)
        self._router.wake()
        self._router.wait_until_idle()
        epoch = next_epoch(self.epoch, int(1000 * time()))
        if self.journaling:
            epoch = self.journaling.begin_epoch(self._settings.first_sequence).epoch
        self._ordering.reset()
        self._gaps.forget()
        self.epoch = epoch
        self._router.begin_epoch()

    @contextmanager
    def holding_up(self) -> Iterator[None]:
        """Count no time for gaps while a source waits: what is missing may be unread."""
        self._gaps.hold()
        try:
            yield
        finally:
            self._gaps.release()

    def close(self) -> None:
        """Give up no more missing numbers: nothing is read from the sources any more."""
        self._gaps.close()

    # Called by the server.

    def recover(self, report: Callable[[Position], None]) -> None:
        """Continue where the journal ends, if there is one; ``report`` is told the progress.

        Raise JournalUnusableError.
        """
        if self.journaling:
            router = self._router
            position = self.journaling.recover(router.fanout.graph, router.recent, report)
            self.epoch = position.epoch
            self.reorder.reset(position.next)

    # Called by the router.

    @property
    def has_work(self) -> bool:
        """Whether runs can be routed."""
        return self.ready.ready > 0

    def gather(self) -> None:
        """Pass the events that are in order to the journal, if there is one."""
        if self.journaling and self.reorder.ready:
            self.journaling.take(self.reorder)

    def advance(self) -> bool:
        """Bring more events into order; return whether runs can be routed."""
        if not self.reorder.ready:
            self.reorder.advance()
        self.gather()
        return self.ready.ready > 0

    def pace(self, router_waits: bool) -> None:
        """Pause the sources if enough events are ready, else let them read.

        While the router works, one batch is enough. While it waits for room, events become ready up
        to the reorder limit.
        """
        limit = self._settings.reorder_limit
        if not router_waits:
            limit = min(limit, BATCH_EVENTS)
        reorder, max_bytes = self.reorder, self._settings.reorder_bytes
        may_read = reorder.ready < limit and reorder.ready_bytes < max_bytes
        if may_read == self._source_may_read.is_set():
            return
        if may_read:
            self._source_may_read.set()
            self._gaps.release()
        else:
            self._source_may_read.clear()
            self._gaps.hold()

    def on_routed(self, runs: list[Run], end: int) -> None:
        """Note the marks of runs that were routed, for the journal."""
        if self.journaling:
            self.journaling.marks.add(runs, end)

    def _on_commit(self) -> None:
        """Route what is committed, and tell the sources."""
        self._has_committed.set()
        self.acknowledgements.on_commit()
        self._router.wake()


def _open_journal(
    settings: Settings, on_commit: Callable[[], None], fail: Callable[..., None]
) -> Journaling | None:
    """Open the journal, if the settings name one. Raise JournalUnusableError."""
    if settings.journal is None:
        return None
    from maze.pipeline.journaling import Journaling  # noqa: PLC0415, SQLite takes 1.4 MB

    return Journaling(settings, on_commit=on_commit, fail=fail)
