"""The closed list of reasons for which a line or a number is not routed, or not in full."""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why something was not routed; the same word in the log and in every count."""

    BAD_SEQUENCE = "bad_sequence"
    """the first field is not a sequence number"""
    BAD_TYPE = "bad_type"
    """the second field is none of F, U, B, P, S"""
    BAD_FIELDS = "bad_fields"
    """a field is missing or there is one too many"""
    BAD_USER = "bad_user"
    """a user field is not a user id"""
    LINE_TOO_LONG = "line_too_long"
    """the line is longer than the limit; its source is closed"""
    HALF_LINE = "half_line"
    """the source left in the middle of a line"""
    DUPLICATE = "duplicate"
    """the same event again while the first one still waits to be routed"""
    CONFLICT = "conflict"
    """other bytes under a number that still waits to be routed; the first ones stay"""
    STALE = "stale"
    """the number was routed, or given up, before"""
    SKIPPED = "skipped"
    """numbers that were given up: they never came"""
    GRAPH_FULL = "graph_full"
    """a follow for which the graph has no room: it was notified, but does not hold"""


@dataclass(frozen=True, slots=True)
class Reject:
    """A line, or a range of numbers, that is not routed; or a follow that is not kept."""

    reason: Reason
    line: bytes = b""
    """the bytes as they came, terminator included; empty for a range"""
    sequence: int | None = None
    """the number, or the first of the range, where there is one"""
    count: int = 1
    """how many numbers the range has"""
