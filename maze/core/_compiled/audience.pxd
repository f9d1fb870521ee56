"""Users, members and audiences of the follow graph, as C structures.

An audience is an array, because a status update walks it. A long audience also has a table of
each member's place in the array, so that a member leaves without a search.
"""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc

from maze.core._compiled cimport idtable as ids
from maze.core._compiled.idtable cimport NOT_FOUND, SPARSE, IdTable

cdef enum:
    MIN_PLACES_MEMBERS = 64  # with this many members, a table costs less than a search

cdef struct PayloadBuilder:
    # The payload of one user while a batch is routed.
    PyObject* own  # bytes object being filled; NULL until the user's first event in the batch
    size_t used
    size_t room
    size_t mark  # length of the tape that the payload already includes
    PyObject* slices  # list of long slices of the tape; NULL until there is one
    size_t usual  # size of ``own`` in the last batch in which the user had one

cdef struct Member:
    # A user in audiences: connected, or disconnected and yet to leave them.
    PayloadBuilder builder
    uint64_t sessions  # number of recipients
    PyObject* first  # linked list of recipients, in order of connecting; borrowed from the graph
    PyObject* last
    User* user
    IdTable joined  # ids of the followed users whose audiences the member is in
    size_t slot  # last slot from which an id was moved between ``following`` and ``joined``
    bint is_moving  # whether the member is in ``moving_in`` or ``moving_out`` of the graph

cdef struct Audience:
    Member** items
    IdTable* places  # index in ``items`` of each member, by its address; NULL in a short audience
    uint32_t count
    uint32_t room

cdef struct User:
    int64_t id
    IdTable following  # ids of the followed users, except those in its member's ``joined``
    Audience audience  # members who have joined it
    Member* member  # NULL if the user is in no audience and has no session


cdef inline int join(Audience* audience, Member* member, uint64_t multiplier) except -1:
    """Add a member to the audience."""
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
    elif audience.count >= MIN_PLACES_MEMBERS:
        audience.places = <IdTable*>calloc(1, sizeof(IdTable))
        for index in range(audience.count):
            note_place(audience, index, multiplier)
    return 0


cdef inline void note_place(Audience* audience, size_t index, uint64_t multiplier) noexcept:
    """Note a member's place in the audience; drop the table if memory runs out."""
    cdef int64_t address = <int64_t>audience.items[index]
    if audience.places != NULL:
        try:
            ids.put(audience.places, address, <void*>index, True, multiplier)
        except MemoryError:
            drop_places(audience)


cdef inline void drop_places(Audience* audience) noexcept nogil:
    """Free the table of places."""
    if audience.places != NULL:
        ids.clear(audience.places)
        free(audience.places)
        audience.places = NULL


cdef inline void leave(Audience* audience, Member* member, uint64_t multiplier) noexcept:
    """Remove a member from the audience; the last member takes its place."""
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
    if 2 * audience.count < MIN_PLACES_MEMBERS:
        drop_places(audience)
    if not audience.count:
        free(audience.items)
        audience.items = NULL
        audience.room = 0
    elif SPARSE * audience.count < audience.room:
        moved = realloc(audience.items, audience.room // 2 * sizeof(Member*))
        if moved != NULL:
            audience.items = <Member**>moved
            audience.room //= 2


cdef inline void free_audience(Audience* audience) noexcept nogil:
    """Empty the audience and free its memory, but not its members."""
    drop_places(audience)
    free(audience.items)
    audience[0] = Audience(NULL, NULL, 0, 0)


cdef inline Member* new_member(User* user) except NULL:
    """Create the member of a user."""
    cdef Member* member = <Member*>calloc(1, sizeof(Member))
    if member == NULL:
        raise MemoryError
    member.user = user
    user.member = member
    return member


cdef inline void free_member(Member* member) noexcept nogil:
    """Free a member; ignore NULL."""
    if member != NULL:
        ids.clear(&member.joined)
        free(member)


cdef inline size_t follows_of(const User* user) noexcept nogil:
    """Return how many users the user follows."""
    return user.following.count + (user.member.joined.count if user.member != NULL else 0)


cdef inline int check_places(const Audience* audience, uint64_t multiplier) except -1:
    """Assert that the table of places agrees with the array; for the tests."""
    cdef int64_t slot
    cdef size_t index
    assert (audience.places != NULL) >= (audience.count >= MIN_PLACES_MEMBERS)
    if audience.places != NULL:
        assert audience.places.count == audience.count
        for index in range(audience.count):
            slot = ids.slot_of(audience.places, <int64_t>audience.items[index], multiplier)
            assert slot != NOT_FOUND
            assert <size_t>audience.places.values[slot] == index
    return 0
