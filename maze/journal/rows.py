"""The rows of a journal's tables. Each has a checksum over everything in it."""

import struct
from collections.abc import Sequence
from struct import pack
from typing import Any
from zlib import crc32

from maze.core import Position
from maze.journal.journal import Batch, Bounds

BATCH = (
    "epoch, last, first, committed, max_users, max_follows, max_follows_per_user, "
    "crc, unchanged, body"
)
"""Columns of a batch."""

SNAPSHOT = (
    "epoch, last, committed, max_users, max_follows, max_follows_per_user, chunks, crc, number"
)
"""Columns of a snapshot."""

NO_BOUNDS = (None, None, None)
_NO_NUMBERS = (-1, -1, -1)
_BATCH_HEAD = struct.Struct("<8q")

Row = Sequence[Any]


class DamagedRowError(Exception):
    """The row does not have the checksum that was stored with it."""


def batch_row(batch: Batch, committed: int) -> Row:
    """Return the row of a batch that is committed at a Unix time."""
    epoch, first, end, body, bounds, unchanged = batch
    head = (epoch, end - 1, first, committed, *(bounds or NO_BOUNDS))
    return (*head, _batch_crc(head, unchanged, body), unchanged, body)


def batch_of(row: Row) -> Batch:
    """Return the batch of a row. Raise DamagedRowError."""
    *head, crc, unchanged, body = row
    try:
        is_whole = _batch_crc(head, unchanged, body) == crc
    except (struct.error, TypeError):
        is_whole = False
    if not is_whole:
        raise DamagedRowError
    epoch, last, first, _, *bounds = head
    stored_bounds = None if bounds[0] is None else Bounds(*bounds)
    return Batch(epoch, first, last + 1, body, stored_bounds, unchanged)


def snapshot_crc(head: Row) -> int:
    """Return the checksum of a snapshot's position, time, bounds and number of chunks."""
    return crc32(pack("<7q", *head))


def is_whole_snapshot(row: Row) -> bool:
    """Return whether a snapshot's row is as it was written; its chunks are checked separately."""
    *head, crc, _ = row
    try:
        return bool(snapshot_crc(head) == crc)
    except struct.error:
        return False


def chunk_crc(snapshot: int, place: int, data: bytes) -> int:
    """Return the checksum of a snapshot's chunk."""
    return crc32(data, crc32(pack("<2q", snapshot, place)))


def is_whole_chunk(snapshot: int, place: int, data: object, crc: object) -> bool:
    """Return whether a snapshot's chunk is as it was written."""
    return isinstance(data, bytes) and chunk_crc(snapshot, place, data) == crc


def position_of(row: Row) -> Position:
    """Return the position of a row that begins with ``epoch`` and ``last``."""
    return Position(row[0], row[1] + 1)


def _batch_crc(head: Row, unchanged: bytes, body: bytes) -> int:
    numbers = head if head[4] is not None else (*head[:4], *_NO_NUMBERS)
    crc = crc32(_BATCH_HEAD.pack(*numbers, len(unchanged)))
    return crc32(body, crc32(unchanged, crc))
