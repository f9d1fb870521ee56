"""Which batches of a journal's file are removed.

SQLite uses the pages of what was removed for later batches. It does not give them back: the file
does not shrink, unless it is compacted.
"""

from collections.abc import Iterable
from typing import NamedTuple

from maze.core import Position

MAX_REMOVED_BATCHES = 1_000
"""Batches removed with one append (a few milliseconds)."""

MAX_REMOVED_BYTES = 16 * 2**20
"""Bytes at which an append removes no further batch (some 10 ms)."""

ROW_BYTES = 64
"""Approximate bytes of a batch's row apart from its lines."""


class KeptBatch(NamedTuple):
    """What decides whether a batch is removed."""

    position: Position
    committed: int
    """Unix time of its commit."""
    bytes: int


class Trimming(NamedTuple):
    """What is removed with one append."""

    before: Position | None
    """Batches up to this position are removed; None if none are."""
    is_complete: bool
    """Whether no more batches have to be removed now."""


class Retention(NamedTuple):
    """Keeps batches for ``seconds``, but only as many as fit into ``max_bytes``."""

    seconds: float
    max_bytes: int

    def trimming(
        self, oldest: Iterable[KeptBatch], limit: Position, now: int, used_bytes: int
    ) -> Trimming:
        """Choose batches to be removed, from the oldest batches in order.

        ``limit`` is the position of the older snapshot: what follows it is kept, whatever its age
        and size. ``used_bytes`` is what the file has in use.
        """
        excess = used_bytes - self.max_bytes
        before = None
        removed_bytes = 0
        for removed, batch in enumerate(oldest):
            is_old = now - batch.committed > self.seconds
            if batch.position > limit or not (is_old or removed_bytes < excess):
                break
            if removed == MAX_REMOVED_BATCHES or removed_bytes >= MAX_REMOVED_BYTES:
                return Trimming(before, is_complete=False)
            before = batch.position
            removed_bytes += batch.bytes + ROW_BYTES
        return Trimming(before, is_complete=True)
