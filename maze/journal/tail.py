"""The tail of a journal: the batches that its server may still lose."""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from maze.core import Position
from maze.journal.journal import Batch, JournalError

SAFE_SECONDS = 2.0
"""Time after which what was appended is on the disk, with ``appendfsync everysec``: Redis writes
nothing new while an fsync takes longer."""

BATCH_BYTES = 400
"""Approximate bytes of memory for a batch besides its lines and marks."""


class LostError(JournalError):
    """The journal has lost batches that are no longer in the tail."""


class _Kept(NamedTuple):
    batch: Batch
    committed: float


class Tail:
    """Keeps the batches that were committed last, to append them again should they be lost.

    All times are of one monotonic clock. ``start`` is the journal's position.
    """

    def __init__(
        self, max_bytes: int, start: Position, *, safe_seconds: float = SAFE_SECONDS
    ) -> None:
        self.max_bytes = max_bytes
        self.safe_seconds = safe_seconds
        """Seconds for which the server may lose what it has confirmed."""
        self._kept: deque[_Kept] = deque()
        self._begin = start
        self.bytes = 0
        """Bytes of memory of the batches, about."""

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def position(self) -> Position:
        """The position after the last batch that was committed."""
        return self._kept[-1].batch.position if self._kept else self._begin

    @property
    def is_full(self) -> bool:
        """Whether nothing more may be committed before something is dropped."""
        return self.bytes >= self.max_bytes and bool(self._kept)

    def begin(self, position: Position) -> None:
        """Begin at a position; nothing was committed yet."""
        self._begin = position

    def add(self, batches: Iterable[Batch], now: float) -> None:
        """Keep batches that are committed, unless they are kept already."""
        for batch in batches:
            if batch.position > self.position:
                self._kept.append(_Kept(batch, now))
                self.bytes += _size(batch)

    def after(self, position: Position) -> list[Batch]:
        """Return the batches after a position of the journal. Raise LostError."""
        return [each.batch for each in islice(self._kept, self._index(position), None)]

    def renew(self, position: Position, now: float) -> None:
        """Note that the batches after a position were committed again: they may be lost again."""
        for index in range(self._index(position), len(self._kept)):
            self._kept[index] = self._kept[index]._replace(committed=now)

    def _index(self, position: Position) -> int:
        """Return how many batches are up to a position. Raise LostError."""
        if position >= self.position:
            return len(self._kept)
        index = bisect_right(self._kept, position, key=lambda each: each.batch.position)
        if position != (self._kept[index - 1].batch.position if index else self._begin):
            raise LostError(
                f"the journal has lost what follows {position.epoch}-{position.next}, and this "
                f"process has only what follows {self._begin.epoch}-{self._begin.next}"
            )
        return index

    def drop(self, seen: float) -> None:
        """Drop what is safe, given that the journal had everything at the time ``seen``.

        A batch is safe if the server that has it took writes ``safe_seconds`` after the commit. How
        long ago the commit was does not matter: the server may have crashed right after it.
        """
        while self._kept and seen - self._kept[0].committed >= self.safe_seconds:
            batch, _ = self._kept.popleft()
            self._begin = batch.position
            self.bytes -= _size(batch)

    def seconds_until_safe(self, now: float) -> float:
        """Return the time until the oldest batch can be dropped."""
        if not self._kept:
            return 0.0
        return max(0.0, self._kept[0].committed + self.safe_seconds - now)


def _size(batch: Batch) -> int:
    return len(batch.body) + len(batch.unchanged) + BATCH_BYTES
