"""The follows of all users as chunks of bytes, and back; see ``maze.core.chunks``."""

from libc.stdint cimport int64_t, uint64_t

from maze.core._compiled cimport idtable as ids
from maze.core._compiled.audience cimport User
from maze.core._compiled.idtable cimport FREE, NOT_FOUND, IdTable
from maze.core._compiled.usertable cimport SHARDS, UserTable, obtain_user

cdef extern from *:
    """
    /* Converts an integer of a chunk, which is little-endian, and back. */
    static inline int64_t little_endian(int64_t number) {
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        return (int64_t)__builtin_bswap64((uint64_t)number);
    #else
        return number;
    #endif
    }
    """
    int64_t little_endian(int64_t number) noexcept nogil

cdef struct Cursor:
    # Where the next chunk begins. It holds no pointers, so it is safe if the graph changes.
    size_t shard
    size_t slot  # of the user in the shard
    size_t passed  # slots of the user's tables whose ids are in earlier chunks


cdef inline size_t slots_of(const IdTable* table) noexcept nogil:
    return ids.mask_of(table) + 1 if table.ids != NULL else 0


cdef inline size_t follow_slots(const User* user) noexcept nogil:
    """Return how many slots the two tables of the users that a user follows have."""
    cdef size_t slots = slots_of(&user.following)
    return slots + slots_of(&user.member.joined) if user.member != NULL else slots


cdef inline size_t fill_chunk(
    const UserTable* table, Cursor* cursor, int64_t* chunk, size_t room
) noexcept nogil:
    """Write records until the chunk is full or all are written; return the integers used."""
    cdef size_t used = 0
    cdef const IdTable* shard
    cdef const User* user
    while cursor.shard < SHARDS:
        shard = &table.shards[cursor.shard]
        if cursor.slot >= slots_of(shard):
            cursor.shard += 1
            cursor.slot = cursor.passed = 0
            continue
        if shard.ids[cursor.slot] != FREE:
            user = <const User*>shard.values[cursor.slot]
            used += write_record(user, &cursor.passed, chunk + used, room - used)
            if cursor.passed < follow_slots(user):
                return used
        cursor.slot += 1
        cursor.passed = 0
    return used


cdef inline size_t write_record(
    const User* user, size_t* passed, int64_t* record, size_t room
) noexcept nogil:
    """Write a user's further follows as far as there is room; return the integers used."""
    cdef size_t apart = slots_of(&user.following), slots = follow_slots(user), used = 2
    cdef int64_t followed
    while passed[0] < slots and used < room:
        if passed[0] < apart:
            followed = user.following.ids[passed[0]]
        else:
            followed = user.member.joined.ids[passed[0] - apart]
        passed[0] += 1
        if followed != FREE:
            record[used] = little_endian(followed)
            used += 1
    if used == 2:
        return 0
    record[0] = little_endian(user.id)
    record[1] = little_endian(used - 2)
    return used


cdef inline bint is_well_formed(const int64_t* chunk, size_t size) noexcept nogil:
    """Return whether the integers are records."""
    cdef size_t at = 0, end
    cdef int64_t count
    while at < size:
        if size - at < 3 or little_endian(chunk[at]) < 0:
            return False
        count = little_endian(chunk[at + 1])
        at += 2
        if count < 1 or <uint64_t>count > size - at:
            return False
        end = at + count
        while at < end:
            if little_endian(chunk[at]) < 0:
                return False
            at += 1
    return True


cdef inline int add_chunk(
    UserTable* table, const int64_t* chunk, size_t size, uint64_t* users, uint64_t* follows
) except -1:
    """Add the follows of well-formed records to users without members, and count them."""
    cdef size_t at = 0, end
    cdef User* user
    while at < size:
        user = obtain_user(table, little_endian(chunk[at]))
        end = at + 2 + little_endian(chunk[at + 1])
        at += 2
        while at < end:
            if ids.put(
                &user.following, little_endian(chunk[at]), NULL, False, table.multiplier
            ) != NOT_FOUND:
                follows[0] += 1
                users[0] += user.following.count == 1
            at += 1
    return 0
