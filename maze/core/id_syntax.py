"""Parses the id line, the first line that a client sends.

It contains a user id. It may also request positions (``7|``), or state the position from which the
client wants to continue (``7|1764100000000-312``).
"""

from typing import NamedTuple

from maze.core.events import NUMBER_LIMIT, parse_number
from maze.core.positions import Position


class IdLine(NamedTuple):
    """The first line of a client: its user id, and whether it requests positions."""

    user: int
    asks: bool = False
    position: Position | None = None
    """Position from which the client wants to continue."""


def parse_id_line(line: bytes) -> IdLine | None:
    """Parse an id line without its terminator; return None if it is malformed."""
    field, bar, rest = line.partition(b"|")
    user = parse_number(field)
    if user is None:
        return None
    if not rest:
        return IdLine(user, bool(bar))
    first, dash, second = rest.partition(b"-")
    epoch, number = parse_number(first), _parse_next(second)
    if not dash or epoch is None or number is None:
        return None
    return IdLine(user, True, Position(epoch, number))


def _parse_next(field: bytes) -> int | None:
    """Return the value of ``next``, which may be one more than the largest sequence number."""
    is_limit = field.isdigit() and field.lstrip(b"0") == b"%d" % NUMBER_LIMIT
    return NUMBER_LIMIT if is_limit else parse_number(field)
