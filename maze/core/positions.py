"""Positions: how a client that asks for it knows what it has, and what it has missed.

A position is ``epoch-next``: everything below sequence number ``next``, in one life of the
sequence. The id line of a client may ask for positions (``7|``), and may say from where on the
client wants to go on (``7|1764100000000-312``). This module knows the form of these lines alone.
"""

from typing import NamedTuple

from maze.core.events import parse_number

REACHED = b"="
"""begins a line that says up to where everything was sent"""

MISSED = b"!"
"""begins the line that answers a position from which the server cannot go on"""


class Position(NamedTuple):
    """Everything below ``next``, in the life of the sequence that ``epoch`` names."""

    epoch: int
    next: int


class IdLine(NamedTuple):
    """What a client says first: its user id, and whether it asks for positions."""

    user: int
    asks: bool = False
    position: Position | None = None
    """where the client wants to go on"""


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
    """Return the epoch that follows ``last``, begun at that Unix time.

    No epoch is used twice, also where the clock is set back or a new one begins at once.
    """
    return max(last + 1, milliseconds)
