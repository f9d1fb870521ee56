"""The reorder buffer: takes runs in any order and returns them in order, without gaps.

Only this module makes ordering decisions.

The buffer must be able to
  - add a run with any higher numbers, in time that does not depend on the run's length;
  - tell which numbers of a run were seen before, and whether with different bytes;
  - return all events that are in order, at once;
  - give up the lowest missing numbers on request, or when it is full.

It therefore holds runs, not events, like TCP's reassembly queue: a ``SortedDict`` from a run's
first number to the run. Runs in it never overlap. The sequence has four parts::

    routed before | ready: taken next | missing | waiting behind a gap
                  next_sequence       front     (more gaps)

A chunk is ordered as a whole before the limit is applied to the events that still wait, so the
buffer can exceed its limit by one chunk for a moment.
"""

import sys
from collections.abc import Callable, Iterator

from sortedcontainers import SortedDict

from maze.core.events import READY, WAITING, Run
from maze.core.rejects import Reason, Reject

RUN_BYTES = 200
"""Memory of a run in the buffer, without its chunk (measured)."""

STEP_GAPS = 1_000
"""Gaps given up per step (about 5 ms)."""

STEP_READY = 10_000
"""Runs made ready per step (about 5 ms). One missing number can hold up all waiting runs."""

MAX_RUNS = 4_000
"""Runs taken per call of ``take_ready`` (about 6 ms)."""

SHORT_RUN_EVENTS = 4
"""Maximum length of a short run. While all held runs are short, ``is_new`` looks up each number at
which an overlapping run could begin. That takes a quarter of the time of a search (measured with
runs of one event)."""


class ReorderBufferFullError(Exception):
    """The buffer is full, a number is missing, and the policy is to fail.

    ``missing`` is the first missing number, ``waiting`` the number of events that wait behind it.
    """

    def __init__(self, missing: int, waiting: int, held_bytes: int) -> None:
        super().__init__(
            f"sequence number {missing} is missing, {waiting} events wait behind it "
            f"in {held_bytes} bytes of memory"
        )
        self.missing = missing
        self.waiting = waiting


