"""The compiled version of ``graph``: the same two indexes, in C arrays and hash tables.

A user is removed from the table of users when it follows nobody, is in nobody's audience, has an
empty audience and is not connected.
"""

import secrets
import sys

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

from maze.core._compiled cimport idtable as ids
from maze.core._compiled.audience cimport (
    Audience, Member, User, check_places, follows_of, free_audience, free_member, join, leave,
    new_member
)
from maze.core._compiled.chunks cimport Cursor, add_chunk, fill_chunk, is_well_formed
from maze.core._compiled.idtable cimport FREE, NOT_FOUND, IdTable
from maze.core._compiled.usertable cimport (
    SHARDS, UserTable, drop_if_empty, find_user, free_users, obtain_user
)
from maze.core.chunks import CHUNK_BYTES, MALFORMED, room_of
from maze.core.graph import AT_ONCE


cdef class Recipient:
    """A session as the core knows it; see ``graph.Recipient``."""

    def __init__(self, user):
        self.user = user


cdef list ids_in(const IdTable* table):
    if table.ids == NULL:
        return []
    return [table.ids[slot] for slot in range(ids.mask_of(table) + 1) if table.ids[slot] != FREE]


cdef void add_session(Member* member, Recipient recipient) noexcept:
    recipient.earlier = member.last
    recipient.later = NULL
    if member.last != NULL:
        (<Recipient>member.last).later = <PyObject*>recipient
    else:
        member.first = <PyObject*>recipient
    member.last = <PyObject*>recipient
    member.sessions += 1


cdef void remove_session(Member* member, Recipient recipient) noexcept:
    if recipient.earlier != NULL:
        (<Recipient>recipient.earlier).later = recipient.later
    else:
        member.first = recipient.later
    if recipient.later != NULL:
        (<Recipient>recipient.later).earlier = recipient.earlier
    else:
        member.last = recipient.earlier
    member.sessions -= 1


cdef list sessions_of(const Member* member):
    """Return the recipients of a user, in order of connecting."""
    cdef list sessions = []
    cdef PyObject* at = member.first
    while at != NULL:
        sessions.append(<object>at)
        at = (<Recipient>at).later
    return sessions


cdef class DetachedGraph:
    """The contents of a graph that was cleared; see ``graph.DetachedGraph``."""

    cdef UserTable user_table

    def __dealloc__(self):
        free_users(&self.user_table)

    def free(self):
        """Free the contents. Other threads can run meanwhile."""
        with nogil:
            free_users(&self.user_table)


