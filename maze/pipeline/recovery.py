"""Recovery: rebuilds the follow graph and the recent events from the journal.

The newest snapshot is loaded, and the batches after it are routed once more. No client is connected
then, so nothing is delivered.
"""

from collections.abc import Callable
from time import monotonic

import structlog

from maze.core import FollowGraph, Position, Recent
from maze.core.graph import DetachedGraph
from maze.journal.journal import Batch, JournalReader
from maze.journal.marks import Marks, UncarriedMarks
from maze.journal.state import GraphState, merged
from maze.net.native_thread import run_in_thread
from maze.net.time_slice import TimeSlice

log = structlog.get_logger()

READ_BYTES = 4 * 1024 * 1024
"""Bytes of batches read at a time."""

PROGRESS_SECONDS = 1.0
"""Time between two reports of progress."""


class Recovery:
    """Rebuilds a graph and recent events.

    ``report`` is called once a second with the position reached so far.
    """

    def __init__(
        self,
        journal: JournalReader,
        graph: FollowGraph,
        recent: Recent,
        report: Callable[[Position], None],
    ) -> None:
        self._journal = journal
        self._recent = recent
        self._report = report
        self._time_slice = TimeSlice()
        self.state = GraphState(graph, Position(0, 0), free_in_thread)
        """The graph, its bounds, and the position."""
        self.events = 0
        """Sequence numbers read after the snapshot."""
        self.snapshot: Position | None = None
        """Position of the snapshot, if there was one."""
        self.uncarried = UncarriedMarks()
        """The marks that no batch carries yet."""

    def run(self) -> None:
        """Read the newest snapshot and all batches after it. Raise JournalError."""
        snapshot = run_in_thread(self._journal.get_snapshot, _report_unusable)
        if snapshot is None:
            self.state.position = run_in_thread(self._journal.kept_from)
        else:
            self.state.load(snapshot, self._time_slice.begin_next)
            self.snapshot = snapshot.position
        self._recent.begin(self.state.position.next)
        self.uncarried.begin(self.state.position.next)
        reported_at = monotonic()
        while batches := run_in_thread(self._journal.read, self.state.position, READ_BYTES):
            for batch in merged(batches):
                self._apply(batch)
                if self._time_slice.is_over():
                    self._time_slice.begin_next()
            if monotonic() - reported_at >= PROGRESS_SECONDS:
                self._report(self.state.position)
                reported_at = monotonic()

    def _apply(self, batch: Batch) -> None:
        """Route a batch that no client gets, and keep it for clients that resume."""
        if batch.epoch != self.state.position.epoch:
            self._recent.begin(batch.first)
            self.uncarried.begin(batch.first)
        runs = self.state.apply(batch)
        self._recent.add(runs, batch.end)
        self.events += batch.end - batch.first
        self.uncarried.note(runs, batch.end)
        if carried := Marks.decode(batch.unchanged):
            self.uncarried.cover(carried.end)


def free_in_thread(detached: DetachedGraph) -> None:
    """Free the contents of a graph that was cleared, while the event loop goes on."""
    run_in_thread(detached.free)


def _report_unusable(message: str) -> None:
    log.warning("snapshot_not_used", error=message)
