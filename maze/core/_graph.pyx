"""The compiled twin of ``graph``: the same two indexes, in C arrays and hash tables.

Nobody is kept who follows nobody, is followed by nobody connected, and is not
connected. An audience is an array, because that is what a status update walks;
where it is long, a table tells where in it each user stands, so that one can
leave without a search.
"""

import secrets
import sys

from cpython.object cimport PyObject
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free, realloc

from maze.core cimport _idtable as ids
from maze.core._idtable cimport FREE, NOT_FOUND, SPARSE


cdef class Recipient:
    """A session as the core knows it; see ``graph.Recipient``."""

    def __init__(self, user):
        self.user = user


cdef enum:
    MANY = 64  # members, from which on a search costs more than a table


cdef int join(Audience* audience, Member* member, uint64_t multiplier) except -1:
    cdef void* moved
    cdef size_t index
    if audience.count == audience.room:
        moved = realloc(audience.items, (2 * audience.room + 1) * sizeof(Member*))
        if moved == NULL:
            raise MemoryError
        audience.items = <Member**>moved
        audience.room = 2 * audience.room + 1
    audience.items[audience.count] = member
    audience.count += 1
    if audience.places != NULL:
        note_place(audience, audience.count - 1, multiplier)
    elif audience.count >= MANY:
        audience.places = <IdTable*>calloc(1, sizeof(IdTable))
        for index in range(audience.count):
            note_place(audience, index, multiplier)
    return 0


cdef void note_place(Audience* audience, size_t index, uint64_t multiplier) noexcept:
    """Note where a member stands; without memory for that there is no table."""
    cdef int64_t address = <int64_t>audience.items[index]
    if audience.places != NULL:
        try:
            ids.put(audience.places, address, <void*>index, True, multiplier)
        except MemoryError:
            forget_places(audience)


cdef void forget_places(Audience* audience) noexcept nogil:
    if audience.places != NULL:
        ids.clear(audience.places)
        free(audience.places)
        audience.places = NULL


