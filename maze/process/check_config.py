"""Check the settings as a start does, without opening a port, writing or starting anything.

Only a start shows whether ports are free, hosts can be resolved, Redis or the ingest answers, and a
named pipe for rejects has a reader. The pipe is not opened to find out: closing it again would end
the input of its reader.
"""

import errno
import os
import stat

from maze.errors import JournalUnusableError, SettingsError
from maze.journal.journal import JournalError, JournalFileError
from maze.listener.tls_context import load_contexts
from maze.log.reject_file import cannot_open
from maze.pipeline.journal_store import redis_place
from maze.settings.combinations import combination_fault
from maze.settings.options import Settings


def check_settings(settings: Settings) -> None:
    """Raise MazeError if options contradict each other, or a file cannot be used."""
    if fault := combination_fault(settings):
        raise SettingsError(fault)
    load_contexts(settings)
    if settings.rejects:
        _check_reject_file(settings.rejects)
    try:
        if settings.is_in_redis:
            _check_redis(settings)
        elif settings.journal:
            _check_journal_file(settings.journal)
    except JournalError as error:
        raise JournalUnusableError(str(error)) from None


def _check_reject_file(path: str) -> None:
    """Raise RejectFileError if the reject file cannot be opened or created."""
    try:
        _check_can_write(path)
    except OSError as error:
        raise cannot_open(path, error) from None


def _check_redis(settings: Settings) -> None:
    """Read the certificates for Redis. Raise SettingsError or JournalError."""
    place = redis_place(settings)
    assert place
    try:
        from maze.journal.redis_connection import RedisClient  # noqa: PLC0415, it takes 10 MB
    except ModuleNotFoundError as missing:
        raise SettingsError(f"--journal {place.address} needs {missing.name}") from None
    RedisClient(place.address, settings.journal_timeout).close()


def _check_journal_file(path: str) -> None:
    """Raise JournalError if a journal cannot be opened or created."""
    from maze.journal.file import check_not_foreign  # noqa: PLC0415, SQLite takes 1.4 MB

    path = os.path.realpath(path)
    try:
        check_not_foreign(path)
        for each in (path, f"{path}.lock", f"{path}-wal"):  # the last one is made at each start
            _check_can_write(each)
    except OSError as error:
        raise JournalFileError(f"{path}: {error.strerror}") from None


def _check_can_write(path: str) -> None:
    """Raise OSError if a file cannot be written or, without one, cannot be created."""
    path = os.path.realpath(path)  # a symlink that leads to no file: it would be created there
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        path, needed = f"{os.path.dirname(path)}/", os.W_OK | os.X_OK
        os.stat(path)  # raises FileNotFoundError for the folder
    else:
        needed = os.W_OK
        if stat.S_ISDIR(mode):
            raise _os_error(errno.EISDIR)
        if stat.S_ISSOCK(mode):
            raise _os_error(errno.ENXIO)
    if not os.access(path, needed):
        raise _os_error(errno.EACCES)


def _os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
