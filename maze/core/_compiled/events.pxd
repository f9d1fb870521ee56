"""Runs and their events, as the fan-out reads them."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef enum Kind:
    NO_KIND, FOLLOW, UNFOLLOW, BROADCAST, PRIVATE, STATUS, FOLLOW_UNCHANGED, UNFOLLOW_UNCHANGED

cdef enum Holder:
    # As in events.
    WAITING, READY, RECENT

cdef struct Event:
    # 24 bytes. The sequence number is not stored: it is the run's first plus the event's index.
    int64_t sender
    int64_t target
    uint32_t start  # offset of the line in the chunk's data
    uint32_t size_and_kind


cdef inline uint32_t size_of(const Event* event) noexcept nogil:
    return event.size_and_kind >> 3


cdef inline uint32_t kind_of(const Event* event) noexcept nogil:
    return event.size_and_kind & 7


cdef inline void set_kind(Event* event, uint32_t kind) noexcept nogil:
    event.size_and_kind = (event.size_and_kind & ~<uint32_t>7) | kind


cdef class Chunk:
    cdef bytes data
    cdef Event* events
    cdef size_t room  # capacity, in events
    cdef uint32_t holders[3]  # number of runs held, by holder


cdef class Run:
    cdef Chunk chunk
    cdef Event* slots  # only the fan-out changes them, and only their kinds
    cdef readonly uint64_t first
    cdef readonly uint64_t end
    cdef readonly bint void
    cpdef size_t hold(self, unsigned int holder) except? 0
    cpdef size_t release(self, unsigned int holder) except? 0
