"""Blocks of the journal: what is read once, what is kept, and what is forgotten."""

from __future__ import annotations

import struct
import threading

import pytest

from maze.core import Decoder, Position, Recent
from maze.journal.journal import Batch
from maze.journal.marks import Marks
from maze.journal.memory import MemoryJournal
from maze.pipeline import journal_blocks
from maze.pipeline.journal_blocks import BLOCK_BYTES, JournalBlocks

EPOCH = 7
MARK = struct.pack("<Q", 1)
LINES = 10
"""Sequence numbers per batch; each has one line."""


def lines(first: int, end: int) -> bytes:
    return b"".join(b"%d|B\n" % number for number in range(first, end))


class Blocks:
    """Blocks of a journal of four batches; the numbers below ``routed`` were routed."""

    def __init__(self, max_bytes: int, routed: int = 4 * LINES) -> None:
        self.journal = MemoryJournal(Position(EPOCH, 0))
        fence = self.journal.lease()
        for first in range(0, 4 * LINES, LINES):
            end = first + LINES
            self.journal.append([Batch(EPOCH, first, end, lines(first, end))], fence)
        self.recent = Recent(0, 0)
        self.recent.begin(0)
        self.recent.add([], routed)
        self.reads = 0
        self.blocks = JournalBlocks(self, self.marks, self.recent, max_bytes)

    def read(self, after: Position, max_bytes: int) -> list[Batch]:
        self.reads += 1
        return self.journal.read(after, max_bytes)

    def marks(self) -> list[Marks]:
        return [Marks(0, self.recent.end, b"")]

    def get(self, number: int) -> tuple[int, int]:
        block = self.blocks.get(Position(EPOCH, number))
        return block.first, block.end


@pytest.fixture(autouse=True)
def one_batch_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_blocks, "READ_BYTES", 1)


def test_what_was_read_for_one_is_not_read_again() -> None:
    world = Blocks(2**20)
    # No batch carries marks, so the block extends to the end of the journal.
    assert world.get(13) == (10, 40)
    reads = world.reads
    assert world.get(39) == (10, 40)
    assert world.reads == reads
    assert world.get(9) == (0, 40)
    assert world.reads > reads
    assert world.blocks.bytes > 2 * BLOCK_BYTES


def test_a_block_returns_its_runs_from_a_number_on() -> None:
    block = Blocks(2**20).blocks.get(Position(EPOCH, 12))
    assert [(run.first, run.end) for run in block.runs] == [(10, 40)]
    assert block.runs_from(39) == block.runs
    assert block.runs_from(40) == []


def test_one_block_is_kept_even_if_it_exceeds_the_memory_allowed() -> None:
    world = Blocks(0)
    world.get(10)
    world.get(0)
    held = world.blocks.bytes
    world.get(39)  # in the block that was kept
    assert world.blocks.bytes == held
    reads = world.reads
    world.blocks.get(Position(EPOCH, 0))
    assert world.reads == reads
    world.blocks.clear()
    assert world.blocks.bytes == 0
    world.get(0)
    assert world.reads > reads


def test_a_batch_that_was_routed_in_part_is_read_again() -> None:
    world = Blocks(2**20, routed=15)
    assert world.get(12) == (10, 15)
    assert world.blocks.bytes == 0
    world.recent.add([], 40)
    assert world.get(12) == (10, 40)


def test_blocks_of_an_earlier_epoch_are_forgotten() -> None:
    world = Blocks(2**20)
    world.get(0)
    fence = world.journal.lease()
    following = Batch(EPOCH + 1, 0, 0, b""), Batch(EPOCH + 1, 0, 30, lines(0, 30))
    world.journal.append(following, fence)
    block = world.blocks.get(Position(EPOCH + 1, 5))
    assert (block.first, block.end) == (0, 30)
    assert world.blocks.bytes == block.memory


def test_reading_ends_where_the_epoch_does() -> None:
    world = Blocks(2**20)
    fence = world.journal.lease()
    world.journal.append([Batch(EPOCH + 1, 3, 3, b""), Batch(EPOCH + 1, 3, 50, b"3|B\n")], fence)
    assert world.get(30) == (30, 40)


def test_blocks_are_decoded_in_the_thread_of_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All decoders share a buffer, so a native thread would corrupt what a source sends."""
    threads: list[int] = []

    def decoder(limit: int) -> Decoder:
        threads.append(threading.get_ident())
        return Decoder(limit)

    monkeypatch.setattr(journal_blocks, "Decoder", decoder)
    Blocks(2**20).get(0)
    assert threads == [threading.get_ident()]


def test_marking_takes_time_in_proportion_to_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch has a run of its own, because a number was given up; and each carries marks."""
    world = Blocks(2**20, routed=3 * LINES)
    batches = [
        Batch(
            EPOCH,
            first,
            first + 2,
            b"%d|F|1|2\n" % first,
            None,
            Marks(first - 2, first, MARK).encode(),
        )
        for first in range(40, 1_040, 2)
    ]
    world.journal.append(batches, world.journal.lease())
    world.recent.add([], 1_040)
    looked_at: list[int] = []
    monkeypatch.setattr(
        journal_blocks, "mark_unchanged", lambda runs, numbers: looked_at.append(len(runs))
    )
    monkeypatch.setattr(journal_blocks, "READ_BYTES", 2**20)
    block = world.blocks.get(Position(EPOCH, 40))
    assert len(looked_at) > 400
    assert len(block.runs) >= 499
    assert sum(looked_at) <= 2 * len(looked_at)
