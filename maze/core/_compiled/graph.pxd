"""What the fan-out has to know of the follow graph."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t

from maze.core._compiled.idtable cimport IdTable

cdef enum:
    SHARD_BITS = 6
    SHARDS = 1 << SHARD_BITS  # tables of users: resizing a single table of millions takes long
    SPLIT_USERS = 1 << 15  # users in a single table; a second hash costs W8 3% of its CPU

cdef struct PayloadBuilder:
    # The payload of one user while a batch is routed.
    PyObject* own  # the bytes object being filled; NULL if nothing of its own came yet
    size_t used
    size_t room
    size_t mark  # how far into the tape it has got
    PyObject* slices  # a list, once there is a long slice of the tape; else NULL
    size_t usual  # how much it had of its own in the batch before

cdef struct Member:
    # A user in audiences: connected, or disconnected and yet to leave them.
    PayloadBuilder builder
    uint64_t sessions  # number of them
    PyObject* first  # list of its recipients, in order of connecting; borrowed from the graph
    PyObject* last
    User* user
    IdTable joined  # the users it follows whose audiences it is in
    size_t slot  # the last slot from which an id was moved to the other table
    bint is_moving  # in ``moving_in`` or ``moving_out``

cdef struct Audience:
    Member** items
    IdTable* places  # of each member, by its address; NULL while there are few
    uint32_t count
    uint32_t room

cdef struct User:
    int64_t id
    IdTable following  # users it follows; without those in its member's ``joined``
    Audience audience  # the members who have joined it
    Member* member  # NULL if the user is in no audience and has no session


cdef class Recipient:
    cdef readonly int64_t user
    cdef PyObject* earlier  # the user's sessions connected just before and after this one
    cdef PyObject* later


cdef class FollowGraph:
    cdef readonly dict recipients
    cdef IdTable known[SHARDS]  # users; all in the first table until there are SPLIT_USERS
    cdef bint is_split
    cdef uint64_t multiplier  # of all tables
    cdef uint64_t shard_multiplier
    cdef readonly uint64_t users  # that follow anybody
    cdef readonly uint64_t follows
    cdef readonly uint64_t listeners
    cdef uint64_t max_users, max_follows, max_per_user
    cdef size_t at_once
    cdef Audience moving_in, moving_out  # users who have yet to enter or leave some audiences
    cdef void split(self) noexcept
    cdef void grow_early(self, IdTable* known) noexcept
    cdef User* find(self, int64_t id) noexcept
    cdef bint link(self, int64_t follower, int64_t followed) except -1
    cdef bint can_hold(self, int64_t follower, int64_t followed) noexcept
    cdef bint has_follow(self, User* user, int64_t followed) noexcept
    cdef bint link_member(self, User* user, int64_t followed) except -1
    cdef int unlink(self, int64_t follower, int64_t followed) except -1
    cdef int move(self, Member* member) except -1
    cdef bint enter_audiences(self, Member* member, size_t* limit) except -1
    cdef bint leave_audiences(self, Member* member, size_t* limit) except -1
    cdef User* obtain(self, int64_t id) except NULL
    cdef void drop_if_empty(self, User* user) noexcept


cdef list sessions_of(const Member* member)
