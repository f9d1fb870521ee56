"""The compiled twin of ``graph``: the same two indexes, in C arrays and hash tables.

Nobody is kept who follows nobody, is followed by nobody connected, and has no
session. An audience is an array, because that is what a status update walks;
where it is long, a table tells where in it each session stands, so that one can
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
        self.draft.recipient = <PyObject*>self


cdef enum:
    MANY = 64  # drafts, from which on a search costs more than a table


cdef int join(Drafts* drafts, Draft* draft, uint64_t multiplier) except -1:
    cdef void* moved
    cdef size_t index
    if drafts.count == drafts.room:
        moved = realloc(drafts.items, (2 * drafts.room + 1) * sizeof(Draft*))
        if moved == NULL:
            raise MemoryError
        drafts.items = <Draft**>moved
        drafts.room = 2 * drafts.room + 1
    drafts.items[drafts.count] = draft
    drafts.count += 1
    if drafts.places != NULL:
        note_place(drafts, drafts.count - 1, multiplier)
    elif drafts.count >= MANY:
        drafts.places = <IdTable*>calloc(1, sizeof(IdTable))
        for index in range(drafts.count):
            note_place(drafts, index, multiplier)
    return 0


cdef void note_place(Drafts* drafts, size_t index, uint64_t multiplier) noexcept:
    """Note where a draft stands; without memory for that there is no table."""
    if drafts.places != NULL:
        try:
            ids.put(drafts.places, <int64_t>drafts.items[index], <void*>index, True, multiplier)
        except MemoryError:
            forget_places(drafts)


cdef void forget_places(Drafts* drafts) noexcept nogil:
    if drafts.places != NULL:
        ids.clear(drafts.places)
        free(drafts.places)
        drafts.places = NULL


cdef void free_drafts(Drafts* drafts) noexcept nogil:
    forget_places(drafts)
    free(drafts.items)
    drafts.items = NULL
    drafts.count = drafts.room = 0


cdef void leave(Drafts* drafts, Draft* draft, uint64_t multiplier) noexcept:
    """Remove a draft that is among them; the last one takes its place."""
    cdef void* moved
    cdef size_t index = 0
    cdef int64_t slot
    if drafts.places != NULL:
        slot = ids.slot_of(drafts.places, <int64_t>draft, multiplier)
        index = <size_t>drafts.places.values[slot]
        ids.take(drafts.places, slot, multiplier)
    else:
        while drafts.items[index] != draft:
            index += 1
    drafts.count -= 1
    drafts.items[index] = drafts.items[drafts.count]
    if drafts.places != NULL and index != drafts.count:
        slot = ids.slot_of(drafts.places, <int64_t>drafts.items[index], multiplier)
        drafts.places.values[slot] = <void*>index
    if 2 * drafts.count < MANY:
        forget_places(drafts)
    if not drafts.count:
        free(drafts.items)
        drafts.items = NULL
        drafts.room = 0
    elif SPARSE * drafts.count < drafts.room:
        moved = realloc(drafts.items, drafts.room // 2 * sizeof(Draft*))
        if moved != NULL:
            drafts.items = <Draft**>moved
            drafts.room //= 2


cdef void free_users(IdTable* known) noexcept nogil:
    cdef size_t slot
    cdef User* user
    if known.ids == NULL:
        return
    for slot in range(ids.mask_of(known) + 1):
        if known.ids[slot] != FREE:
            user = <User*>known.values[slot]
            ids.clear(&user.following)
            free_drafts(&user.audience)
            free_drafts(&user.sessions)
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

    def has_room_for(self, user):
        """Whether the audiences have places for one more recipient of the user."""
        cdef User* found = self.find(user)
        if found == NULL or not found.following.count:
            return True
        return self.listeners + found.following.count <= self.max_follows

    def connect(self, Recipient recipient not None):
        """Add a recipient, for which there has to be room; O(users it follows)."""
        cdef User* user
        cdef User* other
        cdef size_t slot
        if recipient in self.recipients:
            raise ValueError("the recipient is connected already")
        user = self.obtain(recipient.user)
        join(&user.sessions, &recipient.draft, self.multiplier)
        self.recipients[recipient] = None
        self.listeners += user.following.count
        if user.following.ids != NULL:
            for slot in range(ids.mask_of(&user.following) + 1):
                if user.following.ids[slot] != FREE:
                    other = self.obtain(user.following.ids[slot])
                    join(&other.audience, &recipient.draft, self.multiplier)

    def disconnect(self, Recipient recipient not None):
        """Remove a recipient that was connected; O(audiences it is in)."""
        cdef User* user
        del self.recipients[recipient]
        user = self.find(recipient.user)
        leave(&user.sessions, &recipient.draft, self.multiplier)
        self.listeners -= user.following.count
        self.leave_audiences(user, &recipient.draft)
        self.drop_if_empty(user)

    def of_user(self, user):
        """The recipients of one user: one for each of the user's sessions."""
        cdef User* found = self.find(user)
        return recipients_of(&found.sessions) if found != NULL else []

    def audience(self, user):
        """The recipients of everyone connected who follows the user."""
        cdef User* found = self.find(user)
        return recipients_of(&found.audience) if found != NULL else []

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
        cdef IdTable kept = IdTable(NULL, NULL, 0, 0)  # of those who have sessions
        cdef uint64_t multiplier = self.known_multiplier
        cdef Recipient recipient
        cdef int64_t slot
        cdef User* user
        if self.recipients and not ids.reserve(&kept, len(self.recipients), multiplier):
            raise MemoryError
        for recipient in self.recipients:
            slot = ids.slot_of(&self.known, recipient.user, multiplier)
            if slot == NOT_FOUND:  # it came along with another session of the user
                continue
            user = <User*>self.known.values[slot]
            ids.put(&kept, user.id, user, True, multiplier)
            ids.take(&self.known, slot, multiplier)
            ids.clear(&user.following)
            free_drafts(&user.audience)
        if kept.count:
            ids.fit(&kept, multiplier)
        remains.known = self.known
        self.known = kept
        self.users = self.follows = self.listeners = 0
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
        cdef size_t index
        if (
            self.follows >= self.max_follows
            or self.users >= self.max_users
            or self.listeners + <uint64_t>len(self.recipients) > self.max_follows
        ) and not self.can_hold(follower, followed):
            return False
        user = self.obtain(follower)
        if user.following.count >= self.max_per_user:
            return ids.slot_of(&user.following, followed, self.multiplier) != NOT_FOUND
        if user.sessions.count:
            other = self.obtain(followed)  # before anything is changed: there may be no memory
        if ids.put(&user.following, followed, NULL, False, self.multiplier) == NOT_FOUND:
            return True
        self.follows += 1
        self.users += user.following.count == 1
        self.listeners += user.sessions.count
        self.moves += user.sessions.count
        if user.sessions.count:
            for index in range(user.sessions.count):
                join(&other.audience, user.sessions.items[index], self.multiplier)
        return True

    cdef bint can_hold(self, int64_t follower, int64_t followed) noexcept:
        """Whether a follow can hold in a graph that is at a bound, or may be."""
        cdef User* user = self.find(follower)
        cdef uint64_t recipients = 0
        if user != NULL:
            if ids.slot_of(&user.following, followed, self.multiplier) != NOT_FOUND:
                return True
            recipients = user.sessions.count
        if self.follows >= self.max_follows or self.listeners + recipients > self.max_follows:
            return False
        return self.users < self.max_users or (user != NULL and user.following.count)

    cdef int unlink(self, int64_t follower, int64_t followed) except -1:
        cdef User* user = self.find(follower)
        cdef User* other
        cdef int64_t slot
        cdef size_t index
        if user == NULL:
            return 0
        slot = ids.slot_of(&user.following, followed, self.multiplier)
        if slot == NOT_FOUND:
            return 0
        ids.take(&user.following, slot, self.multiplier)
        self.follows -= 1
        self.users -= user.following.count == 0
        self.listeners -= user.sessions.count
        self.moves += user.sessions.count
        if user.sessions.count:
            other = self.find(followed)
            for index in range(user.sessions.count):
                leave(&other.audience, user.sessions.items[index], self.multiplier)
            if other != user:
                self.drop_if_empty(other)
        self.drop_if_empty(user)
        return 0

    cdef void leave_audiences(self, User* user, Draft* draft) noexcept:
        cdef size_t slot
        cdef User* other
        if user.following.ids == NULL:
            return
        for slot in range(ids.mask_of(&user.following) + 1):
            if user.following.ids[slot] != FREE:
                other = self.find(user.following.ids[slot])
                leave(&other.audience, draft, self.multiplier)
                if other != user:
                    self.drop_if_empty(other)

    cdef void drop_if_empty(self, User* user) noexcept:
        cdef int64_t slot
        if not (user.following.count or user.audience.count or user.sessions.count):
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
            for followed in self.following(recipient.user):
                audience.setdefault(followed, set()).add(recipient)
        users = self._users()
        assert len(users) == len(set(users)) == self.known.count
        assert audience.keys() | by_user.keys() <= set(users)
        for user in users:
            assert len(self.audience(user)) == len(audience.get(user, ()))
            assert set(self.audience(user)) == audience.get(user, set())
            assert len(self.of_user(user)) == len(by_user.get(user, ()))
            assert set(self.of_user(user)) == set(by_user.get(user, ()))
            assert self.following(user) or user in audience or user in by_user
            assert len(self.following(user)) == self.find(user).following.count
            check_places(&self.find(user).audience, self.multiplier)
            check_places(&self.find(user).sessions, self.multiplier)
        assert self.follows == sum(len(self.following(user)) for user in users)
        assert self.listeners == sum(map(len, audience.values()))
        assert self.users == sum(bool(self.following(user)) for user in users)
        assert self.follows <= self.max_follows
        assert self.users <= self.max_users


cdef int check_places(const Drafts* drafts, uint64_t multiplier) except -1:
    cdef int64_t slot
    cdef size_t index
    assert (drafts.places != NULL) >= (drafts.count >= MANY)
    if drafts.places != NULL:
        assert drafts.places.count == drafts.count
        for index in range(drafts.count):
            slot = ids.slot_of(drafts.places, <int64_t>drafts.items[index], multiplier)
            assert slot != NOT_FOUND
            assert <size_t>drafts.places.values[slot] == index
    return 0


cdef list recipients_of(const Drafts* drafts):
    cdef size_t index
    return [<object>drafts.items[index].recipient for index in range(drafts.count)]
