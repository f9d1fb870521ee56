"""The compiled version of ``recent``, ``replay`` and ``marks``.

A walk reads the runs' events in place. It creates no Python object for an event, and copies only
the lines that it returns.
"""

import secrets
from array import array

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.ref cimport Py_XDECREF
from libc.stdint cimport int64_t, uint32_t, uint64_t

from maze.core._compiled cimport idtable as ids
from maze.core._compiled.buffer cimport WIDE, Buffer, append, finished
from maze.core._compiled.events cimport (
    BROADCAST, FOLLOW, FOLLOW_UNCHANGED, PRIVATE, RECENT, STATUS, UNFOLLOW, UNFOLLOW_UNCHANGED,
    Event, Run, kind_of, set_kind, size_of
)
from maze.core._compiled.idtable cimport FREE, NOT_FOUND, IdTable
from maze.core.recent import RUN_BYTES
from maze.core.replay import BehindError

cdef enum:
    MIN_DROPPED = 64  # runs dropped before the list of runs is shortened

cdef uint64_t run_bytes = RUN_BYTES


@cython.final
cdef class Recent:
    """The last runs that were routed; see ``recent.Recent``."""

    cdef list runs  # those before ``start`` were dropped and are None
    cdef Py_ssize_t start
    cdef uint64_t max_events, max_bytes
    cdef readonly uint64_t times_begun
    cdef readonly uint64_t kept_from
    cdef readonly uint64_t end
    cdef readonly uint64_t events
    cdef readonly uint64_t bytes

    def __init__(self, max_events, max_bytes):
        self.max_events = max_events
        self.max_bytes = max_bytes
        self.runs = []
        self.begin(0)

    def begin(self, uint64_t number):
        """Forget all runs; see ``recent.Recent.begin``."""
        cdef Py_ssize_t place
        for place in range(self.start, len(self.runs)):
            (<Run>self.runs[place]).release(RECENT)
        self.times_begun += 1
        self.runs = []
        self.start = 0
        self.kept_from = self.end = number
        self.events = self.bytes = 0

    def add(self, list runs not None, uint64_t end):
        """Add runs that were just routed; see ``recent.Recent.add``."""
        cdef Run run
        if end < self.end:
            raise ValueError("end is below the numbers that were added before")
        for run in runs:
            if run.first >= end:
                break
            if run.first < self.end:
                raise ValueError("the run begins below the numbers that were added before")
            self.end = min(run.end, end)
            if not run.void:
                self.keep(run if run.end <= end else run.clip(run.first, end))
        self.end = end
        while self.events > self.max_events or self.bytes > self.max_bytes:
            self.drop()

    def runs_from(self, uint64_t number):
        """Return the kept runs that end above ``number``, in order."""
        return iter(self.runs[self.place_from(number) :])

    def runs_before(self, uint64_t number):
        """Return the kept runs that begin below ``number``, the last one first."""
        return reversed(self.runs[self.start : self.place_before(number)])

    cdef int keep(self, Run run) except -1:
        self.runs.append(run)
        self.events += run.end - run.first
        self.bytes += run.hold(RECENT) + run_bytes
        return 0

    cdef int drop(self) except -1:
        """Drop the oldest run."""
        cdef Run run = self.runs[self.start]
        self.runs[self.start] = None
        self.start += 1
        if self.start >= MIN_DROPPED and 2 * self.start > len(self.runs):
            del self.runs[: self.start]
            self.start = 0
        self.events -= run.end - run.first
        self.bytes -= run.release(RECENT) + run_bytes
        self.kept_from = run.end
        return 0

    cdef Py_ssize_t place_before(self, uint64_t number) noexcept:
        """Return the place of the first run that does not begin below the number."""
        cdef Py_ssize_t low = self.start, high = len(self.runs), middle
        while low < high:
            middle = (low + high) // 2
            if (<Run>self.runs[middle]).first < number:
                low = middle + 1
            else:
                high = middle
        return low

    cdef Py_ssize_t place_from(self, uint64_t number) noexcept:
        """Return the place of the first run that ends above the number."""
        cdef Py_ssize_t place = self.place_before(number)
        if place > self.start and (<Run>self.runs[place - 1]).end > number:
            return place - 1
        return place


