"""The table of users, by id.

It is a single hash table up to SPLIT_USERS users and is divided into SHARDS tables beyond, because
resizing a single table of millions takes too long.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from maze.core._compiled cimport idtable as ids
from maze.core._compiled.audience cimport User, free_audience, free_member
from maze.core._compiled.idtable cimport FREE, NOT_FOUND, IdTable

cdef enum:
    SHARD_BITS = 6
    SHARDS = 1 << SHARD_BITS
    SPLIT_USERS = 1 << 15  # users in a single table; a second hash costs 3% of the CPU in W8

cdef struct UserTable:
    IdTable shards[SHARDS]  # all users are in the first until the table is split
    bint is_split
    uint64_t multiplier  # of the hash in each shard
    uint64_t shard_multiplier  # of the hash that chooses the shard


cdef inline IdTable* shard_of(UserTable* table, int64_t id) noexcept nogil:
    """Return the shard that the user belongs in."""
    if not table.is_split:
        return table.shards
    return table.shards + ((<uint64_t>id * table.shard_multiplier) >> (64 - SHARD_BITS))


cdef inline User* find_user(UserTable* table, int64_t id) noexcept nogil:
    """Return the user, or NULL if it is not in the table."""
    cdef IdTable* shard = shard_of(table, id)
    cdef int64_t slot = ids.slot_of(shard, id, table.multiplier)
    return <User*>shard.values[slot] if slot != NOT_FOUND else NULL


cdef inline User* obtain_user(UserTable* table, int64_t id) except NULL:
    """Return the user; add it if it is not in the table."""
    cdef User* user = find_user(table, id)
    return user if user != NULL else add_user(table, id)


cdef inline User* add_user(UserTable* table, int64_t id) except NULL:
    """Add a user that is not in the table."""
    cdef User* user = <User*>calloc(1, sizeof(User))
    if user == NULL:
        raise MemoryError
    user.id = id
    if table.is_split:
        grow_early(table, shard_of(table, id))
    elif table.shards[0].count >= SPLIT_USERS:
        split(table)
    try:
        ids.put(shard_of(table, id), id, user, True, table.multiplier)
    except MemoryError:
        free(user)
        raise
    return user


cdef inline void drop_if_empty(UserTable* table, User* user) noexcept:
    """Remove and free a user that has neither follows nor an audience nor a member."""
    cdef IdTable* shard
    if not (user.following.count or user.audience.count or user.member != NULL):
        shard = shard_of(table, user.id)
        ids.take(shard, ids.slot_of(shard, user.id, table.multiplier), table.multiplier)
        free(user)


cdef inline void split(UserTable* table) noexcept:
    """Divide the single table into shards; if memory runs out, it stays as it is."""
    cdef IdTable whole = table.shards[0]
    cdef size_t slot
    cdef int shard
    memset(table.shards, 0, sizeof(table.shards))
    table.is_split = True
    try:
        for slot in range(ids.mask_of(&whole) + 1):
            if whole.ids[slot] != FREE:
                ids.put(
                    shard_of(table, whole.ids[slot]),
                    whole.ids[slot],
                    whole.values[slot],
                    True,
                    table.multiplier,
                )
        ids.clear(&whole)
    except MemoryError:
        for shard in range(SHARDS):
            ids.clear(&table.shards[shard])
        table.shards[0] = whole
        table.is_split = False


cdef inline void grow_early(UserTable* table, IdTable* shard) noexcept:
    """Resize a shard when it is between a third and two thirds full.

    The threshold differs for each shard: all of them fill at the same rate, and would otherwise
    be resized one right after the other.
    """
    cdef uint64_t index = shard - table.shards
    if shard.ids == NULL:
        return
    if 3 * SHARDS * (<uint64_t>shard.count + 1) > (SHARDS + index) * (ids.mask_of(shard) + 1):
        ids.resize(shard, shard.bits + 1, True, table.multiplier)


cdef inline void free_users(UserTable* table) noexcept nogil:
    """Free all users, which leaves the table empty."""
    cdef int index
    cdef size_t slot
    cdef IdTable* shard
    cdef User* user
    for index in range(SHARDS):
        shard = table.shards + index
        if shard.ids == NULL:
            continue
        for slot in range(ids.mask_of(shard) + 1):
            if shard.ids[slot] != FREE:
                user = <User*>shard.values[slot]
                ids.clear(&user.following)
                free_audience(&user.audience)
                free_member(user.member)
                free(user)
        ids.clear(shard)
