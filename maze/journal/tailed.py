"""A journal whose server may lose the last appends, and gets them again."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence

from maze.core import Position
from maze.journal.group_commit import GROUP_BYTES
from maze.journal.journal import (
    Batch,
    Bounds,
    GapError,
    Journal,
    OtherEpochError,
    Snapshot,
    SnapshotWriter,
)
from maze.journal.tail import Tail


class TailedJournal(Journal):
    """Appends to another journal, and appends again what that one has lost since.

    A server such as Redis confirms appends that are not on its disk yet; after a crash or a
    failover it goes on without them. ``append`` notices that, even if it is given nothing to
    append, which is a way to ask. Lost batches are appended again in groups of about
    ``group_bytes``. ``report`` gets a line for the log each time. ``append`` waits while the tail
    is full, with ``sleep`` if it is given.
    """

    def __init__(
        self,
        journal: Journal,
        tail: Tail,
        *,
        report: Callable[[str], None],
        group_bytes: int = GROUP_BYTES,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self.journal = journal
        self.tail = tail
        self._report = report
        self._group_bytes = group_bytes
        self._clock = clock
        self._hurries = threading.Event()
        self._sleep = sleep or self._hurries.wait
        self.gaps = 0
        """How often the journal had lost batches."""
        self.batches_again = 0
        """Batches that were appended again."""

    def hurry(self) -> None:
        """Let appends no longer wait, even if the tail is full: the process is about to end."""
        self._hurries.set()

    def lease(self) -> int:
        """Take the lease, and return its fence."""
        return self.journal.lease()

    def position(self) -> Position:
        """Return the position after the last batch, unless the journal has lost it."""
        return self.journal.position()

    def kept_from(self) -> Position:
        """Return where the kept batches begin."""
        return self.journal.kept_from()

    def append(self, batches: Sequence[Batch], fence: int) -> Position:
        """Append batches, and before them those that were lost; see ``Journal.append``.

        Raise LostError if the tail no longer has them.
        """
        while self.tail.is_full and not self._hurries.is_set():
            self._sleep(self.tail.seconds_until_safe(self._clock()))
            self._append([], fence)
        if any(batch.epoch > self.tail.position.epoch for batch in batches):
            # A batch that begins an epoch follows any position, even before what was lost.
            self._append([], fence)
        return self._append(batches, fence)

    def _append(self, batches: Sequence[Batch], fence: int) -> Position:
        asked = self._clock()
        try:
            position = self.journal.append(batches, fence)
        except (GapError, OtherEpochError):
            position = self.journal.position()
            if not self.tail.after(position):
                raise
        if position < self.tail.position:
            self._append_again(position, fence)
            return self._append(batches, fence)
        # An answer shows that the server takes writes and lacks nothing.
        self.tail.drop(asked)
        self.tail.add(batches, self._clock())
        return position

    def _append_again(self, position: Position, fence: int) -> None:
        """Append what follows a position from the tail."""
        lost = self.tail.after(position)
        reached = position
        for group in _groups(lost, self._group_bytes):
            self.journal.append(group, fence)
            self.tail.renew(reached, self._clock())
            reached = group[-1].position
        self.gaps += 1
        self.batches_again += len(lost)
        self._report(
            f"the journal had lost what follows {position.epoch}-{position.next}: "
            f"appended again up to {self.tail.position.epoch}-{self.tail.position.next}"
        )

    def read(self, after: Position, max_bytes: int) -> list[Batch]:
        """Return the batches after a position; see ``Journal.read``."""
        return self.journal.read(after, max_bytes)

    def trim(self, before: Position, fence: int) -> None:
        """Remove the batches that end at or below a position."""
        self.journal.trim(before, fence)

    def begin_snapshot(self, position: Position, bounds: Bounds, fence: int) -> SnapshotWriter:
        """Begin a snapshot; see ``Journal.begin_snapshot``."""
        return self.journal.begin_snapshot(position, bounds, fence)

    def get_snapshot(self, report: Callable[[str], None]) -> Snapshot | None:
        """Return the newest usable snapshot; see ``Journal.get_snapshot``."""
        return self.journal.get_snapshot(report)


def _groups(batches: list[Batch], group_bytes: int) -> Iterator[list[Batch]]:
    """Return batches in groups; the batch that reaches ``group_bytes`` is the last of its group."""
    group: list[Batch] = []
    size = 0
    for batch in batches:
        group.append(batch)
        size += len(batch.body)
        if size >= group_bytes:
            yield group
            group, size = [], 0
    if group:
        yield group
