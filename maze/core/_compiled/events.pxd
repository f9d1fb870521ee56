"""Runs and their events, as the fan-out reads them."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef enum Kind:
    NO_KIND, FOLLOW, UNFOLLOW, BROADCAST, PRIVATE, STATUS

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


cdef class Chunk:
    cdef bytes data
    cdef Event* events
    cdef size_t room  # capacity, in events
    cdef uint32_t holders[2]  # number of runs held: not ready, ready


cdef class Run:
    cdef Chunk chunk
    cdef const Event* slots
    cdef readonly uint64_t first
    cdef readonly uint64_t end
    cdef readonly bint void
