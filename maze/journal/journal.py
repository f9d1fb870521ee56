"""What every journal does, whatever it keeps its batches in.

A journal holds contiguous batches. Positions are ordered by epoch, then by number. An append is
idempotent: batches that are already there are skipped, so repeating one is always safe.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from maze.core import Position


class Bounds(NamedTuple):
    """The bounds of the follow graph."""

    max_users: int
    max_follows: int
    max_follows_per_user: int


class Batch(NamedTuple):
    """The sequence numbers ``first`` to ``end`` - 1 of an epoch, and their lines in order.

    A number without a line was given up or malformed. A batch without numbers begins its epoch.
    """

    epoch: int
    first: int
    end: int
    body: bytes
    bounds: Bounds | None = None
    """Bounds of the graph from ``first`` on; None if they do not change there."""
    unchanged: bytes = b""
    """Marks of events routed before (``journal.marks``); a journal stores them as they are."""

    @property
    def position(self) -> Position:
        """The position after the batch."""
        return Position(self.epoch, self.end)


class Snapshot(NamedTuple):
    """The follow graph at a position, and the bounds that apply from there."""

    position: Position
    bounds: Bounds
    chunks: list[bytes]
    """The follows; a journal stores them as they are."""


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


class NoSnapshotError(JournalError):
    """No snapshot is usable, and the graph cannot be rebuilt from the batches that are kept."""

    def __init__(self) -> None:
        super().__init__("no snapshot is usable, and the graph is unknown without one")


class SnapshotReplacedError(JournalError):
    """A later snapshot was begun before this one was finished."""


class JournalFileError(JournalError):
    """The file cannot be opened, is no journal of this format, or is damaged.

    It is left as it is.
    """


class JournalServerError(JournalError):
    """The server that keeps the journal does not fit, refuses, or has a journal that is damaged.

    Somebody has to change something before the same call can succeed.
    """


class UnavailableError(JournalError):
    """The journal cannot be written or read at present; the same call may succeed later."""


class GoneError(JournalError):
    """The file at the journal's path is no longer the one that is open."""


class SnapshotWriter(Protocol):
    """A snapshot that is being written, in steps between which batches may be appended."""

    def add(self, chunk: bytes) -> None:
        """Add a chunk. Raise FencedError or SnapshotReplacedError."""

    def finish(self) -> None:
        """Keep the snapshot, which is whole, and the one before; remove any others.

        Raise FencedError, SnapshotReplacedError or TrimmedError.
        """


class JournalReader(Protocol):
    """Reads an ordered log of batches, and snapshots of the follow graph."""

    def position(self) -> Position:
        """Return the position after the last batch."""

    def kept_from(self) -> Position:
        """Return where the kept batches begin."""

    def read(self, after: Position, max_bytes: int) -> list[Batch]:
        """Return the batches after a position, in order: one, or more up to ``max_bytes``.

        A position within a batch returns that batch first. Raise TrimmedError, OtherEpochError or
        AheadError.
        """

    def get_snapshot(self, report: Callable[[str], None]) -> Snapshot | None:
        """Return the newest usable snapshot; None if the kept batches begin with an empty graph.

        A snapshot is not usable if it is damaged, or if batches after it were removed. It is
        passed over for an older one, and ``report`` is called with the reason. Raise
        NoSnapshotError if there should be a usable one.
        """


class Journal(JournalReader, Protocol):
    """A log that can be written. One writer at a time holds its lease."""

    def lease(self) -> int:
        """Take the lease, and return its fence; writers with a lower fence can no longer write."""

    def append(self, batches: Sequence[Batch], fence: int) -> Position:
        """Append batches durably, skip those that are there; return the position after the last.

        All are appended, or none. Raise FencedError, GapError, OtherEpochError, UnavailableError
        or GoneError.
        """

    def trim(self, before: Position, fence: int) -> None:
        """Remove the batches that end at or below a position. Raise FencedError.

        A start needs the batches after a snapshot, so the older of two snapshots is the limit.
        """

    def begin_snapshot(self, position: Position, bounds: Bounds, fence: int) -> SnapshotWriter:
        """Begin a snapshot at the end of a batch, or where the kept batches begin.

        Any other unfinished snapshot is removed. Raise FencedError, TrimmedError, OtherEpochError
        or AheadError.
        """

    def put_snapshot(
        self, position: Position, bounds: Bounds, chunks: Iterable[bytes], fence: int
    ) -> None:
        """Write a snapshot in one go; see ``begin_snapshot``."""
        writer = self.begin_snapshot(position, bounds, fence)
        for chunk in chunks:
            writer.add(chunk)
        writer.finish()


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
        end = batch.position
        if end <= position:
            continue
        if not follows(batch, position):
            if batch.epoch > position.epoch:
                raise OtherEpochError(f"epoch {batch.epoch} has not begun")
            raise GapError(position)
        missing.append(batch)
        position = end
    return missing


def follows(batch: Batch, position: Position) -> bool:
    """Return whether a batch continues a journal at a position."""
    if batch.epoch > position.epoch:
        return batch.first == batch.end
    return batch[:2] == position
