"""Parses and formats positions, which tell a client what it has received or may have missed.

A position is written ``epoch-next`` and stands for all events of that epoch with a sequence number
below ``next``. An id line may ask for positions (``7|``), and may give the position from which the
client wants to go on (``7|1764100000000-312``). This module knows only the form of these lines.
"""

from typing import NamedTuple

from maze.core.events import parse_number

REACHED = b"="
"""begins a line with the position up to which everything was sent"""

MISSED = b"!"
"""begins the line that answers a position from which the server cannot go on"""


class Position(NamedTuple):
    """All events of ``epoch`` with a sequence number below ``next``."""

    epoch: int
    next: int


class IdLine(NamedTuple):
    """The first line of a client: its user id, and whether it asks for positions."""

    user: int
    asks: bool = False
    position: Position | None = None
    """the position from which the client wants to go on"""


def parse_id_line(line: bytes) -> IdLine | None:
    """Parse an id line without its terminator; None if it is malformed."""
    field, bar, rest = line.partition(b"|")
    user = parse_number(field)
    if user is None:
        return None
    if not rest:
        return IdLine(user, bool(bar))
    first, dash, second = rest.partition(b"-")
    epoch, number = parse_number(first), parse_number(second)
    if not dash or epoch is None or number is None:
        return None
    return IdLine(user, True, Position(epoch, number))


def position_line(mark: bytes, position: Position) -> bytes:
    """Return the line that tells a client a position; ``mark`` is REACHED or MISSED."""
    return b"%s|%d-%d\n" % (mark, *position)


def next_epoch(last: int, milliseconds: int) -> int:
    """Return the epoch that follows ``last`` and begins at the given Unix time in milliseconds.

    It exceeds ``last`` even if the clock was set back or both begin in the same millisecond.
    """
    return max(last + 1, milliseconds)
