"""A hash table of user ids, with or without a value for each.

It uses open addressing with linear probing and is from an eighth to two thirds full, so that
removed ids do not take memory. Removal moves later ids back, so that there are no tombstones
(Knuth, The Art of Computer Programming, volume 3, 6.4, algorithm R). The hash is multiplication by
an odd number that is drawn for each graph, so nobody can choose ids that collide (Dietzfelbinger
et al., A reliable randomized algorithm for the closest-pair problem, 1997).
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc

cdef enum:
    FREE = -1  # ids are never negative
    NOT_FOUND = -1
    SMALLEST_BITS = 2
    SPARSE = 8  # a table or array with more slots per entry than this is halved

cdef struct IdTable:
    int64_t* ids  # NULL while the table is empty
    void** values  # NULL in a set
    uint32_t count
    uint32_t bits  # the table has 2 ** bits slots


cdef inline size_t mask_of(const IdTable* table) noexcept nogil:
    return (<size_t>1 << table.bits) - 1


cdef inline size_t home_of(const IdTable* table, int64_t id, uint64_t multiplier) noexcept nogil:
    return (<uint64_t>id * multiplier) >> (64 - table.bits)


cdef inline int64_t slot_of(const IdTable* table, int64_t id, uint64_t multiplier) noexcept nogil:
    """Return the slot that holds the id, or NOT_FOUND."""
    cdef size_t slot, mask
    if table.ids == NULL:
        return NOT_FOUND
    mask = mask_of(table)
    slot = home_of(table, id, multiplier)
    while table.ids[slot] != id:
        if table.ids[slot] == FREE:
            return NOT_FOUND
        slot = (slot + 1) & mask
    return slot


cdef inline int64_t put(
    IdTable* table, int64_t id, void* value, bint valued, uint64_t multiplier
) except -2:
    """Add an id; return its slot, or NOT_FOUND if the table already had it."""
    cdef size_t slot, mask
    if table.ids == NULL or 3 * (<uint64_t>table.count + 1) > 2 * (mask_of(table) + 1):
        if not resize(
            table, table.bits + 1 if table.ids != NULL else SMALLEST_BITS, valued, multiplier
        ):
            raise MemoryError
    mask = mask_of(table)
    slot = home_of(table, id, multiplier)
    while table.ids[slot] != FREE:
        if table.ids[slot] == id:
            return NOT_FOUND
        slot = (slot + 1) & mask
    table.ids[slot] = id
    if valued:
        table.values[slot] = value
    table.count += 1
    return slot


cdef inline size_t next_slot(const IdTable* table, size_t slot) noexcept nogil:
    """Return the slot of the next id, in an order unlike that of the slots.

    It is used to move ids to another table one by one. In the order of the slots, consecutive ids
    would go to the same part of the other table, and probing there would take longer and longer.
    """
    cdef size_t mask = mask_of(table)
    cdef uint64_t golden_ratio = 0x9E3779B97F4A7C15  # its fractional part, times 2 ** 64
    # Odd, so that every slot is visited.
    cdef size_t stride = (golden_ratio >> (64 - table.bits)) | 1
    while True:
        slot = (slot + stride) & mask
        if table.ids[slot] != FREE:
            return slot


cdef inline void take(IdTable* table, size_t hole, uint64_t multiplier) noexcept nogil:
    """Remove the id in a slot."""
    cdef size_t slot = hole, mask = mask_of(table)
    table.count -= 1
    if not table.count:
        clear(table)
        return
    while True:
        slot = (slot + 1) & mask
        if table.ids[slot] == FREE:
            break
        # An id whose home is at or before the hole may move into it.
        if ((slot - home_of(table, table.ids[slot], multiplier)) & mask) >= ((slot - hole) & mask):
            table.ids[hole] = table.ids[slot]
            if table.values != NULL:
                table.values[hole] = table.values[slot]
            hole = slot
    table.ids[hole] = FREE
    fit(table, multiplier)


cdef inline void fit(IdTable* table, uint64_t multiplier) noexcept nogil:
    """Shrink a sparse table; if memory runs out, it stays as it is."""
    cdef uint32_t bits = table.bits
    while SPARSE * <uint64_t>table.count < <uint64_t>1 << bits and bits > SMALLEST_BITS:
        bits -= 1
    if bits < table.bits:
        resize(table, bits, table.values != NULL, multiplier)


cdef inline void clear(IdTable* table) noexcept nogil:
    """Free the slots, which leaves the table empty. The values are the caller's."""
    free(table.ids)
    free(table.values)
    table.ids = NULL
    table.values = NULL
    table.count = 0
    table.bits = 0


cdef inline bint resize(
    IdTable* table, uint32_t bits, bint valued, uint64_t multiplier
) noexcept nogil:
    """Move the ids to 2 ** bits slots; return False if memory runs out."""
    cdef IdTable other
    cdef size_t slot, to, size
    other.count = table.count
    other.bits = bits
    size = mask_of(&other) + 1
    other.ids = <int64_t*>malloc(size * sizeof(int64_t))
    other.values = <void**>calloc(size, sizeof(void*)) if valued else NULL
    if other.ids == NULL or (valued and other.values == NULL):
        clear(&other)
        return False
    for slot in range(size):
        other.ids[slot] = FREE
    if table.ids != NULL:
        for slot in range(mask_of(table) + 1):
            if table.ids[slot] == FREE:
                continue
            to = home_of(&other, table.ids[slot], multiplier)
            while other.ids[to] != FREE:
                to = (to + 1) & (size - 1)
            other.ids[to] = table.ids[slot]
            if valued:
                other.values[to] = table.values[slot]
    free(table.ids)
    free(table.values)
    table[0] = other
    return True