cdef class FollowGraph:
    """Who follows whom, and the connected recipients; see ``graph.FollowGraph``."""

    def __cinit__(self):
        self.recipients = {}
        self.multiplier = self.user_table.multiplier = secrets.randbits(64) | 1
        self.user_table.shard_multiplier = secrets.randbits(64) | 1

    def __init__(
        self,
        max_users=sys.maxsize,
        max_follows=sys.maxsize,
        max_follows_per_user=sys.maxsize,
        *,
        at_once=AT_ONCE,
    ):
        self.set_bounds(max_users, max_follows, max_follows_per_user)
        self.at_once = at_once

    def __dealloc__(self):
        free_audience(&self.moving_in)
        free_audience(&self.moving_out)
        free_users(&self.user_table)

    @property
    def entering(self):
        """Number of users who have not entered all their audiences yet."""
        return self.moving_in.count

    def follow(self, follower, followed):
        """Make ``follower`` follow ``followed``; see ``graph.FollowGraph.follow``."""
        return self.link(follower, followed)

    def unfollow(self, follower, followed):
        """Remove a follow, however often it was made; return whether there was one."""
        return self.unlink(follower, followed)

    def connect(self, Recipient recipient not None):
        """Add a recipient. If it is the user's first, the user enters audiences."""
        cdef User* user
        if recipient in self.recipients:
            raise ValueError("the recipient is connected already")
        user = obtain_user(&self.user_table, recipient.user)
        if user.member == NULL:
            new_member(user)
        self.recipients[recipient] = None
        add_session(user.member, recipient)
        if user.member.sessions == 1:
            self.listeners += follows_of(user)
            self.move(user.member)

    def disconnect(self, Recipient recipient not None):
        """Remove a connected recipient. If it is the user's last, the user leaves audiences."""
        cdef User* user
        del self.recipients[recipient]
        user = find_user(&self.user_table, recipient.user)
        remove_session(user.member, recipient)
        if not user.member.sessions:
            self.listeners -= follows_of(user)
            self.move(user.member)

    def settle(self, size_t limit):
        """Enter and leave further audiences; see ``graph.FollowGraph.settle``."""
        cdef Member* member
        while limit and self.moving_in.count:
            member = self.moving_in.items[self.moving_in.count - 1]
            if self.enter_audiences(member, &limit):
                member.is_moving = False
                leave(&self.moving_in, member, self.multiplier)
        while limit and self.moving_out.count:
            member = self.moving_out.items[self.moving_out.count - 1]
            leave(&self.moving_out, member, self.multiplier)
            if not self.leave_audiences(member, &limit):
                join(&self.moving_out, member, self.multiplier)
        return self.moving_in.count + self.moving_out.count > 0

    def session_count(self, user):
        """Return how many recipients the user has."""
        cdef User* found = find_user(&self.user_table, user)
        return found.member.sessions if found != NULL and found.member != NULL else 0

    def of_user(self, user):
        """Return a user's recipients, one for each session, in order of connecting."""
        cdef User* found = find_user(&self.user_table, user)
        return sessions_of(found.member) if found != NULL and found.member != NULL else []

    def audience(self, user):
        """Return the recipients of all connected users who follow the user."""
        cdef User* found = find_user(&self.user_table, user)
        cdef list recipients = []
        cdef Member* member
        cdef size_t index
        if found != NULL:
            for index in range(found.audience.count):
                recipients += sessions_of(found.audience.items[index])
        for index in range(self.moving_in.count):
            member = self.moving_in.items[index]
            if ids.slot_of(&member.user.following, user, self.multiplier) != NOT_FOUND:
                recipients += sessions_of(member)
        return recipients

    def following(self, user):
        """Return the users that the user follows."""
        cdef User* found = find_user(&self.user_table, user)
        if found == NULL:
            return frozenset()
        joined = ids_in(&found.member.joined) if found.member != NULL else []
        return frozenset(ids_in(&found.following) + joined)

    def clear(self):
        """Forget who follows whom; see ``graph.FollowGraph.clear``."""
        cdef DetachedGraph detached = DetachedGraph.__new__(DetachedGraph)
        cdef Recipient recipient
        cdef User* user
        detached.user_table = self.user_table
        memset(self.user_table.shards, 0, sizeof(self.user_table.shards))
        self.user_table.is_split = False
        self.users = self.follows = self.listeners = 0
        free_audience(&self.moving_in)
        free_audience(&self.moving_out)
        for recipient in self.recipients:
            user = obtain_user(&self.user_table, recipient.user)
            if user.member == NULL:
                new_member(user)
            add_session(user.member, recipient)
        return detached

    def set_bounds(self, uint64_t max_users, uint64_t max_follows, uint64_t max_follows_per_user):
        """Apply these bounds from now on; see ``graph.FollowGraph.set_bounds``."""
        self.max_users = max_users
        self.max_follows = max_follows
        self.max_per_user = max_follows_per_user

    def chunks(self, size_t max_bytes=CHUNK_BYTES):
        """Return all follows as chunks of bytes; see ``graph.FollowGraph.chunks``."""
        cdef Cursor cursor = Cursor(0, 0, 0)
        cdef size_t used, room = room_of(max_bytes)
        cdef bytes chunk
        while True:
            chunk = PyBytes_FromStringAndSize(NULL, room * sizeof(int64_t))
            used = fill_chunk(&self.user_table, &cursor, <int64_t*>PyBytes_AS_STRING(chunk), room)
            if not used:
                return
            yield chunk[:used * sizeof(int64_t)]

    def load(self, bytes chunk not None):
        """Add the follows of a chunk, whatever the bounds; see ``graph.FollowGraph.load``."""
        cdef const int64_t* integers = <const int64_t*>PyBytes_AS_STRING(chunk)
        cdef size_t size = len(chunk) // sizeof(int64_t)
        if self.recipients or self.moving_out.count:
            raise ValueError("follows are loaded before users connect")
        if len(chunk) % sizeof(int64_t) or not is_well_formed(integers, size):
            raise ValueError(MALFORMED)
        add_chunk(&self.user_table, integers, size, &self.users, &self.follows)

    cdef int link(self, int64_t follower, int64_t followed) except -1:
        """Add a follow; return a Result."""
        cdef User* user
        if (self.follows >= self.max_follows or self.users >= self.max_users) and not self.can_hold(
            follower, followed
        ):
            return REFUSED
        user = obtain_user(&self.user_table, follower)
        if user.member != NULL:
            return self.link_member(user, followed)
        if user.following.count >= self.max_per_user:
            return self.link_no_more(&user.following, followed)
        if ids.put(&user.following, followed, NULL, False, self.multiplier) == NOT_FOUND:
            return UNCHANGED
        self.follows += 1
        self.users += user.following.count == 1
        return CHANGED

    cdef int link_no_more(self, const IdTable* table, int64_t followed) noexcept:
        """Return the Result of a follow by a user who is at ``max_per_user``."""
        if ids.slot_of(table, followed, self.multiplier) == NOT_FOUND:
            return REFUSED
        return UNCHANGED

    cdef int link_member(self, User* user, int64_t followed) except -1:
        """Add a follow of a user with a member; return a Result."""
        cdef bint is_connected = user.member.sessions > 0
        cdef IdTable* table = &user.member.joined if is_connected else &user.following
        cdef IdTable* other_table = &user.following if is_connected else &user.member.joined
        cdef User* other = NULL
        if ids.slot_of(other_table, followed, self.multiplier) != NOT_FOUND:
            return UNCHANGED
        if follows_of(user) >= self.max_per_user:
            return self.link_no_more(table, followed)
        if is_connected:
            # First: if it raises MemoryError, nothing has changed yet.
            other = obtain_user(&self.user_table, followed)
        if ids.put(table, followed, NULL, False, self.multiplier) == NOT_FOUND:
            return UNCHANGED
        self.follows += 1
        self.users += follows_of(user) == 1
        if is_connected:
            join(&other.audience, user.member, self.multiplier)
            self.listeners += 1
        return CHANGED

    cdef bint can_hold(self, int64_t follower, int64_t followed) noexcept:
        """Return whether a graph that is at a bound can hold the follow."""
        cdef User* user = find_user(&self.user_table, follower)
        if user != NULL and self.has_follow(user, followed):
            return True
        if self.follows >= self.max_follows:
            return False
        return self.users < self.max_users or (user != NULL and follows_of(user))

    cdef bint has_follow(self, User* user, int64_t followed) noexcept:
        if ids.slot_of(&user.following, followed, self.multiplier) != NOT_FOUND:
            return True
        if user.member == NULL:
            return False
        return ids.slot_of(&user.member.joined, followed, self.multiplier) != NOT_FOUND

    cdef bint unlink(self, int64_t follower, int64_t followed) except -1:
        """Remove a follow; return whether there was one."""
        cdef User* user = find_user(&self.user_table, follower)
        cdef User* other
        cdef int64_t slot
        if user == NULL:
            return False
        slot = ids.slot_of(&user.following, followed, self.multiplier)
        if slot != NOT_FOUND:
            ids.take(&user.following, slot, self.multiplier)
        elif user.member != NULL:
            slot = ids.slot_of(&user.member.joined, followed, self.multiplier)
            if slot == NOT_FOUND:
                return False
            ids.take(&user.member.joined, slot, self.multiplier)
            other = find_user(&self.user_table, followed)
            leave(&other.audience, user.member, self.multiplier)
            if other != user:
                drop_if_empty(&self.user_table, other)
        else:
            return False
        self.follows -= 1
        self.users -= follows_of(user) == 0
        self.listeners -= user.member != NULL and user.member.sessions > 0
        drop_if_empty(&self.user_table, user)
        return True

    cdef int move(self, Member* member) except -1:
        """Enter or leave up to ``at_once`` audiences, and the rest in ``settle``."""
        cdef size_t limit = self.at_once
        if member.is_moving:
            leave(&self.moving_out if member.sessions else &self.moving_in, member, self.multiplier)
            member.is_moving = False
        if member.sessions:
            if not self.enter_audiences(member, &limit):
                join(&self.moving_in, member, self.multiplier)
                member.is_moving = True
        elif not self.leave_audiences(member, &limit):
            join(&self.moving_out, member, self.multiplier)
            member.is_moving = True
        return 0

    cdef bint enter_audiences(self, Member* member, size_t* limit) except -1:
        """Enter audiences and decrement the limit for each; return whether none are left."""
        cdef IdTable* apart = &member.user.following
        cdef User* other
        while apart.count:
            if not limit[0]:
                return False
            limit[0] -= 1
            member.slot = ids.next_slot(apart, member.slot)
            other = obtain_user(&self.user_table, apart.ids[member.slot])
            ids.put(&member.joined, other.id, NULL, False, self.multiplier)
            join(&other.audience, member, self.multiplier)
            ids.take(apart, member.slot, self.multiplier)
        return True

    cdef bint leave_audiences(self, Member* member, size_t* limit) except -1:
        """Leave audiences and decrement the limit for each; return whether none are left.

        The member is freed if none are left.
        """
        cdef User* user = member.user
        cdef User* other
        while member.joined.count:
            if not limit[0]:
                return False
            limit[0] -= 1
            member.slot = ids.next_slot(&member.joined, member.slot)
            other = find_user(&self.user_table, member.joined.ids[member.slot])
            ids.put(&user.following, other.id, NULL, False, self.multiplier)
            leave(&other.audience, member, self.multiplier)
            ids.take(&member.joined, member.slot, self.multiplier)
            if other != user:
                drop_if_empty(&self.user_table, other)
        user.member = NULL
        free_member(member)
        drop_if_empty(&self.user_table, user)
        return True

    def _users(self):
        """Return the ids of all users in the graph; for the tests."""
        return [id for shard in range(SHARDS) for id in ids_in(&self.user_table.shards[shard])]

    def _check(self):
        """Assert the invariants; for the tests."""
        audience = {}
        by_user = {}
        joined = {}
        for recipient in self.recipients:
            by_user.setdefault(recipient.user, []).append(recipient)
        for user in by_user:
            for followed in self.following(user):
                audience.setdefault(followed, []).append(user)
        users = self._users()
        assert len(users) == len(set(users))
        moving = [0, 0]
        for user in users:
            self._check_user(user, audience.get(user, []), by_user, joined, moving)
        assert moving == [self.moving_in.count, self.moving_out.count]
        for user in users:
            assert sorted(self._joined(user)) == sorted(joined.get(user, ()))
        assert by_user.keys() <= set(users) >= joined.keys()
        assert self.follows == sum(len(self.following(user)) for user in users)
        assert self.listeners == sum(map(len, audience.values())) <= self.follows
        assert self.users == sum(bool(self.following(user)) for user in users)
        check_places(&self.moving_in, self.multiplier)
        check_places(&self.moving_out, self.multiplier)

    def _check_user(self, id, followers, by_user, joined, moving):
        cdef User* user = find_user(&self.user_table, id)
        cdef Member* member = user.member
        found = sorted([recipient.user for recipient in self.audience(id)])
        assert found == sorted([one for one in followers for _ in by_user[one]])
        assert self.of_user(id) == by_user.get(id, [])
        assert self.session_count(id) == len(self.of_user(id))
        assert user.following.count or user.audience.count or member != NULL
        assert len(self.following(id)) == <Py_ssize_t>follows_of(user)
        check_places(&user.audience, self.multiplier)
        if member == NULL:
            return
        assert member.user == user
        assert member.builder.own == NULL
        for followed in ids_in(&member.joined):
            joined.setdefault(followed, []).append(id)
        if member.sessions:
            assert member.is_moving or not user.following.count
            moving[0] += member.is_moving
        else:
            assert member.is_moving
            moving[1] += 1

    def _joined(self, id):
        cdef Audience* audience = &find_user(&self.user_table, id).audience
        cdef size_t index
        return [audience.items[index].user.id for index in range(audience.count)]
