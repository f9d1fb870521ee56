"""What every journal does, whatever it keeps its batches in.

A journal holds contiguous batches. Positions are ordered by epoch, then by number. An append is
idempotent: batches that are already there are skipped, so repeating one is always safe.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from maze.core import Position


class Batch(NamedTuple):
    """The sequence numbers ``first`` to ``end`` - 1 of an epoch, and their lines in order.

    A number without a line was given up or malformed. A batch without numbers begins its epoch.
    """

    epoch: int
    first: int
    end: int
    body: bytes

    @property
    def position(self) -> Position:
        """The position after the batch."""
        return Position(self.epoch, self.end)


class JournalError(Exception):
    """The journal cannot do what was asked."""


class FencedError(JournalError):
    """Another writer has taken the lease since; this one must stop."""

    def __init__(self) -> None:
        super().__init__("another writer has taken the lease")


class GapError(JournalError):
    """A batch does not follow the last one."""

    def __init__(self, position: Position) -> None:
        super().__init__(f"the journal continues at {position.epoch}-{position.next}")
        self.position = position
        """Where the journal continues."""


class OtherEpochError(JournalError):
    """A batch or a position does not fit the epochs of the journal."""


class TrimmedError(JournalError):
    """What follows a position is no longer kept."""


class AheadError(JournalError):
    """A position is ahead of the journal."""


class Journal(Protocol):
    """An ordered log of batches. One writer at a time holds its lease."""

    def lease(self) -> int:
        """Take the lease, and return its fence; writers with a lower fence can no longer write."""

    def position(self) -> Position:
        """Return the position after the last batch."""

    def append(self, batches: Sequence[Batch], fence: int) -> Position:
        """Append batches durably, skip those that are there; return the position after the last.

        All are appended, or none. Raise FencedError, GapError or OtherEpochError.
        """

    def read(self, after: Position, max_bytes: int) -> list[Batch]:
        """Return the batches after a position, in order: one, or more up to ``max_bytes``.

        A position within a batch returns that batch first. Raise TrimmedError, OtherEpochError or
        AheadError.
        """

    def trim(self, before: Position, fence: int) -> None:
        """Remove the batches that end at or below a position. Raise FencedError."""


def check_kept(after: Position, kept_from: Position, position: Position) -> None:
    """Raise the error of reading after a position outside ``kept_from`` to ``position``."""
    if after.epoch > position.epoch:
        raise OtherEpochError(f"epoch {after.epoch} has not begun")
    if after > position:
        raise AheadError(f"{after.epoch}-{after.next} is ahead of the journal")
    if after < kept_from:
        raise TrimmedError(f"what follows {after.epoch}-{after.next} is no longer kept")


def to_append(batches: Sequence[Batch], position: Position) -> list[Batch]:
    """Return the batches that a journal at ``position`` does not have.

    Raise GapError or OtherEpochError if they do not continue it.
    """
    missing = []
    for batch in batches:
        if batch.position <= position:
            continue
        if batch.epoch > position.epoch:
            if batch.first != batch.end:
                raise OtherEpochError(f"epoch {batch.epoch} has not begun")
        elif batch.first != position.next:
            raise GapError(position)
        missing.append(batch)
        position = batch.position
    return missing
