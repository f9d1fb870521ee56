"""Replays from the journal what one user missed, up to what is kept in memory.

The journal has lines and marks (``marks``), in batches that are read in a native thread. The first
pass finds out whom the user followed at the client's position: it notes the user's follows and
unfollows since, and undoes them. The second pass collects the user's lines.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Protocol

from maze.core import (
    BehindError,
    Decoder,
    FollowGraph,
    Position,
    Recent,
    Run,
    UserWalk,
    mark_unchanged,
)
from maze.journal.journal import Batch, TrimmedError
from maze.journal.marks import Marks
from maze.journal.state import LINE_LIMIT
from maze.net.native_thread import run_in_thread
from maze.net.time_slice import TimeSlice

READ_BYTES = 256 * 1024
"""Bytes of batches read at a time (decoded in 1 ms with the compiled core)."""

FETCHED_RUNS = 100
"""Runs decoded at a time, if batches have few events each."""


class Reader(Protocol):
    """The part of a journal that is used here."""

    def read(self, after: Position, max_bytes: int) -> list[Batch]:
        """Return the batches after a position; see ``Journal.read``."""


class JournalReplay:
    """One user's events from a position of the present epoch on.

    ``unwritten`` returns the marks that the journal does not have yet. ``following`` is whom the
    user followed at the position, if that is known.
    """

    def __init__(
        self,
        reader: Reader,
        unwritten: Callable[[], list[Marks]],
        recent: Recent,
        user: int,
        position: Position,
        *,
        following: Collection[int] | None = None,
    ) -> None:
        self._reader = reader
        self._unwritten = unwritten
        self._recent = recent
        self._user = user
        self._epoch, self.next = position
        self._walk = None if following is None else UserWalk(user, following)
        self._batches: Iterator[tuple[int, list[Run]]] = iter(())
        self._runs: deque[Run] = deque()
        self._read_until = position.next
        self._marked_until = position.next
        """Below this number, runs that are read have their marks."""
        self._times_begun = recent.times_begun

    @property
    def following(self) -> frozenset[int]:
        """Whom the user followed before ``next``."""
        assert self._walk is not None
        return self._walk.following

    @property
    def goes_back(self) -> bool:
        """Whether ``go_back`` is still to be called."""
        return self._walk is None

    @property
    def is_complete(self) -> bool:
        """Whether what follows is kept in memory."""
        return self._recent.kept_from <= self.next <= self._recent.end

    def go_back(self, graph: FollowGraph) -> None:
        """Find out whom the user followed at the position; this waits.

        Raise JournalError if what follows the position is no longer kept.
        """
        walk = UserWalk(self._user, graph.following(self._user))
        until = self._undo_recent(walk)
        time_slice = TimeSlice()
        for _, runs in self._marked_batches(self.next, until):
            for run in runs:
                walk.note(run, self.next, until)
            if time_slice.is_over():
                time_slice.begin_next()
        self._check_epoch()
        walk.undo_noted()
        self._walk = walk

    def step(self, max_bytes: int) -> bytes:
        """Return more of the user's lines, often none; this may wait.

        Raise BehindError if what is needed is no longer kept.
        """
        assert self._walk is not None
        try:
            if not self._runs:
                self._fetch()
        except TrimmedError:
            raise BehindError(f"the events from number {self.next} on are no longer kept") from None
        self._check_epoch()
        if not self._runs:
            self.next = min(self._read_until, self._marked_until)
        lines: list[bytes] = []
        while self._runs and max_bytes > 0:
            run = self._runs[0]
            found, number = self._walk.collect(run, self.next, self._marked_until, max_bytes)
            lines.append(found)
            max_bytes -= len(found)
            self.next = min(number, self._marked_until)
            if self.next >= run.end:
                self._runs.popleft()
            elif self.next >= self._marked_until:
                self.forget_runs()  # the rest of the run was read without its marks
        return b"".join(lines)

    def forget_runs(self) -> None:
        """Free what was read and not used yet; it is read again when it is needed."""
        self._batches = iter(())
        self._runs.clear()
        self._read_until = self.next

    def _undo_recent(self, walk: UserWalk) -> int:
        """Undo what is kept in memory; return the number to which the walk has gone back."""
        until = max(self._recent.kept_from, self.next)
        back_to = self._recent.end
        time_slice = TimeSlice()
        for run in list(self._recent.runs_before(back_to)):
            walk.undo(run, until, back_to)
            back_to = run.first
            if time_slice.is_over():
                time_slice.begin_next()
        return until

    def _fetch(self) -> None:
        """Read and decode the next batches, as far as they were routed."""
        for attempt in range(2):
            for end, runs in self._batches:
                self._read_until = end
                self._runs += (run for run in runs if run.end > self.next)
                if len(self._runs) >= FETCHED_RUNS:
                    return
            if self._runs or attempt:
                return
            self._marked_until = self._recent.end
            self._batches = self._marked_batches(self._read_until, self._marked_until)

    def _check_epoch(self) -> None:
        """Raise BehindError if another epoch has begun."""
        if self._recent.times_begun != self._times_begun:
            raise BehindError("another epoch has begun")

    def _read(self, number: int) -> list[Batch]:
        """Return the next batches of the epoch; none at its end."""
        batches = run_in_thread(self._reader.read, Position(self._epoch, number), READ_BYTES)
        return [batch for batch in batches if batch.epoch == self._epoch]

    def _marked_batches(self, number: int, until: int) -> Iterator[tuple[int, list[Run]]]:
        """Yield the runs of each batch with numbers from ``number`` to ``until``, with their marks.

        Each comes with the end of its batch. All numbers must have been routed: their marks are in
        later batches, and the last ones are not in the journal yet.
        """
        unwritten = self._unwritten()
        waiting: deque[Batch] = deque()
        marks: deque[Marks] = deque()
        covered = number
        while number < until or waiting:
            batches = self._read(number)
            for batch in batches:
                number = batch.end
                if batch.first < until:
                    waiting.append(batch)
                if carried := Marks.decode(batch.unchanged):
                    marks.append(carried)
                    covered = carried.end
            if not batches:
                marks += unwritten
            while waiting and (waiting[0].end <= covered or not batches):
                batch = waiting.popleft()
                while marks and marks[0].end <= batch.first:
                    marks.popleft()
                yield batch.end, _decode(batch, marks)
            if not batches:
                return


def _decode(batch: Batch, marks: Iterable[Marks]) -> list[Run]:
    """Return the runs of a batch, with those marks that are of its numbers."""
    runs, _ = Decoder(LINE_LIMIT).feed(batch.body)
    for each in marks:
        if each.first >= batch.end:
            break
        mark_unchanged(runs, each.numbers)
    return runs
