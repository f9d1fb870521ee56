"""A journal in a file: a SQLite database with a row per batch.

An append is one transaction in write-ahead-log mode. With ``synchronous=FULL`` it is durable when
it returns. All calls block, so they belong in a native thread. The file has one writing connection,
because SQLite up to 3.51.2 may lose data if several connections write or checkpoint.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

from maze.core import Position
from maze.journal.file import WriteLock, check_not_foreign, open_to_write
from maze.journal.file_errors import OpenFiles, as_damaged, as_unavailable
from maze.journal.journal import (
    Batch,
    Bounds,
    FencedError,
    Journal,
    JournalFileError,
    SnapshotReplacedError,
    check_kept,
    to_append,
)
from maze.journal.reader import SQLiteReader
from maze.journal.retention import KeptBatch, Retention
from maze.journal.rows import batch_row, chunk_crc, position_of, snapshot_crc

LARGEST = 2**63 - 1
"""Largest sequence number, and largest integer of SQLite."""

MAX_REMOVED_CHUNKS = 8
"""Chunks of removed snapshots that are removed with one append (about 10 ms)."""


class SQLiteJournal(SQLiteReader, Journal):
    """Keeps batches in a file until they are trimmed.

    ``start`` is the position at which a new file begins. With a ``retention``, appends remove old
    batches. ``clock`` returns the Unix time. Raise JournalFileError.
    """

    def __init__(
        self,
        path: str,
        start: Position,
        *,
        synchronous: str = "FULL",
        retention: Retention | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._retention = retention
        self._clock = clock
        self._tidied: int | None = None
        self.needed_from: Position | None = None
        """Batches after this position are not removed: someone has yet to read them."""
        self.held_back: Position | None = None
        """Where the kept batches would begin if ``needed_from`` did not prevent it; else None."""
        if os.path.islink(path):
            path = os.path.realpath(path)  # SQLite keeps its log beside the file itself
        try:
            check_not_foreign(path)
            self._lock = WriteLock(path)
            try:
                self._open(path, start, synchronous)
            except BaseException:
                self._lock.release()
                raise
        except sqlite3.Error as error:
            is_busy = error.sqlite_errorname == "SQLITE_BUSY"
            reason = "another process has it open" if is_busy else error
            raise JournalFileError(f"{path}: {reason}") from None
        except OSError as error:
            raise JournalFileError(f"{path}: {error.strerror}") from None

    def _open(self, path: str, start: Position, synchronous: str) -> None:
        with as_damaged(path):
            super().__init__(path, open_to_write(path, start, synchronous))
        try:
            self.check_newest()
            self._files = OpenFiles(path)
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Close the file, and let another process write it."""
        super().close()
        self._lock.release()

    def lease(self) -> int:
        """Take the lease, and return its fence."""
        with self._transaction():
            self._database.execute("UPDATE kept SET fence = fence + 1")
            (fence,) = self._row("SELECT fence FROM kept")
        return int(fence)

    def append(self, batches: Sequence[Batch], fence: int) -> Position:
        """Append batches in one transaction; see ``Journal.append``."""
        now = int(self._clock())
        with self._transaction():
            self._check(fence)
            position = self._position()
            missing = to_append(batches, position)
            self._database.executemany(
                "INSERT INTO batch VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [batch_row(batch, now) for batch in missing],
            )
            self._tidy(now)
        return missing[-1].position if missing else position

    def trim(self, before: Position, fence: int) -> None:
        """Remove the batches that end at or below a position."""
        with self._transaction():
            self._check(fence)
            self._remove(before)

    def begin_snapshot(self, position: Position, bounds: Bounds, fence: int) -> "SQLiteSnapshot":
        """Begin a snapshot; see ``Journal.begin_snapshot``."""
        with self._transaction():
            self._check(fence)
            check_kept(position, self._kept_from(), self._position())
            self._check_end(position)
            self._database.execute("DELETE FROM snapshot WHERE chunks IS NULL")
            number = self._database.execute(
                "INSERT INTO snapshot (epoch, last) VALUES (?, ?)",
                (position.epoch, position.next - 1),
            ).lastrowid
        return SQLiteSnapshot(self, number or 0, position, bounds, fence)

    def add_chunk(self, number: int, place: int, chunk: bytes, fence: int) -> None:
        """Add a chunk to an unfinished snapshot; see ``SnapshotWriter.add``."""
        with self._transaction():
            self._check_unfinished(number, fence)
            self._database.execute(
                "INSERT INTO chunk VALUES (?, ?, ?, ?)",
                (number, place, chunk_crc(number, place, chunk), chunk),
            )

    def finish_snapshot(
        self, number: int, position: Position, bounds: Bounds, chunks: int, fence: int
    ) -> None:
        """Keep a snapshot and the one before; see ``SnapshotWriter.finish``.

        The chunks of removed snapshots are removed little by little, with later appends.
        """
        now = int(self._clock())
        crc = snapshot_crc((position.epoch, position.next - 1, now, *bounds, chunks))
        with self._transaction():
            self._check_unfinished(number, fence)
            kept_from = self._kept_from()
            check_kept(position, kept_from, self._position())
            self._database.execute(
                "UPDATE snapshot SET committed = ?, max_users = ?, max_follows = ?, "
                "max_follows_per_user = ?, chunks = ?, crc = ? WHERE number = ?",
                (now, *bounds, chunks, crc, number),
            )
            for *_, older in self._finished_snapshots()[2:]:
                self._database.execute("DELETE FROM snapshot WHERE number = ?", (older,))
            if position == kept_from:
                self._database.execute("UPDATE kept SET needs_snapshot = 1")

    def compact(self, fence: int) -> None:
        """Give free pages back to the file system; this needs as much space again meanwhile."""
        with self._transaction():
            self._check(fence)
            self._database.execute("DELETE FROM snapshot WHERE chunks IS NULL")
            self._database.execute(
                "DELETE FROM chunk WHERE snapshot NOT IN (SELECT number FROM snapshot)"
            )
        with as_damaged(self.path), as_unavailable(self.path):
            self._database.execute("VACUUM")
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _tidy(self, now: int) -> None:
        """Once a second, remove some of what is old; go on with the next append if more is left."""
        if now == self._tidied:
            return
        is_complete = self._trim_old(now)
        removed = self._database.execute(
            "DELETE FROM chunk WHERE rowid IN (SELECT rowid FROM chunk "
            "WHERE snapshot NOT IN (SELECT number FROM snapshot) LIMIT ?)",
            (MAX_REMOVED_CHUNKS,),
        ).rowcount
        if is_complete and removed < MAX_REMOVED_CHUNKS:
            self._tidied = now

    def _trim_old(self, now: int) -> bool:
        """Remove some batches that are older than the retention; return whether all are removed.

        Nothing is removed before there are two snapshots: one of them may be damaged.
        """
        snapshots = self._finished_snapshots()
        if self._retention is None or len(snapshots) < 2:
            return True
        rows = self._database.execute(
            "SELECT epoch, last, committed, length(unchanged) + length(body) FROM batch "
            "ORDER BY epoch, last"
        )
        with closing(rows):
            oldest = (KeptBatch(position_of(row), row[2], row[3]) for row in rows)
            limit = position_of(snapshots[-1])
            trimming = self._retention.trimming(oldest, limit, now, self._used_bytes())
        before, needed_from = trimming.before, self.needed_from
        is_held_back = before is not None and needed_from is not None and before > needed_from
        self.held_back = before if is_held_back else None
        if is_held_back:
            before = needed_from
        if before is not None:
            self._remove(before)
        return is_held_back or trimming.is_complete

    def _remove(self, before: Position) -> None:
        edge = self._row(
            "SELECT epoch, last FROM batch WHERE (epoch, last) <= (?, ?) "
            "ORDER BY epoch DESC, last DESC LIMIT 1",
            (before.epoch, min(before.next - 1, LARGEST)),
        )
        if edge:
            self._database.execute("DELETE FROM batch WHERE (epoch, last) <= (?, ?)", edge)
            self._database.execute(
                "UPDATE kept SET from_epoch = ?, from_last = ?, needs_snapshot = 1", edge
            )

    def _check(self, fence: int) -> None:
        if self._row("SELECT fence FROM kept") != (fence,):
            raise FencedError

    def _check_unfinished(self, number: int, fence: int) -> None:
        self._check(fence)
        query = "SELECT count(*) FROM snapshot WHERE number = ? AND chunks IS NULL"
        if not self._row(query, (number,))[0]:
            raise SnapshotReplacedError("a later snapshot was begun")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with as_damaged(self.path), as_unavailable(self.path):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._files.check()
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:  # after some errors SQLite has rolled back
                    self._database.execute("ROLLBACK")
                raise


class SQLiteSnapshot:
    """A snapshot that is being written, a transaction for each chunk."""

    def __init__(
        self, journal: SQLiteJournal, number: int, position: Position, bounds: Bounds, fence: int
    ) -> None:
        self._journal = journal
        self._number = number
        self._position = position
        self._bounds = bounds
        self._fence = fence
        self._chunks = 0

    def add(self, chunk: bytes) -> None:
        """Add a chunk; see ``SnapshotWriter.add``."""
        self._journal.add_chunk(self._number, self._chunks, chunk, self._fence)
        self._chunks += 1

    def finish(self) -> None:
        """Keep the snapshot; see ``SnapshotWriter.finish``."""
        self._journal.finish_snapshot(
            self._number, self._position, self._bounds, self._chunks, self._fence
        )
