"""The command that copies a journal's file to Redis, so that a server can continue there."""

import os
import socket
from collections.abc import Callable
from contextlib import closing, suppress
from time import sleep

from maze.core import Position
from maze.journal.file import WriteLock
from maze.journal.journal import Batch, JournalError, Snapshot
from maze.journal.places import RedisPlace
from maze.journal.reader import SQLiteReader
from maze.journal.redis import GROUP_BYTES, RedisJournal

READ_BYTES = GROUP_BYTES
"""Approximate bytes of batches copied at a time."""

LEASE_SECONDS = 30.0
"""Time for which the lease is held with each append; a server may begin when it ends."""


def copy(path: str, place: RedisPlace, report: Callable[[str], None]) -> str:
    """Copy the journal in a file to Redis; describe what was done. Raise JournalError.

    The copy has the same positions, batches, marks and bounds, and the newest usable snapshot;
    ``report`` is told why a newer one is not usable. No server may write the file meanwhile.
    Repeating a copy that was cut off completes it.
    """
    with closing(SQLiteReader(path)) as original:
        lock = WriteLock(path)
        try:
            return _copy(original, place, report)
        finally:
            lock.release()


def _copy(original: SQLiteReader, place: RedisPlace, report: Callable[[str], None]) -> str:
    kept_from, end = original.kept_from(), original.position()
    snapshot = original.get_snapshot(report)
    # Without a snapshot, the kept batches begin with an empty graph. With one, the copy begins an
    # epoch earlier and is trimmed, so that a server knows that it needs the snapshot to start.
    start = Position(kept_from.epoch - 1, 1) if snapshot else kept_from
    with closing(RedisJournal(place.address, start, place.name)) as journal:
        if journal.kept_from() not in (start, kept_from) or journal.position() > end:
            raise JournalError(
                f"{journal.where} is not a copy of this file: give the copy another --name, or "
                "continue with the journal that is there"
            )
        owner = f"copy:{socket.gethostname()}:{os.getpid()}"
        fence = journal.try_lease(owner, LEASE_SECONDS)
        if fence is None:
            raise JournalError(
                f"{journal.where}: another process writes it; stop that one first, or wait "
                "half a minute if it was a copy that was killed"
            )
        try:
            if snapshot:
                begin = Batch(kept_from.epoch, kept_from.next, kept_from.next, b"")
                journal.append([begin], fence)
                journal.trim(kept_from, fence)
            _fill(journal, original, snapshot, fence)
            sleep(journal.safe_seconds())
            if journal.append([], fence) != end:
                raise JournalError(f"{journal.where} has lost events again")
        except JournalError as error:
            raise JournalError(
                f"{error}; the copy is not complete: repeat the command before a server uses it"
            ) from None
        finally:
            with suppress(JournalError):
                journal.release_lease(fence)
        events = journal.statistics().events
    return f"{events:,} events from {_shown(kept_from)} to {_shown(end)}\n"


def _fill(
    journal: RedisJournal, original: SQLiteReader, snapshot: Snapshot | None, fence: int
) -> None:
    """Append the batches that a copy lacks, then add the snapshot."""
    while batches := original.read(journal.position(), READ_BYTES):
        journal.append(batches, fence)
        journal.renew_lease(fence, LEASE_SECONDS)
    if snapshot and journal.statistics().snapshot != snapshot.position:
        journal.put_snapshot(snapshot.position, snapshot.bounds, snapshot.chunks, fence)


def _shown(position: Position) -> str:
    return f"{position.epoch}-{position.next}"
