"""Journal blocks: decoded runs with their marks, shared by all replays that read the journal.

One replay may need thousands of batches, and after an outage a thousand replays need the same ones.
So the blocks read for one replay are kept for the others, in bounded memory, until no replay reads
the journal.
"""

from bisect import bisect_left, bisect_right
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
"""Maximum bytes of batches per read, unless one batch is larger (decoded in 1 ms, compiled)."""

BLOCK_BYTES = 500
"""Overhead of a block, and of each of its runs, in bytes, on top of the events."""

_end_of = attrgetter("end")
_first_of = attrgetter("first")


class Reader(Protocol):
    """The part of a journal that is used here."""

    def read(self, after: Position, max_bytes: int) -> list[Batch]:
        """Return the batches after a position; see ``Journal.read``."""


class Block(NamedTuple):
    """The runs with the sequence numbers ``first`` to ``end`` - 1, and with their marks.

    The last run may extend past ``end``; the events beyond may lack their marks.
    """

    first: int
    end: int
    runs: list[Run]

    def runs_from(self, number: int) -> list[Run]:
        """Return the runs with events at or above a number."""
        return self.runs[bisect_right(self.runs, number, key=_end_of) :]

    @property
    def memory(self) -> int:
        """Memory of the block, in bytes."""
        return BLOCK_BYTES + sum(run.memory[1] + BLOCK_BYTES for run in self.runs)


class JournalBlocks:
    """Reads blocks, and caches the most recently used.

    The cached blocks take at most ``max_bytes`` of memory; the last one stays even if it takes
    more. ``recent`` tells up to which number events have been routed. ``unwritten`` returns the
    marks that the journal does not have yet.
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
        self._last_used: OrderedDict[int, None] = OrderedDict()
        """First numbers, least recently used first."""
        self.bytes = 0
        """Memory of the blocks that are kept."""

    def get(self, position: Position) -> Block:
        """Return the block that contains the event at a position; this may wait.

        That event must have been routed in the present epoch. Only one greenlet at a time may call
        this. Raise TrimmedError if the event is no longer kept, and another JournalError if the
        journal cannot be read.
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
        read = run_in_thread(_read, self._reader, position, routed, self._unwritten(), READ_BYTES)
        block, is_whole = _block(*read)
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
) -> tuple[list[Batch], list[Marks], int]:
    """Return the batches from a position on, marks, and the number below which these are all known.

    The marks of a batch are in later batches, so read on until they are found. Batches read beyond
    the block are read again for the next one. The marks of all events below ``routed`` are in the
    journal or in ``unwritten``.
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
    return found, marks, covered


def _block(found: list[Batch], marks: list[Marks], covered: int) -> tuple[Block, bool]:
    """Return the block of the batches whose marks are all known, and True.

    If the first batch is not among them, return a block of it that ends where the known marks do,
    and False. Only the event loop's thread may decode: all decoders share a buffer.
    """
    count = max(1, bisect_right(found, covered, key=_end_of))
    first, end = found[0].first, found[count - 1].end
    runs, _ = Decoder(LINE_LIMIT).feed(b"".join(batch.body for batch in found[:count]))
    for each in marks:
        if each.numbers:  # a batch of one event may have a run of its own: look at few of them
            low = bisect_right(runs, each.first, key=_end_of)
            high = bisect_left(runs, each.end, key=_first_of)
            mark_unchanged(runs[low:high], each.numbers)
    return Block(first, min(end, covered), runs), end <= covered
