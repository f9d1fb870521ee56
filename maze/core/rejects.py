"""Rejects and their reasons: lines and numbers not routed, and follows not added to the graph.

An undelivered event is no reject, but the reject file may record both.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class Reason(StrEnum):
    """Why something is rejected. The list is closed; the log and the counters use these values."""

    BAD_SEQUENCE = "bad_sequence"
    """The first field is not a sequence number."""
    BAD_TYPE = "bad_type"
    """The second field is none of F, U, B, P, S."""
    BAD_FIELDS = "bad_fields"
    """A field is missing, or there are too many."""
    BAD_USER = "bad_user"
    """A user field is not a user id."""
    LINE_TOO_LONG = "line_too_long"
    """The line is longer than the limit; its source is closed."""
    HALF_LINE = "half_line"
    """The source ended the stream in the middle of a line."""
    DUPLICATE = "duplicate"
    """The same event is still waiting to be routed."""
    CONFLICT = "conflict"
    """A different event with this number is still waiting to be routed; that one is kept."""
    STALE = "stale"
    """The number has already been routed or given up."""
    SKIPPED = "skipped"
    """The numbers were missing and have been given up."""
    GRAPH_FULL = "graph_full"
    """The graph has no room for the follow: the user was notified, but it has no effect."""


@dataclass(frozen=True, slots=True)
class Reject:
    """A line or range of numbers that is not routed, or a follow that has no effect."""

    reason: Reason
    line: bytes = b""
    """The line as it was read, with its terminator; empty for a range."""
    sequence: int | None = None
    """The sequence number, or the first of the range; None if the line has none."""
    count: int = 1
    """Number of sequence numbers in the range."""


@dataclass(frozen=True, slots=True)
class Undelivered:
    """A private message or a follow that was routed, but whose recipient was not connected."""

    reason: ClassVar[str] = "not_connected"
    count: ClassVar[int] = 1
    line: bytes
    """The line as it was read, with its terminator."""
    sequence: int