cdef void leave(Audience* audience, Member* member, uint64_t multiplier) noexcept:
    """Remove a member that is among them; the last one takes its place."""
    cdef void* moved
    cdef size_t index = 0
    cdef int64_t slot
    if audience.places != NULL:
        slot = ids.slot_of(audience.places, <int64_t>member, multiplier)
        index = <size_t>audience.places.values[slot]
        ids.take(audience.places, slot, multiplier)
    else:
        while audience.items[index] != member:
            index += 1
    audience.count -= 1
    audience.items[index] = audience.items[audience.count]
    if audience.places != NULL and index != audience.count:
        slot = ids.slot_of(audience.places, <int64_t>audience.items[index], multiplier)
        audience.places.values[slot] = <void*>index
    if 2 * audience.count < MANY:
        forget_places(audience)
    if not audience.count:
        free(audience.items)
        audience.items = NULL
        audience.room = 0
    elif SPARSE * audience.count < audience.room:
        moved = realloc(audience.items, audience.room // 2 * sizeof(Member*))
        if moved != NULL:
            audience.items = <Member**>moved
            audience.room //= 2


cdef Member* new_member() except NULL:
    cdef Member* member = <Member*>calloc(1, sizeof(Member))
    if member == NULL:
        raise MemoryError
    return member


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
    """The recipients of a user, in the order of connecting."""
    cdef list sessions = []
    cdef PyObject* at = member.first
    while at != NULL:
        sessions.append(<object>at)
        at = (<Recipient>at).later
    return sessions


cdef void free_users(IdTable* known) noexcept nogil:
    cdef size_t slot
    cdef User* user
    if known.ids == NULL:
        return
    for slot in range(ids.mask_of(known) + 1):
        if known.ids[slot] != FREE:
            user = <User*>known.values[slot]
            ids.clear(&user.following)
            forget_places(&user.audience)
            free(user.audience.items)
            free(user.member)
            free(user)
    ids.clear(known)


cdef class Remains:
    """What a graph has forgotten; see ``graph.Remains``."""

    cdef IdTable known

    def __dealloc__(self):
        free_users(&self.known)

    def free(self):
        """Free it; in a thread other threads run meanwhile."""
        with nogil:
            free_users(&self.known)


cdef class FollowGraph:
    """Who follows whom, and the connected recipients; see ``graph.FollowGraph``."""

    def __cinit__(self):
        self.recipients = {}
        self.multiplier = secrets.randbits(64) | 1
        self.known_multiplier = secrets.randbits(64) | 1

    def __init__(
        self, max_users=sys.maxsize, max_follows=sys.maxsize, max_follows_per_user=sys.maxsize
    ):
        self.max_users = max_users
        self.max_follows = max_follows
        self.max_per_user = max_follows_per_user

    def __dealloc__(self):
        free_users(&self.known)

    def follow(self, follower, followed):
        """From here on ``follower`` follows ``followed``; idempotent. False if there is no room."""
        return self.link(follower, followed)

    def unfollow(self, follower, followed):
        """Undo any number of follows; nothing happens if there were none."""
        self.unlink(follower, followed)

    def connect(self, Recipient recipient not None):
        """Add a recipient; for the first one of its user O(users it follows)."""
        cdef User* user
        cdef User* other
        cdef size_t slot
        if recipient in self.recipients:
            raise ValueError("the recipient is connected already")
        user = self.obtain(recipient.user)
        self.recipients[recipient] = None
        if user.member != NULL:
            add_session(user.member, recipient)
            return
        user.member = new_member()
        add_session(user.member, recipient)
        self.listeners += user.following.count
        if user.following.ids != NULL:
            for slot in range(ids.mask_of(&user.following) + 1):
                if user.following.ids[slot] != FREE:
                    other = self.obtain(user.following.ids[slot])
                    join(&other.audience, user.member, self.multiplier)

    def disconnect(self, Recipient recipient not None):
        """Remove a recipient that was connected; for the last one of its user as ``connect``."""
        cdef User* user
        cdef User* other
        cdef size_t slot
        del self.recipients[recipient]
        user = self.find(recipient.user)
        remove_session(user.member, recipient)
        if user.member.sessions:
            return
        self.listeners -= user.following.count
        if user.following.ids != NULL:
            for slot in range(ids.mask_of(&user.following) + 1):
                if user.following.ids[slot] != FREE:
                    other = self.find(user.following.ids[slot])
                    leave(&other.audience, user.member, self.multiplier)
                    if other != user:
                        self.drop_if_empty(other)
        free(user.member)
        user.member = NULL
        self.drop_if_empty(user)

    def session_count(self, user):
        """How many recipients the user has."""
        cdef User* found = self.find(user)
        return found.member.sessions if found != NULL and found.member != NULL else 0

    def of_user(self, user):
        """The recipients of one user, one for each session, in the order of connecting."""
        cdef User* found = self.find(user)
        return sessions_of(found.member) if found != NULL and found.member != NULL else []

    def audience(self, user):
        """The recipients of everyone connected who follows the user."""
        cdef User* found = self.find(user)
        cdef list recipients = []
        cdef size_t index
        if found != NULL:
            for index in range(found.audience.count):
                recipients += sessions_of(found.audience.items[index])
        return recipients

    def following(self, user):
        """Whom the user follows."""
        cdef User* found = self.find(user)
        if found == NULL or found.following.ids == NULL:
            return frozenset()
        return frozenset(
            [
                found.following.ids[slot]
                for slot in range(ids.mask_of(&found.following) + 1)
                if found.following.ids[slot] != FREE
            ]
        )

    def clear(self):
        """Forget who follows whom; see ``graph.FollowGraph.clear``."""
        cdef Remains remains = Remains.__new__(Remains)
        cdef Recipient recipient
        cdef User* user
        remains.known = self.known
        self.known = IdTable(NULL, NULL, 0, 0)
        self.users = self.follows = self.listeners = 0
        for recipient in self.recipients:
            user = self.obtain(recipient.user)
            if user.member == NULL:
                user.member = new_member()
            add_session(user.member, recipient)
        return remains

    cdef User* find(self, int64_t id) noexcept:
        """The user, or NULL if nothing is known of it."""
        cdef int64_t slot = ids.slot_of(&self.known, id, self.known_multiplier)
        return <User*>self.known.values[slot] if slot != NOT_FOUND else NULL

    cdef User* obtain(self, int64_t id) except NULL:
        """The user, as a new one if nothing is known of it."""
        cdef User* user = self.find(id)
        if user == NULL:
            user = <User*>calloc(1, sizeof(User))
            if user == NULL:
                raise MemoryError
            user.id = id
            try:
                ids.put(&self.known, id, user, True, self.known_multiplier)
            except MemoryError:
                free(user)
                raise
        return user

    cdef bint link(self, int64_t follower, int64_t followed) except -1:
        """Make the follow hold; false if there is no room for it."""
        cdef User* user
        cdef User* other = NULL
        if (self.follows >= self.max_follows or self.users >= self.max_users) and not self.can_hold(
            follower, followed
        ):
            return False
        user = self.obtain(follower)
        if user.following.count >= self.max_per_user:
            return ids.slot_of(&user.following, followed, self.multiplier) != NOT_FOUND
        if user.member != NULL:
            other = self.obtain(followed)  # before anything is changed: there may be no memory
        if ids.put(&user.following, followed, NULL, False, self.multiplier) == NOT_FOUND:
            return True
        self.follows += 1
        self.users += user.following.count == 1
        if user.member != NULL:
            join(&other.audience, user.member, self.multiplier)
            self.listeners += 1
        return True

    cdef bint can_hold(self, int64_t follower, int64_t followed) noexcept:
        """Whether a follow can hold in a graph that is at a bound."""
        cdef User* user = self.find(follower)
        if user != NULL and ids.slot_of(&user.following, followed, self.multiplier) != NOT_FOUND:
            return True
        if self.follows >= self.max_follows:
            return False
        return self.users < self.max_users or (user != NULL and user.following.count)

    cdef int unlink(self, int64_t follower, int64_t followed) except -1:
        cdef User* user = self.find(follower)
        cdef User* other
        cdef int64_t slot
        if user == NULL:
            return 0
        slot = ids.slot_of(&user.following, followed, self.multiplier)
        if slot == NOT_FOUND:
            return 0
        ids.take(&user.following, slot, self.multiplier)
        self.follows -= 1
        self.users -= user.following.count == 0
        if user.member != NULL:
            other = self.find(followed)
            leave(&other.audience, user.member, self.multiplier)
            self.listeners -= 1
            if other != user:
                self.drop_if_empty(other)
        self.drop_if_empty(user)
        return 0

    cdef void drop_if_empty(self, User* user) noexcept:
        cdef int64_t slot
        if not (user.following.count or user.audience.count or user.member != NULL):
            slot = ids.slot_of(&self.known, user.id, self.known_multiplier)
            ids.take(&self.known, slot, self.known_multiplier)
            free(user)

    def _users(self):
        """The ids of everybody of whom anything is known; for the tests."""
        cdef size_t slot
        if self.known.ids == NULL:
            return []
        return [
            self.known.ids[slot]
            for slot in range(ids.mask_of(&self.known) + 1)
            if self.known.ids[slot] != FREE
        ]

    def _check(self):
        """State what must be true at all times; for the tests."""
        audience = {}
        by_user = {}
        for recipient in self.recipients:
            by_user.setdefault(recipient.user, []).append(recipient)
        for user in by_user:
            for followed in self.following(user):
                audience.setdefault(followed, []).append(user)
        users = self._users()
        assert len(users) == len(set(users)) == self.known.count
        assert audience.keys() | by_user.keys() <= set(users)
        for user in users:
            found = sorted([recipient.user for recipient in self.audience(user)])
            followers = audience.get(user, [])
            assert found == sorted([one for one in followers for _ in by_user[one]])
            assert self.find(user).audience.count == len(followers)
            assert self.of_user(user) == by_user.get(user, [])
            assert self.session_count(user) == len(self.of_user(user))
            assert self.following(user) or user in audience or user in by_user
            assert len(self.following(user)) == self.find(user).following.count
            check_places(&self.find(user).audience, self.multiplier)
        assert self.follows == sum(len(self.following(user)) for user in users)
        assert self.listeners == sum(map(len, audience.values())) <= self.follows
        assert self.users == sum(bool(self.following(user)) for user in users)
        assert self.follows <= self.max_follows
        assert self.users <= self.max_users


cdef int check_places(const Audience* audience, uint64_t multiplier) except -1:
    cdef int64_t slot
    cdef size_t index
    assert (audience.places != NULL) >= (audience.count >= MANY)
    if audience.places != NULL:
        assert audience.places.count == audience.count
        for index in range(audience.count):
            slot = ids.slot_of(audience.places, <int64_t>audience.items[index], multiplier)
            assert slot != NOT_FOUND
            assert <size_t>audience.places.values[slot] == index
    return 0