class ReorderBuffer:
    """Restores the order of the sequence.

    ``limit`` bounds the events that wait behind a gap, ``byte_limit`` their memory.
    ``gap_policy`` decides what happens beyond either bound: ``skip`` gives up the lowest missing
    numbers, ``fail`` raises ReorderBufferFullError.

    No call makes more than ``step`` runs ready. Further runs count as waiting until the next
    ``advance``, although no number is missing before them.
    """

    def __init__(
        self,
        first_sequence: int = 1,
        limit: int = 100_000,
        gap_policy: str = "skip",
        byte_limit: int = sys.maxsize,
        *,
        step: int = STEP_READY,
    ) -> None:
        self._first_sequence = first_sequence
        self._limit = limit
        self._byte_limit = byte_limit
        self._gap_policy = gap_policy
        self._step = step
        self._front = first_sequence
        self._runs: SortedDict[int, Run] = SortedDict()
        self.reset()

    def reset(self, first: int | None = None) -> None:
        """Remove all runs and start again from ``first``, or from the first number of a stream."""
        for run in self._runs.values():
            run.release(READY if run.first < self._front else WAITING)
        self._runs.clear()
        self._front = self.next_sequence = self._first_sequence if first is None else first
        """Lowest number that has not been taken."""
        self.ready = 0
        """Number of events that can be taken."""
        self.waiting = 0
        """Number of events that wait behind a gap."""
        self.ready_bytes = 0
        """Memory of the events that can be taken, in bytes."""
        self.waiting_bytes = 0
        """Memory of the events that wait behind a gap, in bytes."""
        self._long_runs = 0  # number of runs that are not short

    @property
    def missing_sequence(self) -> int:
        """Lowest number that is missing; only valid once ``advance`` has returned False."""
        return self._front

    @property
    def end(self) -> int:
        """The number after the highest one held, or the lowest missing one if that is higher."""
        return self._runs.peekitem(-1)[1].end if self.waiting else self._front

    @property
    def gap(self) -> tuple[int, int] | None:
        """The lowest missing number and the first that waits behind it; None if no event waits.

        It is also None while events only wait for the next ``advance``.
        """
        if not self.waiting:
            return None
        found = self._first_waiting()
        return (self._front, found) if found > self._front else None

    def add(self, *runs: Run) -> list[Reject]:
        """Add runs; return rejects for those of their numbers that were seen before.

        A run costs O(log n + m) with n runs held and m of its numbers seen before.
        """
        rejects: list[Reject] = []
        for run in runs:
            # Most runs are wholly new; this shortcut halves the time with runs of one event.
            if self.is_new(run):
                self._hold(run)
            else:
                for piece in self._new_pieces(run, rejects):
                    self._hold(piece)
        self._advance(self._step)
        return rejects

    def advance(self) -> bool:
        """Make up to ``step`` more runs ready; return whether there were any."""
        return self._advance(self._step) > 0

    def is_new(self, run: Run) -> bool:
        """Return whether none of the run's numbers was seen before."""
        first, end = run.first, run.end
        if first < self._front:
            return False
        runs = self._runs
        if end - first <= SHORT_RUN_EVENTS and not self._long_runs:
            for number in range(first - SHORT_RUN_EVENTS + 1, end):
                held = runs.get(number)
                if held is not None and held.end > first:
                    return False
            return True
        after = runs.bisect_left(first)
        if after < len(runs) and runs.peekitem(after)[0] < end:
            return False
        return not after or bool(runs.peekitem(after - 1)[1].end <= first)

    def enforce_limit(self) -> list[Reject]:
        """Apply the gap policy if the waiting events exceed a bound; return the rejects.

        This is one step. Call it until it returns no rejects and ``advance`` returns False.
        Raise ReorderBufferFullError if the policy is ``fail``.
        """
        if self._gap_policy == "fail" and self._over_limit() and self._front not in self._runs:
            raise ReorderBufferFullError(self._front, self.waiting, self.waiting_bytes)
        return self._skip_gaps(self._over_limit)

    def give_up_gaps(self, below: int = sys.maxsize) -> list[Reject]:
        """Give up the missing numbers lower than ``below``; return them as rejects.

        Numbers that no event waits behind are not missing. The events in front of which no number
        is missing any more become ready. This is one step, to be repeated like ``enforce_limit``.
        """
        return self._skip_gaps(lambda: self.waiting > 0 and self._front < below, below)

    def take_ready(self, limit: int) -> list[Run]:
        """Remove and return runs that are ready, in order, including void ones.

        Whole runs are taken until they have at least ``limit`` events or number MAX_RUNS.
        """
        taken: list[Run] = []
        count, available = 0, min(limit, self.ready)
        for run in self._runs.values():
            if count >= available or len(taken) == MAX_RUNS:
                break
            taken.append(run)
            count += len(run)
            self.ready_bytes -= run.release(READY) + RUN_BYTES
            self._long_runs -= len(run) > SHORT_RUN_EVENTS
        self.ready -= count
        if taken:
            self.next_sequence = taken[-1].end
            self._remove_taken(taken)
        return taken

    def _remove_taken(self, taken: list[Run]) -> None:
        """Remove the first runs: delete them or keep the others, whichever are fewer."""
        runs = self._runs
        stay = len(runs) - len(taken)
        if stay < len(taken):
            others = [(key, runs[key]) for key in runs.islice(len(taken))]
            runs.clear()
            runs.update(others)
        else:
            for run in taken:
                del runs[run.first]

    def put_back(self, runs: list[Run]) -> None:
        """Make the last runs that were taken ready again."""
        for run in runs:
            self._runs[run.first] = run
            self.ready += len(run)
            self.ready_bytes += run.hold(READY) + RUN_BYTES
            self._long_runs += len(run) > SHORT_RUN_EVENTS
        if runs:
            self.next_sequence = runs[0].first

    def _hold(self, run: Run) -> None:
        """Hold a run none of whose numbers is held."""
        size = len(run)
        self._runs[run.first] = run
        self._long_runs += size > SHORT_RUN_EVENTS
        if run.first == self._front:
            self._front = run.end
            self.ready += size
            self.ready_bytes += run.hold(READY) + RUN_BYTES
        else:
            self.waiting += size
            self.waiting_bytes += run.hold(WAITING) + RUN_BYTES

    def _over_limit(self) -> bool:
        return self.waiting > self._limit or self.waiting_bytes > self._byte_limit

    def _new_pieces(self, run: Run, rejects: list[Reject]) -> Iterator[Run]:
        """Yield the parts of a run that have to be held; add its other numbers to ``rejects``."""
        cursor = run.first
        for held in self._overlapping(run.first, run.end):
            yield from self._unheld(run, cursor, held.first, rejects)
            cursor, end = max(cursor, held.first), min(run.end, held.end)
            if held.void and not run.void:
                self._replace(held, run.clip(cursor, end))
            elif not run.void:  # the line of a void run was rejected when it was decoded
                rejects += [_repeated(run, held, sequence) for sequence in range(cursor, end)]
            cursor = end
        yield from self._unheld(run, cursor, run.end, rejects)

    def _unheld(self, run: Run, first: int, end: int, rejects: list[Reject]) -> Iterator[Run]:
        """Reject the numbers before the front as stale; yield the others. None of them is held."""
        front = min(max(first, self._front), end)
        if first < front and not run.void:
            rejects += [
                Reject(Reason.STALE, run.line(sequence), sequence)
                for sequence in range(first, front)
            ]
        if front < end:
            yield run.clip(front, end)

    def _replace(self, held: Run, run: Run) -> None:
        """Replace a held run by one with the same numbers."""
        self._runs[held.first] = run
        if held.first < self._front:
            self.ready_bytes += run.hold(READY) - held.release(READY)
        else:
            self.waiting_bytes += run.hold(WAITING) - held.release(WAITING)

    def _overlapping(self, first: int, end: int) -> list[Run]:
        runs = self._runs
        before = runs.bisect_right(first) - 1
        start = first
        if before >= 0:
            candidate = runs.peekitem(before)[1]
            if candidate.end > first:
                start = candidate.first
        return [runs[key] for key in runs.irange(start, end, inclusive=(True, False))]

    def _advance(self, limit: int) -> int:
        """Make up to ``limit`` runs ready; return how many."""
        # Local variables, because a hundred thousand runs may have waited for one number.
        get = self._runs.get
        start = front = self._front
        waiting_bytes, ready_bytes = self.waiting_bytes, self.ready_bytes
        count = 0
        while count < limit and (run := get(front)) is not None:
            front = run.end
            waiting_bytes -= run.release(WAITING) + RUN_BYTES
            ready_bytes += run.hold(READY) + RUN_BYTES
            count += 1
        self._front = front
        self.ready += front - start
        self.waiting -= front - start
        self.waiting_bytes, self.ready_bytes = waiting_bytes, ready_bytes
        return count

    def _first_waiting(self) -> int:
        """Return the lowest number that waits; only valid if one does."""
        first: int = self._runs.peekitem(self._runs.bisect_left(self._front))[0]
        return first

    def _skip_gaps(self, wanted: Callable[[], bool], below: int = sys.maxsize) -> list[Reject]:
        """Give up the lowest missing numbers while ``wanted`` is true, for at most one step.

        Of a gap, only the numbers lower than ``below`` are given up.
        """
        rejects: list[Reject] = []
        runs, left = self._runs, self._step
        while wanted() and self._front not in runs and len(rejects) < STEP_GAPS:
            missing = self._front
            self._front = found = min(self._first_waiting(), below)
            rejects.append(Reject(Reason.SKIPPED, sequence=missing, count=found - missing))
            left -= self._advance(left)
        return rejects

    def _check(self) -> None:
        """Assert the invariants; for the tests."""
        cursor, ready, waiting = self.next_sequence, 0, 0
        ready_chunks: dict[int, int] = {}
        waiting_chunks: dict[int, int] = {}
        count_ready = 0
        assert self.next_sequence <= self._front
        for first, run in self._runs.items():
            assert first == run.first >= cursor
            assert len(run) == run.end - run.first > 0
            cursor = run.end
            if run.end <= self._front:
                ready += len(run)
                ready_chunks |= [run.memory]
                count_ready += 1
            else:
                assert run.first >= self._front
                waiting += len(run)
                waiting_chunks |= [run.memory]
        assert (self.ready, self.waiting) == (ready, waiting)
        assert self._long_runs == sum(len(run) > SHORT_RUN_EVENTS for run in self._runs.values())
        held_bytes = RUN_BYTES * count_ready + sum(ready_chunks.values())
        assert self.ready_bytes == held_bytes
        held_bytes = RUN_BYTES * (len(self._runs) - count_ready) + sum(waiting_chunks.values())
        assert self.waiting_bytes == held_bytes


def _repeated(run: Run, held: Run, sequence: int) -> Reject:
    line = run.line(sequence)
    reason = Reason.DUPLICATE if line == held.line(sequence) else Reason.CONFLICT
    return Reject(reason, line, sequence)
