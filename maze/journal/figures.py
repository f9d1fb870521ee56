"""Figures about a journal."""

from typing import NamedTuple

from maze.core import Position


class Statistics(NamedTuple):
    """Figures about a journal."""

    kept_from: Position
    position: Position
    events: int
    """Sequence numbers of the batches that are kept."""
    used_bytes: int
    """Size of the pages of the file in use, which keeps free pages for later, and so may be larger;
    in Redis, about the memory for batches and snapshots."""
    snapshot: Position | None
    """Position of the newest finished snapshot."""


class Overview(NamedTuple):
    """Further figures, which take time to find out."""

    batches: int
    oldest: int | None
    """Unix time of the oldest batch's commit; None without a batch."""
    newest: int | None
    snapshots: list[tuple[Position, int, int]]
    """Position, Unix time and size in bytes of each finished snapshot, the newest first."""
