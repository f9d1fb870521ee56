"""Finds faults in a journal: missing batches, and wrong checksums."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from maze.core import Position
from maze.journal.journal import Batch, JournalFileError, JournalServerError, follows


class Stored(NamedTuple):
    """Batches that are stored as one."""

    end: Position
    """The position after them."""
    batches: list[Batch] | None
    """None if their checksum is wrong."""
    before: Position | None = None
    """The position that they follow, if that is stored."""


class StoredSnapshot(NamedTuple):
    """A finished snapshot."""

    number: int
    name: str
    chunks: int | None
    """How many chunks it should have; None if its own checksum is wrong."""


class Checked(Protocol):
    """A journal, wherever it is kept, as the checks see it."""

    def close(self) -> None:
        """Close it."""

    def position(self) -> Position:
        """Return the position after the last batch."""

    def kept_from(self) -> Position:
        """Return where the kept batches begin."""

    def stored_after(self, after: Position) -> list[Stored]:
        """Return the next batches after a position (up to about 30 MiB), whole or not."""

    def stored_snapshots(self) -> list[StoredSnapshot]:
        """Return the finished snapshots."""

    def stored_chunks(self, snapshot: StoredSnapshot) -> list[tuple[int, bool]] | None:
        """Return the place of each chunk of a snapshot, and whether its checksum is right.

        None if the snapshot was removed meanwhile.
        """


class Checker:
    """Checks a journal, which a server may write meanwhile."""

    def __init__(self, journal: Checked) -> None:
        self._journal = journal
        self.batches = 0
        """Number of batches that were checked."""
        self.snapshots = 0
        """Number of snapshots that were checked."""

    def faults(self) -> Iterator[str]:
        """Return what is wrong, a line for each fault."""
        try:
            yield from self._faults_of_batches()
            yield from self._faults_of_snapshots()
        except (JournalFileError, JournalServerError) as error:
            yield str(error)

    def _faults_of_batches(self) -> Iterator[str]:
        journal = self._journal
        after = journal.kept_from()
        while True:
            position = journal.position()
            stored = journal.stored_after(after)
            if after < (kept_from := journal.kept_from()):  # batches were trimmed meanwhile
                after = kept_from
                continue
            if not stored:
                if after < position:
                    yield f"no batch after {_shown(after)}; there is no other"
                return
            for end, batches, before in stored:
                if batches is None:
                    self.batches += 1
                    yield f"the checksum of batch {_shown(end)} is wrong"
                else:
                    self.batches += len(batches)
                    if before not in (None, after) or not follows(batches[0], after):
                        first = Position(batches[0].epoch, batches[0].first)
                        yield f"no batch after {_shown(after)}; the next is {_shown(first)}"
                after = end

    def _faults_of_snapshots(self) -> Iterator[str]:
        for snapshot in self._journal.stored_snapshots():
            chunks = self._journal.stored_chunks(snapshot)
            if chunks is None:
                continue
            self.snapshots += 1
            _, name, count = snapshot
            if count is None:
                yield f"the checksum of {name} is wrong"
                continue
            missing = set(range(count)) - {place for place, _ in chunks}
            yield from (f"chunk {place} of {name} is missing" for place in sorted(missing))
            for place, is_whole in chunks:
                if place >= count:
                    yield f"chunk {place} of {name} is one too many"
                elif not is_whole:
                    yield f"the checksum of chunk {place} of {name} is wrong"


def _shown(position: Position) -> str:
    return f"{position.epoch}-{position.next}"
