"""Reads a journal's file. A read-only connection may do so beside the server."""

import sqlite3
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager

from maze.core import Position
from maze.journal.check import Stored, StoredSnapshot
from maze.journal.figures import Overview, Statistics
from maze.journal.file import open_to_read
from maze.journal.file_errors import as_damaged, as_unavailable, damage
from maze.journal.journal import (
    Batch,
    Bounds,
    JournalFileError,
    NoSnapshotError,
    OtherEpochError,
    Snapshot,
    UnavailableError,
    check_kept,
    follows,
)
from maze.journal.rows import (
    BATCH,
    SNAPSHOT,
    DamagedRowError,
    Row,
    batch_of,
    is_whole_chunk,
    is_whole_snapshot,
    position_of,
)

MAX_NEXT = 2**63
"""Largest number after which a batch can end."""

BATCH_BYTES = 200
"""Bytes counted for a batch besides its lines: reading a small batch costs as much."""


CHECKED_BATCHES = 30
"""Batches checked at once (up to 30 MiB)."""


class SQLiteReader:
    """Reads a journal's file, by the connection ``database`` or by one that is opened read-only.

    All methods block. Only one thread at a time may call them, but any thread may call ``close``.
    They raise JournalFileError if the file is damaged, and UnavailableError if it cannot be read at
    present or the reader is closed.
    """

    def __init__(self, path: str, database: sqlite3.Connection | None = None) -> None:
        self.path = path
        self._in_use = threading.Lock()
        self._is_closed = False
        try:
            self._database = database or open_to_read(path)
        except sqlite3.Error as error:
            raise JournalFileError(f"{path}: {error}") from None

    def close(self) -> None:
        """Wait for a call in another thread to end, then close the file."""
        with self._in_use:
            self._is_closed = True
            self._database.close()

    def position(self) -> Position:
        """Return the position after the last batch."""
        with self._reading():
            return self._position()

    def kept_from(self) -> Position:
        """Return where the kept batches begin."""
        with self._reading():
            return self._kept_from()

    def read(self, after: Position, max_bytes: int) -> list[Batch]:
        """Return the batches after a position; see ``Journal.read``."""
        with self._reading():
            check_kept(after, self._kept_from(), self._position())
            if after.next > MAX_NEXT:  # of an older epoch; SQLite takes no larger number
                raise OtherEpochError(f"no batch ends at {after.epoch}-{after.next}")
            with closing(self._following(after)) as batches:
                first = next(batches, None)
                is_within = first is not None and first[:2] <= after
                if not is_within:
                    self._check_end(after)
                if first is None:
                    return []
                if not (is_within or follows(first, after)):
                    raise self._gap(first, after)
                return self._take(first, batches, max_bytes)

    def _take(self, first: Batch, batches: Iterator[Batch], max_bytes: int) -> list[Batch]:
        found = [first]
        size = _size(first)
        for batch in batches:
            if not follows(batch, found[-1].position):
                raise self._gap(batch, found[-1].position)
            size += _size(batch)
            if size > max_bytes:
                break
            found.append(batch)
        return found

    def get_snapshot(self, report: Callable[[str], None]) -> Snapshot | None:
        """Return the newest usable snapshot; see ``Journal.get_snapshot``."""
        with self._reading():
            for row in self._finished_snapshots():
                reason = "is damaged"
                position = position_of(row) if is_whole_snapshot(row) else None
                if position is not None and position < self._kept_from():
                    reason = "is of no use, as the batches after it are no longer kept"
                elif position is not None:
                    chunks = self._chunks(row)
                    if chunks is not None:
                        return Snapshot(position, Bounds(*row[3:6]), chunks)
                report(f"{self.path}: the snapshot {row[0]}-{row[1] + 1} {reason}")
            if self._row("SELECT needs_snapshot FROM kept")[0]:
                raise NoSnapshotError
            return None

    def statistics(self) -> Statistics:
        """Return figures about the file. The time this takes grows with the number of epochs."""
        with self._reading():
            snapshots = self._finished_snapshots()
            return Statistics(
                self._kept_from(),
                self._position(),
                sum(self._events_by_epoch()),
                self._used_bytes(),
                position_of(snapshots[0]) if snapshots else None,
            )

    def overview(self) -> Overview:
        """Return further figures about the file. The time this takes grows with its size."""
        with self._reading():
            (batches,) = self._row("SELECT count(*) FROM batch")
            oldest = self._row("SELECT committed FROM batch ORDER BY epoch, last LIMIT 1")
            newest = self._row("SELECT committed FROM batch ORDER BY epoch DESC, last DESC LIMIT 1")
            size = "SELECT total(length(data)) FROM chunk WHERE snapshot = ?"
            snapshots = [
                (position_of(row), row[2], int(self._row(size, (row[-1],))[0]))
                for row in self._finished_snapshots()
            ]
            return Overview(
                batches, oldest[0] if oldest else None, newest[0] if newest else None, snapshots
            )

    def epoch_begin(self) -> Position:
        """Return where the kept batches of the present epoch begin."""
        with self._reading():
            kept_from, (epoch, _) = self._kept_from(), self._position()
            if epoch == kept_from.epoch:
                return kept_from
            oldest = "SELECT first FROM batch WHERE epoch = ? ORDER BY last LIMIT 1"
            return Position(epoch, self._row(oldest, (epoch,))[0])

    def check_newest(self) -> None:
        """Raise JournalFileError if the newest batch is damaged."""
        with self._reading():
            row = self._row(f"SELECT {BATCH} FROM batch ORDER BY epoch DESC, last DESC LIMIT 1")
            if row:
                self._batch(row)

    def stored_after(self, after: Position) -> list[Stored]:
        """Return the next batches after a position, whole or not; see ``Checked``.

        A transaction for more of them would let the log grow.
        """
        with self._reading():
            rows = self._database.execute(
                f"SELECT {BATCH} FROM batch WHERE (epoch, last) > (?, ?) "
                "ORDER BY epoch, last LIMIT ?",
                (after.epoch, after.next - 1, CHECKED_BATCHES),
            ).fetchall()
        return [_stored(row) for row in rows]

    def stored_snapshots(self) -> list[StoredSnapshot]:
        """Return the finished snapshots."""
        with self._reading():
            rows = self._finished_snapshots()
        return [
            StoredSnapshot(
                row[-1],
                f"snapshot {row[0]}-{row[1] + 1}",
                row[6] if is_whole_snapshot(row) else None,
            )
            for row in rows
        ]

    def stored_chunks(self, snapshot: StoredSnapshot) -> list[tuple[int, bool]] | None:
        """Return the chunks of a snapshot, whole or not; see ``Checked``."""
        number = snapshot.number
        with self._reading():
            if number not in [row[-1] for row in self._finished_snapshots()]:
                return None
            chunks = self._database.execute(
                "SELECT place, crc, data FROM chunk WHERE snapshot = ? ORDER BY place", (number,)
            ).fetchall()
        return [(place, is_whole_chunk(number, place, data, crc)) for place, crc, data in chunks]

    def _events_by_epoch(self) -> Iterator[int]:
        epoch = -1
        of_next_epoch = "FROM batch WHERE epoch > ? ORDER BY epoch, last LIMIT 1"
        while oldest := self._row(f"SELECT epoch, first {of_next_epoch}", (epoch,)):
            epoch, first = oldest
            (last,) = self._row("SELECT max(last) FROM batch WHERE epoch = ?", (epoch,))
            yield last + 1 - first

    def _used_bytes(self) -> int:
        pages, free, size = (
            self._row(f"PRAGMA {name}")[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def _position(self) -> Position:
        newest = "SELECT epoch, last FROM batch ORDER BY epoch DESC, last DESC LIMIT 1"
        row = self._row(newest)
        return position_of(row) if row else self._kept_from()

    def _kept_from(self) -> Position:
        return position_of(self._row("SELECT from_epoch, from_last FROM kept"))

    def _check_end(self, position: Position) -> None:
        """Raise OtherEpochError unless a batch ends at the position, or the kept ones begin."""
        query = "SELECT count(*) FROM batch WHERE epoch = ? AND last = ?"
        is_end = self._row(query, (position.epoch, position.next - 1))[0]
        if not is_end and position != self._kept_from():
            raise OtherEpochError(f"no batch ends at {position.epoch}-{position.next}")

    def _following(self, after: Position) -> Generator[Batch]:
        rows = self._database.execute(
            f"SELECT {BATCH} FROM batch WHERE (epoch, last) > (?, ?) ORDER BY epoch, last",
            (after.epoch, after.next - 1),
        )
        with closing(rows):
            yield from map(self._batch, rows)

    def _batch(self, row: Row) -> Batch:
        try:
            return batch_of(row)
        except DamagedRowError:
            end = row[1] + 1
            raise damage(self.path, f"the checksum of batch {row[0]}-{end} is wrong") from None

    def _gap(self, batch: Batch, position: Position) -> JournalFileError:
        epoch, number = position
        missing = f"no batch after {epoch}-{number}; the next is {batch.epoch}-{batch.first}"
        return damage(self.path, missing)

    def _finished_snapshots(self) -> list[Row]:
        """Return the rows of the finished snapshots, the newest first."""
        return self._database.execute(
            f"SELECT {SNAPSHOT} FROM snapshot WHERE chunks IS NOT NULL "
            "ORDER BY epoch DESC, last DESC, number DESC"
        ).fetchall()

    def _chunks(self, snapshot: Row) -> list[bytes] | None:
        """Return the chunks of a snapshot, or None if one is missing or damaged."""
        *_, count, _, number = snapshot
        rows = self._database.execute(
            "SELECT place, crc, data FROM chunk WHERE snapshot = ? ORDER BY place", (number,)
        )
        chunks: list[bytes] = []
        with closing(rows):
            for place, crc, data in rows:
                if place != len(chunks) or not is_whole_chunk(number, place, data, crc):
                    return None
                chunks.append(data)
        return chunks if len(chunks) == count else None

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """See one state of the file, whatever is written meanwhile."""
        with self._in_use, as_damaged(self.path), as_unavailable(self.path, "read"):
            if self._is_closed:
                raise UnavailableError(f"cannot read {self.path}: its reader is closed")
            self._database.execute("BEGIN")
            try:
                yield
            finally:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")  # nothing was written

    def _row(self, query: str, values: Sequence[object] = ()) -> Row:
        row: Row = self._database.execute(query, values).fetchone()
        return row


def _stored(row: Row) -> Stored:
    try:
        return Stored(position_of(row), [batch_of(row)])
    except DamagedRowError:
        return Stored(position_of(row), None)


def _size(batch: Batch) -> int:
    """Return the bytes that a batch counts when batches are read up to a limit."""
    return len(batch.body) + len(batch.unchanged) + BATCH_BYTES
