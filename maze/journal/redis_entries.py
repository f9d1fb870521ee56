"""How a journal is stored in Redis: its keys, and the form of batches and snapshots.

Each batch and snapshot has a checksum over everything in it.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from zlib import crc32

from maze.core import Position
from maze.journal.journal import Batch, Bounds, JournalServerError

FIELD = b"b"
"""Name of the one field of a stream's entry."""

ENTRY_BYTES = 24
"""Approximate bytes of memory that Redis needs for an entry besides its value."""

# CRC, format, position before the entry, Unix time, bytes appended before it.
_HEAD = struct.Struct("<IBQQQQ")
# Whether bounds follow, sequence numbers, bytes of the marks and of the lines.
_BATCH = struct.Struct("<BQII")
_BOUNDS = struct.Struct("<QQQ")
_CHECKED = struct.Struct("<QQ")
_CRC = struct.Struct("<I")
# Position, Unix time, bounds, number of chunks, their bytes, CRC.
_SNAPSHOT = struct.Struct("<QQQQQQQQI")

HEAD_BYTES = _HEAD.size
"""Bytes at the beginning of a value that ``decode_head`` needs."""

FORMAT = 1
"""Version of the keys and entries; a server does not read a journal of a newer format."""


class Keys(NamedTuple):
    """The keys of a journal. All have the same hash tag, so a cluster keeps them together."""

    origin: str
    """Text: the format, and where the journal began, with an empty graph."""
    stream: str
    """An entry for each append, with ``epoch-end`` as its id."""
    lease: str
    """Text: fence, end and owner of the lease."""
    snapshots: str
    """Hash: the row of each finished snapshot by its number."""
    begun: str
    """Number of the snapshot begun last."""
    chunks: str
    """Prefix; the key of a snapshot's chunks ends with its number."""

    @classmethod
    def of(cls, name: str) -> "Keys":
        """Return the keys of the journal with a name."""
        if not name or "{" in name or "}" in name:
            raise JournalServerError(f"{name!r} is not a name for a journal")
        names = ("origin", "batches", "lease", "snapshots", "begun", "snapshot:")
        return cls(*(f"{{{name}}}:{each}" for each in names))


class DamagedError(Exception):
    """An entry, row or chunk does not have the checksum that was stored with it."""


class Head(NamedTuple):
    """What is known of an entry without its batches."""

    end: Position
    """The position after it, from its id."""
    before: Position
    """The position that it follows."""
    committed: int
    """Unix time of the commit."""
    appended: int
    """Bytes that had been appended to the journal before it."""
    bytes: int
    """Approximate bytes of memory that it takes."""

    @property
    def total(self) -> int:
        """Bytes that had been appended to the journal after it."""
        return self.appended + self.bytes


class Entry(NamedTuple):
    """Batches of one epoch that were appended together."""

    head: Head
    batches: list[Batch]


def encode_entry(
    batches: Sequence[Batch], before: Position, committed: int, appended: int
) -> bytes:
    """Return the value of an entry; see ``Head``. Its id is the position after it."""
    parts = [_HEAD.pack(0, FORMAT, *before, committed, appended)[_CRC.size :]]
    for _, first, end, body, bounds, unchanged in batches:
        parts.append(_BATCH.pack(bounds is not None, end - first, len(unchanged), len(body)))
        if bounds:
            parts.append(_BOUNDS.pack(*bounds))
        parts += (unchanged, body)
    return b"".join([_CRC.pack(_crc(*batches[-1].position, *parts)), *parts])


def decode_head(key: bytes, value: bytes, size: int) -> Head:
    """Return the head of an entry, of whose ``size`` bytes it is the first. Raise DamagedError."""
    try:
        _, _, epoch, number, committed, appended = _HEAD.unpack_from(value)
    except struct.error:
        raise DamagedError from None
    before = Position(epoch, number)
    return Head(parse_id(key), before, committed, appended, size + ENTRY_BYTES)


def decode_entry(entry: Any) -> Entry:
    """Return what a stream's entry has. Raise DamagedError."""
    key, fields = entry
    end = parse_id(key)
    if len(fields) != 2 or fields[0] != FIELD:
        raise DamagedError
    value = fields[1]
    head = decode_head(key, value, len(value))
    if value[: _CRC.size] != _CRC.pack(_crc(*end, memoryview(value)[_CRC.size :])):
        raise DamagedError
    return Entry(head, list(_batches(value, end)))


def _batches(value: bytes, end: Position) -> Iterator[Batch]:
    """Return the batches of a value that is whole."""
    parts = []
    at = _HEAD.size
    while at < len(value):
        has_bounds, numbers, marks, lines = _BATCH.unpack_from(value, at)
        at += _BATCH.size
        bounds = None
        if has_bounds:
            bounds = Bounds(*_BOUNDS.unpack_from(value, at))
            at += _BOUNDS.size
        unchanged = value[at : at + marks]
        at += marks
        parts.append((numbers, value[at : at + lines], bounds, unchanged))
        at += lines
    first = end.next - sum(numbers for numbers, *_ in parts)
    for numbers, body, bounds, unchanged in parts:
        yield Batch(end.epoch, first, first + numbers, body, bounds, unchanged)
        first += numbers


def position_of(entry: Any) -> Position:
    """Return the position of a stream's entry, from its id."""
    return parse_id(entry[0])


def parse_id(key: bytes) -> Position:
    """Return the position of an entry's id."""
    epoch, _, end = key.partition(b"-")
    return Position(int(epoch), int(end))


def id_of(position: Position) -> str:
    """Return the id of an entry that ends at a position."""
    return f"{position.epoch}-{position.next}"


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
