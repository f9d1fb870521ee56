"""Positions in the stream, and the lines that tell a client its position.

A position is written ``epoch-next`` and stands for all events of that epoch with a sequence number
below ``next``. From its position a client knows what it has received or may have missed.
"""

from typing import NamedTuple

REACHED = b"="
"""First byte of a line with the position up to which all events were sent."""

MISSED = b"!"
"""First byte of the line that answers a position from which the server cannot continue."""


class Position(NamedTuple):
    """All events of ``epoch`` with a sequence number below ``next``."""

    epoch: int
    next: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.next}"


def position_line(mark: bytes, position: Position) -> bytes:
    """Return the line that tells a client a position; ``mark`` is REACHED or MISSED."""
    return b"%s|%d-%d\n" % (mark, *position)


def next_epoch(last: int, milliseconds: int) -> int:
    """Return the epoch that follows ``last`` and begins at the given Unix time in milliseconds.

    It exceeds ``last`` even if the clock was set back or both begin in the same millisecond.
    """
    return max(last + 1, milliseconds)
