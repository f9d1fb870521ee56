"""What the fan-out and the outbox need of the follow graph."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint64_t

from maze.core._compiled.audience cimport Audience, Member, User
from maze.core._compiled.idtable cimport IdTable
from maze.core._compiled.usertable cimport UserTable


cdef enum Result:
    # As in graph.
    REFUSED, CHANGED, UNCHANGED


cdef class Recipient:
    cdef readonly int64_t user
    cdef PyObject* earlier  # the user's sessions connected just before and after this one
    cdef PyObject* later


cdef class FollowGraph:
    cdef readonly dict recipients
    cdef UserTable user_table
    cdef uint64_t multiplier  # of the hash in every table; the same as in ``user_table``
    cdef readonly uint64_t users  # number of users who follow at least one user
    cdef readonly uint64_t follows
    cdef readonly uint64_t listeners
    cdef uint64_t max_users, max_follows, max_per_user
    cdef size_t at_once
    cdef Audience moving_in, moving_out  # users who have yet to enter or leave some audiences
    cdef int link(self, int64_t follower, int64_t followed) except -1
    cdef int link_no_more(self, const IdTable* table, int64_t followed) noexcept
    cdef bint can_hold(self, int64_t follower, int64_t followed) noexcept
    cdef bint has_follow(self, User* user, int64_t followed) noexcept
    cdef int link_member(self, User* user, int64_t followed) except -1
    cdef bint unlink(self, int64_t follower, int64_t followed) except -1
    cdef int move(self, Member* member) except -1
    cdef bint enter_audiences(self, Member* member, size_t* limit) except -1
    cdef bint leave_audiences(self, Member* member, size_t* limit) except -1


cdef list sessions_of(const Member* member)
