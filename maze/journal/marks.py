"""Marks: which routed events changed nothing, as batches carry them.

An event is written before it is routed, and only routing shows whether a follow changed the graph.
So each batch carries the marks of events routed before it was made.
"""

import struct
from typing import NamedTuple

_COVERED = struct.Struct("<QQ")


class Marks(NamedTuple):
    """The marks of the numbers ``first`` to ``end`` - 1."""

    first: int
    end: int
    numbers: bytes
    """See ``maze.core.unchanged_numbers``."""

    def encode(self) -> bytes:
        """Return the marks as a batch carries them; none if they cover no number."""
        if self.first == self.end:
            return b""
        return _COVERED.pack(self.first, self.end) + self.numbers

    @classmethod
    def decode(cls, carried: bytes) -> "Marks | None":
        """Return the marks that a batch carries, if any."""
        if not carried:
            return None
        first, end = _COVERED.unpack_from(carried)
        return cls(first, end, carried[_COVERED.size :])
