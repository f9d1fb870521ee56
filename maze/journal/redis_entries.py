"""How batches and snapshots are stored in Redis. Each has a checksum over everything in it."""

import struct
from typing import Any, NamedTuple
from zlib import crc32

from maze.core import Position
from maze.journal.journal import Batch, Bounds

FIELD = b"b"
"""Name of the one field of a stream's entry."""

ENTRY_BYTES = 24
"""Approximate bytes of memory that Redis needs for an entry besides its value."""

# CRC, whether bounds follow, first number, Unix time of the commit, bytes of the marks.
_HEAD = struct.Struct("<IBQQI")
_BOUNDS = struct.Struct("<QQQ")
_CHECKED = struct.Struct("<QQ")
_CRC = struct.Struct("<I")
# Position, Unix time, bounds, number of chunks, their bytes, CRC.
_SNAPSHOT = struct.Struct("<QQQQQQQQI")


class DamagedError(Exception):
    """An entry, row or chunk does not have the checksum that was stored with it."""


class Entry(NamedTuple):
    """A batch and the Unix time of its commit."""

    batch: Batch
    committed: int


def encode_batch(batch: Batch, committed: int) -> bytes:
    """Return the value of a batch's entry; its id has epoch and end."""
    epoch, first, end, body, bounds, unchanged = batch
    head = _HEAD.pack(0, bounds is not None, first, committed, len(unchanged))[_CRC.size :]
    rest = [head, _BOUNDS.pack(*bounds) if bounds else b"", unchanged, body]
    return b"".join([_CRC.pack(_crc(epoch, end, *rest)), *rest])


def decode_entry(entry: Any) -> Entry:
    """Return the batch of a stream's entry. Raise DamagedError."""
    key, fields = entry
    epoch, end = parse_id(key)
    try:
        name, value = fields
        crc, has_bounds, first, committed, marks = _HEAD.unpack_from(value)
    except (struct.error, TypeError, ValueError):
        raise DamagedError from None
    if name != FIELD or crc != _crc(epoch, end, memoryview(value)[_CRC.size :]):
        raise DamagedError
    at = _HEAD.size
    bounds = None
    if has_bounds:
        bounds = Bounds(*_BOUNDS.unpack_from(value, at))
        at += _BOUNDS.size
    body = value[at + marks :]
    return Entry(Batch(epoch, first, end, body, bounds, value[at : at + marks]), committed)


def position_of(entry: Any) -> Position:
    """Return the position of a stream's entry, from its id."""
    return parse_id(entry[0])


def parse_id(key: bytes) -> Position:
    """Return the position of an entry's id."""
    epoch, _, end = key.partition(b"-")
    return Position(int(epoch), int(end))


class SnapshotRow(NamedTuple):
    """What is stored about a finished snapshot besides its chunks."""

    position: Position
    committed: int
    bounds: Bounds
    chunks: int
    size: int
    """Bytes of the chunks."""

    def encode(self) -> bytes:
        """Return the row as it is stored."""
        numbers = (*self.position, self.committed, *self.bounds, self.chunks, self.size)
        packed = _SNAPSHOT.pack(*numbers, 0)[: -_CRC.size]
        return packed + _CRC.pack(crc32(packed))

    @classmethod
    def decode(cls, stored: bytes) -> "SnapshotRow":
        """Return the row that is stored. Raise DamagedError."""
        try:
            epoch, number, committed, *bounds, chunks, size, crc = _SNAPSHOT.unpack(stored)
        except struct.error:
            raise DamagedError from None
        if crc != crc32(stored[: -_CRC.size]):
            raise DamagedError
        return cls(Position(epoch, number), committed, Bounds(*bounds), chunks, size)


def encode_chunk(snapshot: int, place: int, data: bytes) -> bytes:
    """Return a snapshot's chunk as it is stored."""
    return _CRC.pack(_crc(snapshot, place, data)) + data


def decode_chunk(snapshot: int, place: int, stored: bytes) -> bytes:
    """Return the chunk that is stored. Raise DamagedError."""
    data = stored[_CRC.size :]
    if stored[: _CRC.size] != _CRC.pack(_crc(snapshot, place, data)):
        raise DamagedError
    return data


def _crc(first: int, second: int, *parts: bytes | memoryview) -> int:
    crc = crc32(_CHECKED.pack(first, second))
    for part in parts:
        crc = crc32(part, crc)
    return crc
