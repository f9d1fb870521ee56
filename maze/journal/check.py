"""Finds the faults of a journal's file: batches that are missing, and wrong checksums."""

from collections.abc import Iterator

from maze.core import Position
from maze.journal.journal import JournalFileError, follows
from maze.journal.reader import SQLiteReader
from maze.journal.rows import (
    BATCH,
    DamagedRowError,
    batch_of,
    is_whole_chunk,
    is_whole_snapshot,
    position_of,
)

ROWS_AT_ONCE = 30
"""Batches checked in one transaction (up to 30 MiB). A long transaction would let the log grow."""


class Checker(SQLiteReader):
    """Checks a journal's file, which a server may write meanwhile."""

    batches = 0
    """Number of batches that were checked."""
    snapshots = 0
    """Number of snapshots that were checked."""

    def faults(self) -> Iterator[str]:
        """Return what is wrong, a line for each fault."""
        try:
            yield from self._faults_of_batches()
            yield from self._faults_of_snapshots()
        except JournalFileError as error:
            yield str(error)

    def _faults_of_batches(self) -> Iterator[str]:
        with self._reading():
            after = self._kept_from()
        while True:
            with self._reading():
                after = max(after, self._kept_from())  # batches may have been trimmed meanwhile
                rows = self._database.execute(
                    f"SELECT {BATCH} FROM batch WHERE (epoch, last) > (?, ?) "
                    "ORDER BY epoch, last LIMIT ?",
                    (after.epoch, after.next - 1, ROWS_AT_ONCE),
                ).fetchall()
            if not rows:
                return
            for row in rows:
                self.batches += 1
                end = position_of(row)
                try:
                    batch = batch_of(row)
                except DamagedRowError:
                    yield f"the checksum of batch {end.epoch}-{end.next} is wrong"
                else:
                    if not follows(batch, after):
                        first = Position(batch.epoch, batch.first)
                        yield (
                            f"no batch after {after.epoch}-{after.next}; "
                            f"the next is {first.epoch}-{first.next}"
                        )
                after = end

    def _faults_of_snapshots(self) -> Iterator[str]:
        with self._reading():
            snapshots = self._finished_snapshots()
        for row in snapshots:
            *_, count, _, number = row
            with self._reading():
                chunks = self._database.execute(
                    "SELECT place, crc, data FROM chunk WHERE snapshot = ? ORDER BY place",
                    (number,),
                ).fetchall()
                if row not in self._finished_snapshots():
                    continue  # removed meanwhile
            self.snapshots += 1
            name = f"snapshot {row[0]}-{row[1] + 1}"
            if not is_whole_snapshot(row):
                yield f"the checksum of {name} is wrong"
                continue
            missing = set(range(count)) - {place for place, _, _ in chunks}
            yield from (f"chunk {place} of {name} is missing" for place in sorted(missing))
            for place, crc, data in chunks:
                if place >= count:
                    yield f"chunk {place} of {name} is one too many"
                elif not is_whole_chunk(number, place, data, crc):
                    yield f"the checksum of chunk {place} of {name} is wrong"
