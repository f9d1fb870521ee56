"""The follows of a graph as chunks of bytes.

A chunk is a sequence of records: follower, count, and as many users followed, all as signed
little-endian 64-bit integers. The follows of a user may be split over records and chunks.
"""

import struct
from collections.abc import Collection, Iterable, Iterator

CHUNK_BYTES = 2**20
"""Maximum size of a chunk (1 MiB) if the caller does not choose one."""

INTEGER_BYTES = 8
"""Size of the integers of a chunk."""

HEAD_INTEGERS = 2
"""Integers of a record before the users followed."""

MALFORMED = "malformed chunk of follows"
"""Message of the error; the caller knows which chunk it is."""

Record = tuple[int, Collection[int]]
"""(follower, users followed)"""


def chunks_of(follows: Iterable[Record], max_bytes: int) -> Iterator[bytes]:
    """Return follows as chunks of at most ``max_bytes``. Raise ValueError if that is too few."""
    room = room_of(max_bytes)
    integers: list[int] = []
    for user, all_followed in follows:
        followed = list(all_followed)
        while followed:
            count = min(len(followed), room - len(integers) - HEAD_INTEGERS)
            if count > 0:
                integers += [user, count, *followed[:count]]
                del followed[:count]
            else:
                yield _pack(integers)
                integers = []
    if integers:
        yield _pack(integers)


def room_of(max_bytes: int) -> int:
    """Return how many integers a chunk may have. Raise ValueError if a follow does not fit."""
    room = max_bytes // INTEGER_BYTES
    if room <= HEAD_INTEGERS:
        raise ValueError(f"{max_bytes} bytes are too few for a follow")
    return room


def records(chunk: bytes) -> list[Record]:
    """Return the records of a chunk. Raise ValueError if it is malformed."""
    size, rest = divmod(len(chunk), INTEGER_BYTES)
    if rest:
        raise ValueError(MALFORMED)
    integers = struct.unpack(f"<{size}q", chunk)
    found: list[Record] = []
    start = 0
    while start < size:
        follower, count = integers[start], integers[start + 1] if start + 1 < size else 0
        start += HEAD_INTEGERS
        followed = integers[start : start + count]
        if not 1 <= count == len(followed) or follower < 0 or min(followed) < 0:
            raise ValueError(MALFORMED)
        found.append((follower, followed))
        start += count
    return found


def _pack(integers: list[int]) -> bytes:
    return struct.pack(f"<{len(integers)}q", *integers)
