"""Creates, locks and opens a journal's file.

``FILE.lock`` beside the file is locked with ``flock`` by the one process that may write. It is a
file of its own, because SQLite's locks on the database are lost when the process closes any other
descriptor of it. It stays when the process ends; only the lock on it counts. Reading needs no lock,
and a read-only connection never checkpoints the write-ahead log.
"""

import fcntl
import os
import sqlite3
import stat
import struct
from pathlib import Path
from urllib.parse import quote

from maze.core import Position
from maze.journal.journal import JournalFileError

APPLICATION_ID = 0x4D415A45
"""``MAZE``: marks the file as a journal."""

FORMAT = 1
"""Version of the tables below; a server does not open a file of a newer format."""

HEADER_BYTES = 100
"""Size of the header of a SQLite database, <https://www.sqlite.org/fileformat2.html>."""

_VERSION = struct.Struct(">i4xi")
"""In the header at byte 60: the user version, four other bytes, the application's id."""

CHECKPOINT_PAGES = 1_000
"""Size of the write-ahead log at which an append copies its pages to the database (4 MiB, some
20 ms). Four times as many pages took 60 ms, and appends were no faster overall."""

MAX_IDLE_LOG_BYTES = 64 * 2**20
"""Size to which the write-ahead log is cut when it begins anew; a long read lets it grow."""

BUSY_SECONDS = 1.0
"""Time for which a connection waits until another one has recovered the write-ahead log."""

# ``last`` is ``end`` - 1: the end of the largest number, 2**63, does not fit into an integer. The
# columns before the body can be read without it.
_TABLES = """
BEGIN IMMEDIATE;
PRAGMA user_version = {format};
CREATE TABLE batch (
    epoch INTEGER, last INTEGER, first INTEGER, committed INTEGER,
    max_users INTEGER, max_follows INTEGER, max_follows_per_user INTEGER,
    crc INTEGER, unchanged BLOB, body BLOB,
    PRIMARY KEY (epoch, last)
) WITHOUT ROWID;
CREATE TABLE snapshot (
    number INTEGER PRIMARY KEY AUTOINCREMENT, epoch INTEGER, last INTEGER, committed INTEGER,
    max_users INTEGER, max_follows INTEGER, max_follows_per_user INTEGER,
    chunks INTEGER, crc INTEGER
);
CREATE TABLE chunk (
    snapshot INTEGER, place INTEGER, crc INTEGER, data BLOB, PRIMARY KEY (snapshot, place)
);
CREATE TABLE kept (
    fence INTEGER, from_epoch INTEGER, from_last INTEGER, needs_snapshot INTEGER
);
INSERT INTO kept VALUES (0, {epoch}, {last}, 0);
COMMIT;
"""


class WriteLock:
    """The right to write a journal's file. At most one process has it; nothing waits for it."""

    def __init__(self, path: str) -> None:
        self._descriptor: int | None = _create_private(f"{path}.lock")
        if os.geteuid() == 0 and os.path.exists(path):
            # As SQLite does with its files: the owner must be able to lock what root locked once.
            status = os.stat(path)
            os.fchown(self._descriptor, status.st_uid, status.st_gid)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise JournalFileError(f"{path}: another process has it open") from None

    def release(self) -> None:
        """Let others take the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def open_to_write(path: str, start: Position, synchronous: str) -> sqlite3.Connection:
    """Open the file for the holder of the lock; if there is none, create it, to begin at ``start``.

    The file is created readable by its owner alone, and SQLite gives its other files the same mode.
    """
    if not os.path.exists(path):
        os.close(_create_private(path))
    # Transactions are begun and ended by the journal; one thread at a time uses the connection.
    database = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        if _is_empty(path, database):
            # First of all, and without the log: from now on the file itself says what it is.
            database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(f"PRAGMA synchronous = {synchronous}")
        database.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        database.execute(f"PRAGMA journal_size_limit = {MAX_IDLE_LOG_BYTES}")
        if _is_empty(path, database):
            tables = _TABLES.format(format=FORMAT, epoch=start.epoch, last=start.next - 1)
            database.executescript(tables)
    except BaseException:
        database.close()
        raise
    return database


def open_to_read(path: str) -> sqlite3.Connection:
    """Open the file read-only. Raise JournalFileError if there is no journal in it."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise JournalFileError(f"{path}: {error.strerror}") from None
    if not stat.S_ISREG(mode):
        raise JournalFileError(f"{path} is not a file")
    database = _connect(path, "mode=ro")
    try:
        if _is_empty(path, database):
            raise JournalFileError(f"{path} is empty: no journal was begun in it")
    except BaseException:
        database.close()
        raise
    return database


def check_not_foreign(path: str) -> None:
    """Raise JournalFileError if the file exists and is something else than a journal.

    Nothing is created, locked or changed, not even beside the file. Only the header is read: if the
    last process was killed, the rest may only make sense together with the write-ahead log.
    """
    if not os.path.lexists(path):
        return
    if not os.path.isfile(path):
        raise JournalFileError(f"{path} is not a file")
    if (names := os.stat(path).st_nlink) > 1:
        raise JournalFileError(f"{path} has {names} names, and a log belongs to one: remove others")
    with open(path, "rb") as file:
        header = file.read(HEADER_BYTES)
    if not header:
        return
    if not header.startswith(b"SQLite format 3\0") or len(header) < HEADER_BYTES:
        raise JournalFileError(f"{path} is not a journal: file is not a database")
    version, application = _VERSION.unpack_from(header, 60)
    _check_application(path, application, version, is_used=True)


def _is_empty(path: str, database: sqlite3.Connection) -> bool:
    """Return whether the file has no tables yet. Raise JournalFileError if it is no journal."""
    try:
        (tables,) = database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        (application,) = database.execute("PRAGMA application_id").fetchone()
        (version,) = database.execute("PRAGMA user_version").fetchone()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorname != "SQLITE_NOTADB":
            raise
        raise JournalFileError(f"{path} is not a journal: {error}") from None
    if os.path.getsize(path):
        _check_application(path, application, version, is_used=bool(tables or application))
    return not tables


def _check_application(path: str, application: int, version: int, *, is_used: bool) -> None:
    """Raise JournalFileError unless a database is a journal of a format known here."""
    if application != APPLICATION_ID:
        kind = "a SQLite database, but not" if is_used else "not"
        raise JournalFileError(f"{path} is {kind} a journal")
    if version > FORMAT:
        raise JournalFileError(f"{path} has format {version}; this server has {FORMAT}")


def _connect(path: str, parameters: str) -> sqlite3.Connection:
    uri = f"file:{quote(str(Path(path).absolute()))}?{parameters}"
    return sqlite3.connect(
        uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )


def _create_private(path: str) -> int:
    """Open a file to write; a new one is readable by its owner alone, whatever the umask is."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    status = os.fstat(descriptor)
    if not status.st_size and status.st_mode & 0o777 != 0o600 and status.st_uid == os.geteuid():
        os.fchmod(descriptor, 0o600)
    return descriptor