@cython.final
cdef class UserWalk:
    """One user's walk over routed runs; see ``replay.UserWalk``."""

    cdef readonly int64_t user
    cdef IdTable table  # whom the user follows at the point reached
    cdef uint64_t multiplier
    cdef list noted

    def __init__(self, user, following):
        cdef int64_t followed
        ids.clear(&self.table)
        self.user = user
        self.multiplier = secrets.randbits(64) | 1
        self.noted = []
        for followed in following:
            if followed < 0:
                raise ValueError("user ids are not negative")
            ids.put(&self.table, followed, NULL, False, self.multiplier)

    def __dealloc__(self):
        ids.clear(&self.table)

    @property
    def following(self):
        """Whom the user follows at the point reached."""
        if self.table.ids == NULL:
            return frozenset()
        slots = range(ids.mask_of(&self.table) + 1)
        return frozenset([self.table.ids[slot] for slot in slots if self.table.ids[slot] != FREE])

    def undo(self, Run run not None, uint64_t first, uint64_t end):
        """Go back over events; see ``replay.UserWalk.undo``."""
        self.undo_part(run, index_of(run, first), index_of(run, end))

    def note(self, Run run not None, uint64_t first, uint64_t end):
        """Note the user's follows and unfollows; see ``replay.UserWalk.note``."""
        cdef const Event* event
        cdef size_t index
        for index in range(index_of(run, first), index_of(run, end)):
            event = run.slots + index
            if event.sender == self.user and is_change(event):
                self.noted.append((kind_of(event) == FOLLOW, event.target))

    def undo_noted(self):
        """Undo what was noted, the last one first, and forget it."""
        while self.noted:
            is_follow, target = self.noted.pop()
            self.change(not is_follow, target)

    def collect(self, Run run not None, uint64_t first, uint64_t end, size_t max_bytes):
        """Go forward over events; see ``replay.UserWalk.collect``."""
        cdef Buffer lines = Buffer(NULL, 0, 0)
        cdef size_t index = index_of(run, first), count = index_of(run, end)
        try:
            index = self.collect_part(run, index, count, &lines, max_bytes)
            return finished(&lines), max(first, run.first + index)
        except:
            Py_XDECREF(lines.data)
            raise

    cdef int undo_part(self, Run run, size_t low, size_t high) except -1:
        """Go back over the run's events with an index from ``low`` to ``high`` - 1."""
        cdef const Event* event
        while high > low:
            high -= 1
            event = run.slots + high
            if event.sender == self.user and is_change(event):
                self.change(kind_of(event) == UNFOLLOW, event.target)
        return 0

    cdef size_t collect_part(
        self, Run run, size_t low, size_t high, Buffer* lines, size_t max_bytes
    ) except? 0:
        """Go forward over the run's events with an index from ``low`` to ``high`` - 1.

        Return the index after the last event.
        """
        cdef const char* data = PyBytes_AS_STRING(run.chunk.data)
        cdef size_t data_size = PyBytes_GET_SIZE(run.chunk.data)
        cdef const Event* event
        cdef size_t index
        cdef uint32_t kind, size
        cdef int64_t user = self.user
        for index in range(low, high):
            event = run.slots + index
            kind = kind_of(event)
            if kind == STATUS:
                if ids.slot_of(&self.table, event.sender, self.multiplier) == NOT_FOUND:
                    continue
            elif kind != BROADCAST:
                if event.sender == user and is_change(event):
                    self.change(kind == FOLLOW, event.target)
                if event.target != user or not (
                    kind == PRIVATE or kind == FOLLOW or kind == FOLLOW_UNCHANGED
                ):
                    continue
            size = size_of(event)
            append(
                lines,
                data + event.start,
                size,
                size <= WIDE and event.start + WIDE <= data_size,
            )
            if lines.used >= max_bytes:
                return index + 1
        return high

    cdef int change(self, bint follows, int64_t target) except -1:
        cdef int64_t slot
        if follows:
            ids.put(&self.table, target, NULL, False, self.multiplier)
        else:
            slot = ids.slot_of(&self.table, target, self.multiplier)
            if slot != NOT_FOUND:
                ids.take(&self.table, slot, self.multiplier)
        return 0


