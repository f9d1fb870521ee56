"""Every journal that needs no server against a list of batches; see ``JournalMachine``.

A feed's reader has to show the journal that is read over it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import rule

from maze.core import Position
from maze.feed.messages import encode_batch
from maze.journal.journal import Batch, Bounds, Journal
from maze.journal.memory import MemoryJournal
from maze.journal.sqlite import SQLiteJournal
from maze.journal.tail import Tail
from maze.journal.tailed import TailedJournal

from .feed_journal import FeedJournal
from .journal_machine import LARGEST, PARTS, SETTINGS, JournalMachine
from .losing import LosingJournal


class MemoryMachine(JournalMachine):
    def open(self, start: Position) -> Journal:
        return MemoryJournal(start)


class FeedMachine(JournalMachine):
    """Writes to a journal in memory, and reads it over a feed with a small ring."""

    def open(self, start: Position) -> Journal:
        return FeedJournal(start, ring_bytes=200)

    def _size_after(self, after: Position) -> Callable[[Batch], int]:
        if self.journal.ring.frames_after(after, 0) is None:
            return super()._size_after(after)
        return lambda batch: len(encode_batch(batch))

    @rule(parts=st.lists(PARTS, min_size=1, max_size=3), is_early=st.booleans())
    def follow(self, parts: list[tuple[int, bytes, Bounds | None, bytes]], is_early: bool) -> None:
        """Ask for what is appended next, early enough or just after it was."""
        after = self.position
        if after.next > LARGEST:
            return
        reader = self.journal.reader
        if is_early:
            reader.request(after, 1 << 20, wait=20.0, routed=after)
        added = []
        for part in parts:
            added.append(self._next(*part))
            self._keep(added[-1])
        self.journal.append(added, self.fence)
        if not is_early:
            reader.request(after, 1 << 20, wait=20.0, routed=after)
        found = reader.receive()
        assert found
        assert found == [batch for batch in self.batches if batch.position > after][: len(found)]

    @rule()
    def disconnect(self) -> None:
        self.journal.disconnect()

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.journal.close()


class SQLiteMachine(JournalMachine):
    may_read_less = True

    def open(self, start: Position) -> Journal:
        self.folders = [tempfile.TemporaryDirectory()]
        self.seconds = count()
        return self.open_file(start)

    def open_file(self, start: Position) -> SQLiteJournal:
        """Open the journal; its clock goes on by a second whenever it is asked."""
        path = str(Path(self.folders[-1].name) / "journal")
        return SQLiteJournal(path, start, synchronous="OFF", clock=lambda: next(self.seconds))

    @rule(crashes=st.booleans())
    def open_again(self, crashes: bool) -> None:
        """What was appended outlives the connection, and where a file begins is its own.

        After a crash the files are as they were when it happened.
        """
        if crashes:
            self.folders.append(tempfile.TemporaryDirectory())
            shutil.copytree(self.folders[-2].name, self.folders[-1].name, dirs_exist_ok=True)
        self.journal.close()
        self.journal = self.open_file(Position(99, 99))
        self.writers = []

    def teardown(self) -> None:
        if hasattr(self, "folders"):
            self.check_chunks()
            self.journal.close()
            for folder in self.folders:
                folder.cleanup()

    def check_chunks(self) -> None:
        """Only the chunks of two snapshots are kept, after as many appends as it takes."""
        self.journal.put_snapshot(self.position, Bounds(1, 1, 1), [b"last"], self.fence)
        chunks = sum(len(snapshot.chunks) for snapshot in self.snapshots[:1]) + 1
        database = self.journal._database
        for _ in range(1 + database.execute("SELECT count(*) FROM chunk").fetchone()[0]):
            self.journal.append([], self.fence)
        assert database.execute("SELECT count(*) FROM chunk").fetchone() == (chunks,)


class TailedMachine(JournalMachine):
    """The journal may lose what was appended last; the next append makes up for it."""

    def open(self, start: Position) -> Journal:
        self.now = 0.0
        self.losing = LosingJournal(start, lambda: self.now)
        self.reports: list[str] = []
        self.losses = 0
        return TailedJournal(
            self.losing,
            Tail(10_000, start),
            report=self.reports.append,
            clock=lambda: self.now,
            sleep=self.pass_time,
        )

    @rule(seconds=st.sampled_from([0.5, 1.5, 2.5]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(count=st.integers(1, 4), parts=st.lists(PARTS, max_size=2), resets=st.booleans())
    def lose(
        self, count: int, parts: list[tuple[int, bytes, Bounds | None, bytes]], resets: bool
    ) -> None:
        """Lose some batches that are not safe yet, then append something."""
        snapshots = [each.position for each in self.snapshots]
        snapshots += [each.position for _, each in self.writers]
        self.losses += self.losing.lose(count, max(snapshots, default=self.kept_from)) > 0
        if resets:
            reset = Batch(self.position.epoch + 1, 1, 1, b"")
            self._keep(reset)
            assert self.journal.append([reset], self.fence) == self.position
        self.append(parts, 0)
        assert len(self.reports) == self.losses == self.journal.gaps


TestMemory = MemoryMachine.TestCase
TestFeed = FeedMachine.TestCase
TestSQLite = SQLiteMachine.TestCase
TestTailed = TailedMachine.TestCase
TestMemory.settings = TestFeed.settings = TestSQLite.settings = SETTINGS
TestTailed.settings = SETTINGS
