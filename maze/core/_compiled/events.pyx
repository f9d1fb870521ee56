"""The compiled version of ``events``: the same grammar, without a Python object per event.

A run stores its events as offsets into the chunk's bytes. A fast scan decodes most lines: numbers
of up to 18 digits, LF or CR LF. All other lines go to ``decode_line`` of the pure version,
which implements the whole grammar.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, qsort, realloc
from libc.string cimport memchr, memcpy

from maze.core import events as pure
from maze.core.rejects import Reason, Reject

cdef enum:
    FAST_DIGITS = 18  # every number of up to 18 digits is below 2 ** 63
    SPARSE = 4  # with this many slots per event or more, events are sorted, not placed
    PINNED = 4  # a run smaller than a quarter of its chunk is copied
    CHUNK_BYTES = 128  # memory of a chunk without its bytes and its events

LETTERS = [  # indexed by Kind
    b"",
    b"F",
    b"U",
    b"B",
    b"P",
    b"S",
    pure.FOLLOW_UNCHANGED,
    pure.UNFOLLOW_UNCHANGED,
]
KINDS = {letter: kind for kind, letter in enumerate(LETTERS)}

cdef struct Numbered:
    uint64_t sequence
    Event event

cdef class Scratch:
    """Collects the events of one chunk; reused, so that chunks do not allocate memory for it."""

    cdef Numbered* events
    cdef size_t count, room

    def __dealloc__(self):
        free(self.events)

    cdef inline Numbered* next(self) except NULL:
        """Return a new element, which is not initialised."""
        cdef void* moved
        if self.count == self.room:
            moved = realloc(self.events, (2 * self.room + 1024) * sizeof(Numbered))
            if moved == NULL:
                raise MemoryError
            self.events = <Numbered*>moved
            self.room = 2 * self.room + 1024
        self.count += 1
        return &self.events[self.count - 1]

cdef Scratch scratch = Scratch()  # shared by all decoders: only one thread may decode


@cython.final
cdef class Chunk:
    """Bytes and events that one or more runs refer to."""

    def __dealloc__(self):
        free(self.events)


cdef Chunk new_chunk(bytes data, size_t slots):
    cdef Chunk chunk = Chunk.__new__(Chunk)
    chunk.data = data
    chunk.room = slots
    chunk.events = <Event*>calloc(slots, sizeof(Event))
    if chunk.events == NULL:
        raise MemoryError
    return chunk


# Runs are in no cycle, and a hundred thousand may be kept: tracked, they made the collector pause for
# 10 ms (W6: p99 11 ms instead of 7).
@cython.no_gc
@cython.final
cdef class Run:
    """Events with contiguous sequence numbers; see ``events.Run``."""

    def __len__(self):
        return self.end - self.first

    def clip(self, first, end):
        """Return a part of the run; see ``events.Run.clip``."""
        cdef uint64_t low = max(first, self.first), high = min(end, self.end)
        if low == self.first and high == self.end:
            return self
        if low >= high:
            raise ValueError("the run has none of these numbers")
        return new_run(self.chunk, self.slots + (low - self.first), low, high, self.void)

    @property
    def memory(self):
        """Key and bytes of the memory that the run keeps alive: its chunk, which runs share."""
        return <size_t><PyObject*>self.chunk, memory_of(self.chunk)

    cpdef size_t hold(self, unsigned int holder) except? 0:
        """Count the run as held; see ``events.Run.hold``. Runs of a chunk share its memory."""
        if holder > RECENT:
            raise ValueError("there is no such holder")
        self.chunk.holders[holder] += 1
        return memory_of(self.chunk) if self.chunk.holders[holder] == 1 else 0

    cpdef size_t release(self, unsigned int holder) except? 0:
        """Count the run as released; see ``events.Run.release``."""
        if holder > RECENT:
            raise ValueError("there is no such holder")
        self.chunk.holders[holder] -= 1
        return memory_of(self.chunk) if self.chunk.holders[holder] == 0 else 0

    @property
    def events(self):
        """The events as in the pure version; created on each access, for inspection only."""
        return [
            (
                self.first + index,
                self.line(self.first + index),
                LETTERS[kind_of(self.slots + index)],
                self.slots[index].sender,
                self.slots[index].target,
            )
            for index in range(self.end - self.first)
        ]

    def line(self, sequence):
        """Return the bytes of one event."""
        cdef const Event* event
        if not self.first <= sequence < self.end:
            raise ValueError("the run does not have this number")
        event = self.slots + (<uint64_t>sequence - self.first)
        return self.chunk.data[event.start : event.start + size_of(event)]


def lines_of(list runs not None):
    """Return the lines of the runs, in order; see ``events.lines_of``."""
    cdef Run run
    cdef size_t size = 0
    cdef bytes lines
    cdef char* to
    for run in runs:
        if not run.void:
            size += lines_size(run)
    lines = PyBytes_FromStringAndSize(NULL, size)
    to = PyBytes_AS_STRING(lines)
    for run in runs:
        if not run.void:
            to = copy_lines(run, to)
    return lines


cdef size_t lines_size(Run run) noexcept:
    cdef size_t index, size = 0
    for index in range(run.end - run.first):
        size += size_of(run.slots + index)
    return size


cdef char* copy_lines(Run run, char* to) noexcept:
    """Copy the lines of a run; return where they end."""
    cdef const char* data = PyBytes_AS_STRING(run.chunk.data)
    cdef const Event* event
    cdef size_t index
    for index in range(run.end - run.first):
        event = run.slots + index
        memcpy(to, data + event.start, size_of(event))
        to += size_of(event)
    return to


cdef inline size_t memory_of(Chunk chunk) noexcept:
    return PyBytes_GET_SIZE(chunk.data) + chunk.room * sizeof(Event) + CHUNK_BYTES


cdef Run new_run(Chunk chunk, Event* events, uint64_t first, uint64_t end, bint void):
    cdef Run run = Run.__new__(Run)
    run.chunk = chunk
    run.slots = events
    run.first = first
    run.end = end
    run.void = void
    return run


cdef class Decoder:
    """Decodes the bytes of one source; see ``events.Decoder``."""

    cdef Py_ssize_t line_limit
    cdef Py_ssize_t max_rejects
    cdef bytes left
    cdef readonly bint overflowed
    cdef readonly bint unread

    def __init__(self, line_limit=4096, max_rejects=pure.MAX_REJECTS):
        self.line_limit = line_limit
        self.max_rejects = max_rejects
        self.left = b""

    def feed(self, bytes data):
        """Decode the bytes of one ``recv``; see ``events.Decoder.feed``."""
        cdef Py_ssize_t end
        cdef list runs
        cdef list rejects = []
        if self.overflowed:
            return [], rejects
        if self.left:
            data = self.left + data
        if len(data) >= 1 << 29:
            raise ValueError("feed at most 512 MiB at a time")
        end = data.rfind(b"\n") + 1
        self.left = data[end:]
        self.unread = False
        runs = self.decode(data, end, rejects)
        if not self.overflowed and not self.unread:
            if len(pure.content_of(self.left)) > self.line_limit:
                rejects.append(self.overflow(self.left))
        return runs, rejects

    def finish(self):
        """Return a reject for the half line that is left, if any. ``unread`` must be false."""
        if not self.left or self.overflowed:
            return []
        half_line, self.left = self.left, b""
        return [Reject(Reason.HALF_LINE, half_line)]

    cdef list decode(self, bytes data, Py_ssize_t cut, list rejects):
        """Return the runs of the complete lines, which end at ``cut``."""
        cdef const uint8_t* begin = <const uint8_t*>PyBytes_AS_STRING(data)
        cdef const uint8_t* at = begin
        cdef const uint8_t* end = begin + cut
        cdef const uint8_t* next_line
        cdef list voids = []
        scratch.count = 0
        while at < end:
            next_line = scan(at, begin, scratch.next())
            if next_line == NULL:
                scratch.count -= 1
                next_line = <const uint8_t*>memchr(at, b"\n", end - at) + 1
                if not self.decode_odd(data, at - begin, next_line - begin, voids, rejects):
                    break
                if len(rejects) == self.max_rejects and next_line < end:
                    self.left = data[next_line - begin :]
                    self.unread = True
                    break
            at = next_line
        return runs_of(data) + voids

    cdef bint decode_odd(
        self, bytes data, Py_ssize_t start, Py_ssize_t end, list voids, list rejects
    ) except -1:
        """Decode one line with the pure version; return False if it is too long."""
        cdef bytes line = data[start:end]
        cdef Numbered* numbered
        if len(pure.content_of(line)) > self.line_limit:
            rejects.append(self.overflow(line))
            return False
        decoded = pure.decode_line(line)
        if isinstance(decoded, Reject):
            rejects.append(decoded)
            if decoded.sequence is not None:
                voids.append(void_run(line, decoded.sequence))
            return True
        sequence, _, kind, sender, target = decoded
        numbered = scratch.next()
        numbered.sequence = sequence
        numbered.event.sender = sender
        numbered.event.target = target
        numbered.event.start = start
        numbered.event.size_and_kind = (end - start) << 3 | <uint32_t>KINDS[kind]
        return True

    cdef object overflow(self, bytes line):
        self.overflowed = True
        self.left = b""
        return Reject(Reason.LINE_TOO_LONG, line)


cdef Run void_run(bytes line, uint64_t sequence):
    cdef Chunk chunk = new_chunk(line, 1)
    chunk.events[0].size_and_kind = <uint32_t>len(line) << 3
    return new_run(chunk, chunk.events, sequence, sequence + 1, True)


cdef inline const uint8_t* digits(const uint8_t* at, uint64_t* number) noexcept nogil:
    """Read a number; return where it ends, or NULL if it has no digits or too many."""
    cdef const uint8_t* start = at
    cdef uint64_t value = 0
    cdef uint8_t digit = at[0] - c"0"
    while digit <= 9:
        value = 10 * value + digit
        at += 1
        digit = at[0] - c"0"
    number[0] = value
    return at if 0 < at - start <= FAST_DIGITS else NULL


cdef inline const uint8_t* scan(
    const uint8_t* at, const uint8_t* begin, Numbered* numbered
) noexcept nogil:
    """Read a line that ends in LF; return where the next begins, or NULL if it is irregular."""
    cdef const uint8_t* line = at
    cdef uint64_t user = 0
    cdef uint32_t kind
    cdef uint8_t letter
    at = digits(at, &numbered.sequence)
    if at == NULL or at[0] != c"|":
        return NULL
    letter = at[1]
    numbered.event.sender = 0
    numbered.event.target = 0
    if letter == c"B":
        kind = BROADCAST
        at += 2
    else:
        if letter == c"F":
            kind = FOLLOW
        elif letter == c"U":
            kind = UNFOLLOW
        elif letter == c"P":
            kind = PRIVATE
        elif letter == c"S":
            kind = STATUS
        else:
            return NULL
        if at[2] != c"|":
            return NULL
        at = digits(at + 3, &user)
        if at == NULL:
            return NULL
        numbered.event.sender = user
        if kind != STATUS:
            if at[0] != c"|":
                return NULL
            at = digits(at + 1, &user)
            if at == NULL:
                return NULL
            numbered.event.target = user
    if at[0] == c"\r":
        at += 1
    if at[0] != c"\n":
        return NULL
    at += 1
    numbered.event.start = line - begin
    numbered.event.size_and_kind = (at - line) << 3 | kind
    return at


cdef list runs_of(bytes data):
    """Sort the collected events by number and split them into runs of contiguous numbers."""
    cdef uint64_t low, high
    cdef size_t index
    cdef Chunk chunk
    if not scratch.count:
        return []
    low = high = scratch.events[0].sequence
    for index in range(1, scratch.count):
        low = min(low, scratch.events[index].sequence)
        high = max(high, scratch.events[index].sequence)
    if (high - low) // SPARSE < scratch.count:
        chunk = new_chunk(data, high - low + 1)
        if place(chunk.events, low):
            return cut_placed(chunk, low, high - low + 1)
    return cut_sorted(data)


cdef bint place(Event* slots, uint64_t low) noexcept nogil:
    """Copy each event to the slot of its number; return False if two have the same number."""
    cdef size_t index
    cdef Event* slot
    for index in range(scratch.count):
        slot = slots + (scratch.events[index].sequence - low)
        if slot.size_and_kind:
            return False
        slot[0] = scratch.events[index].event
    return True


cdef list cut_placed(Chunk chunk, uint64_t low, size_t slots):
    cdef list runs = []
    cdef size_t start = 0, end
    while start < slots:
        end = start
        while end < slots and chunk.events[end].size_and_kind:
            end += 1
        if end > start:
            runs.append(compact(chunk, chunk.events + start, low + start, low + end))
        start = end + 1
    return runs


cdef list cut_sorted(bytes data):
    """Sort the events by number and split them; events with the same number stay in order."""
    cdef list runs = []
    cdef Chunk chunk = new_chunk(data, scratch.count)
    cdef size_t index, start = 0
    cdef Numbered* events = scratch.events
    qsort(events, scratch.count, sizeof(Numbered), &by_number_and_place)
    for index in range(scratch.count):
        chunk.events[index] = events[index].event
        if index + 1 == scratch.count or events[index + 1].sequence != events[index].sequence + 1:
            runs.append(
                compact(
                    chunk,
                    chunk.events + start,
                    events[start].sequence,
                    events[index].sequence + 1,
                )
            )
            start = index + 1
    return runs


cdef int by_number_and_place(const void* one, const void* other) noexcept nogil:
    cdef const Numbered* a = <const Numbered*>one
    cdef const Numbered* b = <const Numbered*>other
    if a.sequence != b.sequence:
        return -1 if a.sequence < b.sequence else 1
    return -1 if a.event.start < b.event.start else 1


cdef Run compact(Chunk chunk, Event* events, uint64_t first, uint64_t end):
    """Return a run. A small one is copied, so that it does not keep the whole chunk alive."""
    cdef size_t index, size = 0, count = end - first
    cdef const char* source = PyBytes_AS_STRING(chunk.data)
    cdef Chunk own
    for index in range(count):
        size += size_of(events + index)
    if PINNED * size >= <size_t>PyBytes_GET_SIZE(chunk.data):
        return new_run(chunk, events, first, end, False)
    own = new_chunk(None, count)
    own.data = b"".join(
        [
            source[events[index].start : events[index].start + size_of(events + index)]
            for index in range(count)
        ]
    )
    size = 0
    for index in range(count):
        own.events[index] = events[index]
        own.events[index].start = size
        size += size_of(events + index)
    return new_run(own, own.events, first, end, False)