@cython.final
cdef class Replay:
    """What one user missed; see ``replay.Replay``."""

    cdef Recent recent
    cdef UserWalk walk
    cdef uint64_t times_begun
    cdef uint64_t back_to  # everything from here on is undone
    cdef readonly bint goes_back
    cdef readonly uint64_t next

    def __init__(
        self, Recent recent not None, user, following, uint64_t next_number, *, goes_back=True
    ):
        if next_number > recent.end:
            raise ValueError("the number is above all that were routed")
        self.recent = recent
        self.times_begun = recent.times_begun
        self.walk = UserWalk(user, following)
        self.back_to = recent.end
        self.goes_back = goes_back and next_number < recent.end
        self.next = next_number
        self.check_kept()

    @property
    def following(self):
        """Whom the user followed before ``next``, once the replay goes forward."""
        return self.walk.following

    @property
    def is_complete(self):
        """Whether the lines of everything routed so far were returned."""
        return self.next == self.recent.end and self.times_begun == self.recent.times_begun

    def step(self, uint64_t max_events, size_t max_bytes):
        """Return more of the user's lines, often none; see ``replay.Replay.step``."""
        cdef Buffer lines = Buffer(NULL, 0, 0)
        self.check_kept()
        if self.goes_back:
            max_events = self.go_back(max_events)
        if self.goes_back:
            return b""
        try:
            self.go_forward(max_events, &lines, max_bytes)
            return finished(&lines)
        except:
            Py_XDECREF(lines.data)
            raise

    cdef int check_kept(self) except -1:
        if self.times_begun != self.recent.times_begun or self.next < self.recent.kept_from:
            raise BehindError(f"the events from number {self.next} on are no longer kept")
        return 0

    cdef uint64_t go_back(self, uint64_t left) except? 0:
        """Undo up to ``left`` events; return how many of them are left to look at."""
        cdef Py_ssize_t place = self.recent.place_before(self.back_to)
        cdef uint64_t low, first, end
        cdef Run run
        while place > self.recent.start:
            place -= 1
            run = self.recent.runs[place]
            if run.end <= self.next:
                break
            if not left:
                return 0
            low, end = max(run.first, self.next), min(run.end, self.back_to)
            first = end - min(left, end - low)
            self.walk.undo_part(run, first - run.first, end - run.first)
            self.back_to = first
            left -= end - first
            if first > low:
                return 0
        self.goes_back = False
        return left

    cdef int go_forward(self, uint64_t left, Buffer* lines, size_t max_bytes) except -1:
        """Collect the lines of up to ``left`` events."""
        cdef Py_ssize_t place = self.recent.place_from(self.next)
        cdef uint64_t first
        cdef size_t index
        cdef Run run
        for place in range(place, len(self.recent.runs)):
            if not left:
                return 0
            run = self.recent.runs[place]
            first = max(run.first, self.next)
            index = first - run.first
            index = self.walk.collect_part(
                run, index, index + min(left, run.end - first), lines, max_bytes
            )
            self.next = run.first + index
            left -= self.next - first
            if lines.used >= max_bytes or self.next < run.end:
                return 0
        self.next = self.recent.end
        return 0


def unchanged_numbers(list runs not None, uint64_t end):
    """Return which numbers below ``end`` are marked; see ``marks.unchanged_numbers``."""
    cdef list numbers = []
    cdef Run run
    cdef size_t index
    for run in runs:
        for index in range(index_of(run, end)):
            if kind_of(run.slots + index) >= FOLLOW_UNCHANGED:
                numbers.append(run.first + index)
    return array("Q", numbers).tobytes()


def mark_unchanged(list runs not None, bytes numbers not None):
    """Mark the events with these numbers; see ``marks.mark_unchanged``."""
    cdef const uint64_t* marked = <const uint64_t*>PyBytes_AS_STRING(numbers)
    cdef size_t place = 0, count = PyBytes_GET_SIZE(numbers) // sizeof(uint64_t)
    cdef Run run
    for run in runs:
        while place < count and marked[place] < run.end:
            if marked[place] >= run.first:
                mark(<Event*>run.slots + (marked[place] - run.first))
            place += 1


cdef inline void mark(Event* event) noexcept:
    if kind_of(event) == FOLLOW:
        set_kind(event, FOLLOW_UNCHANGED)
    elif kind_of(event) == UNFOLLOW:
        set_kind(event, UNFOLLOW_UNCHANGED)


cdef inline bint is_change(const Event* event) noexcept nogil:
    """Return whether the event is a follow or unfollow that changed the graph."""
    return kind_of(event) == FOLLOW or kind_of(event) == UNFOLLOW


cdef inline size_t index_of(Run run, uint64_t number) noexcept:
    """Return the index of the number in the run, or the nearest one."""
    return min(max(number, run.first), run.end) - run.first
