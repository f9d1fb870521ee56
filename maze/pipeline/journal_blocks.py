"""Blocks of the journal: decoded and marked once, for all clients that replay them.

A client that was away replays thousands of batches, and after an outage a thousand clients replay
the same ones. So what was read for one is kept for the others, up to a bound, until nobody replays.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable
from operator import attrgetter
from typing import NamedTuple, Protocol

from sortedcontainers import SortedDict

from maze.core import Decoder, Position, Recent, Run, mark_unchanged
from maze.journal.journal import Batch
from maze.journal.marks import Marks
from maze.journal.state import LINE_LIMIT
from maze.net.native_thread import run_in_thread

READ_BYTES = 256 * 1024
"""Bytes of batches read at a time (decoded in 1 ms with the compiled core)."""

BLOCK_BYTES = 500
"""Memory of a block, and of each of its runs, besides the events."""

_end_of = attrgetter("end")


class Reader(Protocol):
    """The part of a journal that is used here."""

    def read(self, after: Position, max_bytes: int) -> list[Batch]:
        """Return the batches after a position; see ``Journal.read``."""


class Block(NamedTuple):
    """The runs with the sequence numbers ``first`` to ``end`` - 1, and with their marks.

    The last run may go on above ``end``; there, marks may be missing.
    """

    first: int
    end: int
    runs: list[Run]

    def runs_from(self, number: int) -> list[Run]:
        """Return the runs that end above a number."""
        return self.runs[bisect_right(self.runs, number, key=_end_of) :]

    @property
    def memory(self) -> int:
        """Memory of the block, in bytes."""
        return BLOCK_BYTES + sum(run.memory[1] + BLOCK_BYTES for run in self.runs)


class JournalBlocks:
    """Reads blocks, and keeps those used last in at most ``max_bytes`` of memory, or one.

    ``unwritten`` returns the marks that the journal does not have yet.
    """

    def __init__(
        self,
        reader: Reader,
        unwritten: Callable[[], list[Marks]],
        recent: Recent,
        max_bytes: int,
    ) -> None:
        self._reader = reader
        self._unwritten = unwritten
        self._recent = recent
        self._max_bytes = max_bytes
        self._epoch = 0
        self._kept: SortedDict[int, Block] = SortedDict()  # by first number
        self._last_used: OrderedDict[int, None] = OrderedDict()  # first numbers, the oldest first
        self.bytes = 0
        """Memory of the blocks that are kept."""

    def get(self, position: Position) -> Block:
        """Return the block with the event at a position of the present epoch; this may wait.

        The position must be below everything routed so far. One caller at a time. Raise
        JournalError if what follows the position is no longer kept.
        """
        epoch, number = position
        if epoch != self._epoch:
            self.clear()
            self._epoch = epoch
        place = self._kept.bisect_right(number) - 1
        if place >= 0 and (block := self._kept.peekitem(place)[1]).end > number:
            self._last_used.move_to_end(block.first)
            return block
        routed = self._recent.end
        block, is_whole = run_in_thread(
            _read, self._reader, position, routed, self._unwritten(), READ_BYTES
        )
        if is_whole:
            self._keep(block)
        return block

    def clear(self) -> None:
        """Forget all blocks."""
        self._kept.clear()
        self._last_used.clear()
        self.bytes = 0

    def _keep(self, block: Block) -> None:
        if replaced := self._kept.get(block.first):
            self.bytes -= replaced.memory
        self._kept[block.first] = block
        self._last_used[block.first] = None
        self._last_used.move_to_end(block.first)
        self.bytes += block.memory
        while self.bytes > self._max_bytes and len(self._kept) > 1:
            oldest, _ = self._last_used.popitem(last=False)
            self.bytes -= self._kept.pop(oldest).memory


def _read(
    reader: Reader, position: Position, routed: int, unwritten: list[Marks], read_bytes: int
) -> tuple[Block, bool]:
    """Read the block at a position, and return whether it ends where a batch does.

    The marks of a batch are in later ones, so read on until they are found; what was read beyond
    the block is read again. All numbers below ``routed`` have their marks in the journal or in
    ``unwritten``.
    """
    found: list[Batch] = []
    marks: list[Marks] = []
    covered = position.next
    while True:
        after = found[-1].position if found else position
        batches = [
            batch for batch in reader.read(after, read_bytes) if batch.epoch == position.epoch
        ]
        found += batches
        carried = (Marks.decode(batch.unchanged) for batch in batches)
        marks += (each for each in carried if each is not None)
        if not batches:
            marks += unwritten
            covered = routed
        elif marks:
            covered = min(marks[-1].end, routed)
        if not batches or covered >= min(found[0].end, routed):
            break
    return _block(found, marks, covered)


def _block(found: list[Batch], marks: list[Marks], covered: int) -> tuple[Block, bool]:
    """Decode the batches whose marks are all known or, if there is none, a part of the first."""
    count = max(1, bisect_right(found, covered, key=_end_of))
    first, end = found[0].first, found[count - 1].end
    runs, _ = Decoder(LINE_LIMIT).feed(b"".join(batch.body for batch in found[:count]))
    for each in marks:
        mark_unchanged(runs, each.numbers)
    return Block(first, min(end, covered), runs), end <= covered
