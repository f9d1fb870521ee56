"""A journal in a file: a SQLite database with a row per batch.

An append is one transaction in write-ahead-log mode. With ``synchronous=FULL`` it is durable when
it returns. All calls block, so they belong in a native thread. The file has one writing connection,
because SQLite up to 3.51.2 may lose data if several connections write or checkpoint.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from zlib import crc32

from maze.core import Position
from maze.journal.journal import (
    Batch,
    FencedError,
    JournalError,
    OtherEpochError,
    check_kept,
    to_append,
)

APPLICATION_ID = 0x4D415A45
"""``MAZE``: marks the file as a journal."""

LARGEST = 2**63 - 1
"""Largest sequence number, and largest integer of SQLite."""

FORMAT = 1
"""Version of the tables below; a server does not open a file of a newer format."""

# ``last`` is ``end`` - 1: the end of the largest number, 2**63, does not fit into an integer.
_TABLES = f"""
BEGIN IMMEDIATE;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
CREATE TABLE batch (
    epoch INTEGER, first INTEGER, last INTEGER, body BLOB, crc INTEGER,
    PRIMARY KEY (epoch, last)
) WITHOUT ROWID;
CREATE TABLE kept (fence INTEGER, from_epoch INTEGER, from_last INTEGER);
INSERT INTO kept VALUES (0, :epoch, :last);
COMMIT;
"""


class JournalFileError(JournalError):
    """The file is not a journal, is of a newer format, or is damaged; it is left as it is."""


class SQLiteJournal:
    """Keeps batches in a file until they are trimmed.

    ``start`` is the position at which a new file begins. Raise JournalFileError, OSError or
    sqlite3.Error.
    """

    def __init__(self, path: str, start: Position, *, synchronous: str = "FULL") -> None:
        self._path = path
        # Transactions are begun and ended below; one native thread at a time uses the connection.
        self._database = sqlite3.connect(
            path, timeout=0, isolation_level=None, check_same_thread=False
        )
        try:
            self._open(start, synchronous)
        except BaseException:
            self._database.close()
            raise

    def _open(self, start: Position, synchronous: str) -> None:
        try:
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            (tables,) = self._row("SELECT count(*) FROM sqlite_schema")
            (application,) = self._row("PRAGMA application_id")
            (version,) = self._row("PRAGMA user_version")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY":
                raise
            raise JournalFileError(f"{self._path}: another process has it open") from None
        except sqlite3.DatabaseError as error:
            raise JournalFileError(f"{self._path}: {error}") from None
        if tables and application != APPLICATION_ID:
            raise JournalFileError(f"{self._path} is a SQLite database, but not a journal")
        if version > FORMAT:
            raise JournalFileError(f"{self._path} has format {version}; this server has {FORMAT}")
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute(f"PRAGMA synchronous = {synchronous}")
        if not tables:
            last = start.next - 1
            script = _TABLES.replace(":epoch", str(start.epoch)).replace(":last", str(last))
            self._database.executescript(script)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def lease(self) -> int:
        """Take the lease, and return its fence."""
        with self._transaction():
            self._database.execute("UPDATE kept SET fence = fence + 1")
            (fence,) = self._row("SELECT fence FROM kept")
        return int(fence)

    def position(self) -> Position:
        """Return the position after the last batch."""
        newest = "SELECT epoch, last FROM batch ORDER BY epoch DESC, last DESC LIMIT 1"
        row = self._database.execute(newest).fetchone()
        return _position(row or self._row("SELECT from_epoch, from_last FROM kept"))

    def append(self, batches: Sequence[Batch], fence: int) -> Position:
        """Append batches in one transaction; see ``Journal.append``."""
        with self._transaction():
            self._check(fence)
            missing = to_append(batches, self.position())
            self._database.executemany(
                "INSERT INTO batch VALUES (?, ?, ?, ?, ?)",
                [(b.epoch, b.first, b.end - 1, b.body, crc32(b.body)) for b in missing],
            )
        return self.position()

    def read(self, after: Position, max_bytes: int) -> list[Batch]:
        """Return the batches after a position; see ``Journal.read``. Raise JournalFileError."""
        kept_from = _position(self._row("SELECT from_epoch, from_last FROM kept"))
        check_kept(after, kept_from, self.position())
        batches = self._following(after)
        first = next(batches, None)
        is_within = first is not None and first[:2] <= after
        if not (is_within or after == kept_from or self._ends_at(after)):
            raise OtherEpochError(f"epoch {after.epoch} never reached {after.next}")
        if first is None:
            return []
        found = [first]
        size = len(first.body)
        for batch in batches:
            size += len(batch.body)
            if size > max_bytes:
                break
            found.append(batch)
        return found

    def trim(self, before: Position, fence: int) -> None:
        """Remove the batches that end at or below a position."""
        with self._transaction():
            self._check(fence)
            edge = self._database.execute(
                "SELECT epoch, last FROM batch WHERE (epoch, last) <= (?, ?) "
                "ORDER BY epoch DESC, last DESC LIMIT 1",
                (before.epoch, min(before.next - 1, LARGEST)),
            ).fetchone()
            if edge:
                self._database.execute("DELETE FROM batch WHERE (epoch, last) <= (?, ?)", edge)
                self._database.execute("UPDATE kept SET from_epoch = ?, from_last = ?", edge)

    def _following(self, after: Position) -> Iterator[Batch]:
        rows = self._database.execute(
            "SELECT epoch, first, last, body, crc FROM batch WHERE (epoch, last) > (?, ?) "
            "ORDER BY epoch, last",
            (after.epoch, after.next - 1),
        )
        for epoch, first, last, body, crc in rows:
            if not isinstance(body, bytes) or crc32(body) != crc:
                raise JournalFileError(f"{self._path}: batch {epoch}-{last + 1} is damaged")
            yield Batch(epoch, first, last + 1, body)

    def _ends_at(self, position: Position) -> bool:
        """Return whether a batch ends at a position."""
        query = "SELECT count(*) FROM batch WHERE epoch = ? AND last = ?"
        return bool(self._row(query, (position.epoch, position.next - 1))[0])

    def _check(self, fence: int) -> None:
        if (fence,) != self._row("SELECT fence FROM kept"):
            raise FencedError

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    def _row(self, query: str, values: Sequence[object] = ()) -> tuple[int, ...]:
        row: tuple[int, ...] = self._database.execute(query, values).fetchone()
        return row


def _position(row: Sequence[int]) -> Position:
    epoch, last = row
    return Position(epoch, last + 1)
