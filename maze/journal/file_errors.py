"""What can go wrong with a journal's file while it is open.

SQLite rolls a transaction back by itself when the disk is full or a write fails. The connection
stays usable, so the same append may be repeated later.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from maze.journal.journal import GoneError, JournalFileError, UnavailableError

_TEMPORARY = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
}
"""Primary result codes of failures that may pass without a restart."""


_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
"""Primary result codes of a file that is damaged."""


def damage(path: str, what: object) -> JournalFileError:
    """Return the error of a damaged file."""
    return JournalFileError(
        f"{path} is damaged: {what}. Restore it from a backup, or move it away to begin a new one"
    )


@contextmanager
def as_damaged(path: str) -> Iterator[None]:
    """Raise JournalFileError in place of SQLite's error of a damaged file."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF not in _DAMAGED:
            raise
        raise damage(path, error) from None


@contextmanager
def as_unavailable(path: str, action: str = "write") -> Iterator[None]:
    """Raise UnavailableError in place of a failure to write (or read) that may pass."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        if code & 0xFF not in _TEMPORARY:
            raise
        reason = f"{error} ({error.sqlite_errorname})"
        raise UnavailableError(f"cannot {action} {path}: {reason}") from None
    except OSError as error:
        raise UnavailableError(f"cannot {action} {path}: {error.strerror}") from None


class OpenFiles:
    """The database and its write-ahead log, as they were when the journal was opened.

    SQLite keeps both open. If one is removed or replaced, SQLite goes on to write the file that no
    longer has a name; what it writes is lost when the process ends.
    """

    def __init__(self, path: str) -> None:
        self._identities = {name: _identity(name) for name in (path, f"{path}-wal")}

    def check(self) -> None:
        """Raise GoneError unless the files at the paths are those that are open."""
        for name, identity in self._identities.items():
            try:
                found = _identity(name)
            except (FileNotFoundError, NotADirectoryError):
                raise GoneError(f"{name} was removed while the journal was open") from None
            if found != identity:
                raise GoneError(f"{name} was replaced while the journal was open")


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino
