"""The compiled version of ``fanout``: payloads are built while the batch is routed.

Each event for a user is copied to the end of that user's payload, after the broadcasts that were
routed before it. A short slice of the tape is copied as well; a long one is noted and becomes a
separate part. A delivery therefore creates no Python object and does not call into Python; it
only copies about twenty bytes.
"""

import sys

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from maze.core._compiled.audience cimport Audience, Member, PayloadBuilder, User
from maze.core._compiled.buffer cimport (
    FIRST_ROOM, WIDE, Buffer, _PyBytes_Resize, append, finished, new_bytes, start_of
)
from maze.core._compiled.events import LETTERS
from maze.core._compiled.events cimport (
    BROADCAST, FOLLOW, FOLLOW_UNCHANGED, PRIVATE, STATUS, UNFOLLOW, UNFOLLOW_UNCHANGED, Event, Run,
    kind_of, set_kind, size_of
)
from maze.core._compiled.graph cimport CHANGED, REFUSED, FollowGraph, Recipient, sessions_of
from maze.core._compiled.idtable cimport NOT_FOUND, IdTable, slot_of
from maze.core._compiled.payload cimport Tape, new_payload, new_tape
from maze.core._compiled.usertable cimport find_user
from maze.core.rejects import Reason, Reject, Undelivered

cdef enum:
    SLICE_BYTES = 4096  # as in fanout
    ASKED_BYTES = 64  # as in fanout
    MAX_ROOM = 16 * 1024 * 1024  # bytes; maximum allocated in advance for all builders of a batch

cdef struct Tally:
    uint64_t events
    uint64_t deliveries
    uint64_t delivered_bytes
    uint64_t undelivered


cdef class Fanout:
    """Routes runs of events; see ``fanout.Fanout``."""

    cdef readonly FollowGraph graph
    cdef readonly list refused
    cdef readonly list undelivered
    cdef bint keeps_undelivered
    cdef Tally counted[STATUS + 1]  # by Kind

    def __init__(self, FollowGraph graph not None, *, bint keeps_undelivered=False):
        self.graph = graph
        self.refused = []
        self.undelivered = []
        self.keeps_undelivered = keeps_undelivered

    def tallies(self):
        """Return what was routed since the start; see ``fanout.Fanout.tallies``."""
        return {
            LETTERS[kind]: (
                self.counted[kind].events,
                self.counted[kind].deliveries,
                self.counted[kind].delivered_bytes,
            )
            for kind in range(FOLLOW, STATUS + 1)
        }

    def undelivered_counts(self):
        """Return the events whose recipient was not connected; see ``fanout.Fanout``."""
        return {
            LETTERS[FOLLOW]: self.counted[<int>FOLLOW].undelivered,
            LETTERS[PRIVATE]: self.counted[<int>PRIVATE].undelivered,
        }

    def route(self, list runs not None, payload_bytes=sys.maxsize, batch_bytes=sys.maxsize):
        """Route the events of the runs, in order, up to a bound; see ``fanout.Fanout.route``."""
        cdef Batch batch = Batch.__new__(Batch)
        cdef Run run
        cdef Py_ssize_t index
        cdef size_t routed
        batch.graph = self.graph
        batch.tallies = self.counted
        batch.everybody = len(self.graph.recipients)
        batch.payload_bytes = payload_bytes
        batch.batch_bytes = batch_bytes
        batch.touched = []
        self.refused = batch.refused = []
        self.undelivered = []
        batch.undelivered = self.undelivered if self.keeps_undelivered else None
        for index in range(len(runs)):
            run = runs[index]
            if run.void:
                continue
            routed = batch.route(run)
            if routed < run.end - run.first or batch.is_full():
                return batch.payloads(), unrouted_runs(run, routed, runs[index + 1 :])
        return batch.payloads(), []


cdef list unrouted_runs(Run run, size_t routed, list others):
    """Return the runs that are left after ``routed`` events of the first."""
    cdef uint64_t next_sequence = run.first + routed
    return [run.clip(next_sequence, run.end), *others] if next_sequence < run.end else others


@cython.final
cdef class Batch:
    """The state of one call of ``route``."""

    cdef FollowGraph graph
    cdef Tally* tallies  # of the calling Fanout, which outlives the batch
    cdef uint64_t everybody
    cdef Buffer tape
    cdef size_t line_bytes, stored_bytes, payload_bytes, batch_bytes
    cdef size_t room_bytes  # allocated in advance: what the users needed before
    cdef list touched  # one recipient of each user who has a builder in use
    cdef list refused  # rejects of follows that the graph has no room for
    cdef list undelivered  # events whose recipient is not connected; None if they are not kept

    def __dealloc__(self):
        # Builders are left only after an error: payloads() resets them.
        cdef Recipient recipient
        Py_XDECREF(self.tape.data)
        for recipient in self.touched:
            reset(&find_user(&self.graph.user_table, recipient.user).member.builder)

    cdef bint is_full(self) noexcept:
        return self.line_bytes >= self.payload_bytes or self.stored_bytes >= self.batch_bytes

    cdef size_t route(self, Run run) except? 0:
        """Route events until the run ends or the batch is full; return how many were routed."""
        cdef const char* data = PyBytes_AS_STRING(run.chunk.data)
        cdef size_t data_size = PyBytes_GET_SIZE(run.chunk.data)
        cdef size_t index, count = run.end - run.first
        cdef Event* event
        cdef const char* line
        cdef uint32_t size, kind
        cdef int result
        cdef bint wide
        cdef User* user
        cdef int64_t sessions
        cdef Tally* tally
        for index in range(count):
            event = run.slots + index
            kind = kind_of(event)
            size = size_of(event)
            line = data + event.start
            wide = size <= WIDE and event.start + WIDE <= data_size
            if kind > STATUS:
                raise KeyError(LETTERS[kind])  # routed before; it would be tallied out of bounds
            tally = self.tallies + kind
            tally.events += 1
            if kind == BROADCAST:
                append(&self.tape, line, size, wide)
                self.stored_bytes += size
                sessions = self.everybody
            else:
                if kind == UNFOLLOW:
                    if not self.graph.unlink(event.sender, event.target):
                        set_kind(event, UNFOLLOW_UNCHANGED)
                    continue
                if kind == FOLLOW:
                    result = self.graph.link(event.sender, event.target)
                    if result != CHANGED:
                        set_kind(event, FOLLOW_UNCHANGED)
                        if result == REFUSED:
                            self.refuse(run, run.first + index)
                user = find_user(
                    &self.graph.user_table, event.sender if kind == STATUS else event.target
                )
                sessions = 0
                if kind == STATUS:
                    if user != NULL:
                        sessions = self.deliver(
                            user.audience.items, user.audience.count, line, size, wide
                        )
                    if self.graph.moving_in.count:
                        sessions += self.deliver_entering(event.sender, line, size, wide)
                elif user != NULL and user.member != NULL and user.member.sessions:
                    sessions = self.deliver(&user.member, 1, line, size, wide)
                else:
                    tally.undelivered += 1
                    if self.undelivered is not None:
                        self.keep_undelivered(run, run.first + index)
                if not sessions:
                    size = 0  # no session gets it
                    if not (self.graph.moving_in.count or self.graph.moving_out.count):
                        continue
            tally.deliveries += sessions
            tally.delivered_bytes += size * sessions
            self.line_bytes += size
            if self.is_full():
                return index + 1
        return count

    cdef int64_t deliver(
        self, Member** members, size_t count, const char* line, size_t size, bint wide
    ) except -1:
        """Append a line to each member's payload, after the broadcasts that are pending for it.

        Return how many sessions get the line.
        """
        cdef size_t index, pending, gone = 0
        cdef size_t tape_used = self.tape.used  # read once, not for each member
        cdef int64_t sessions = 0
        cdef Member* member
        cdef PayloadBuilder* builder
        cdef char* to
        for index in range(count):
            member = members[index]
            builder = &member.builder
            pending = tape_used - builder.mark
            if builder.own == NULL or pending >= SLICE_BYTES:
                if not member.sessions:  # disconnected, but has yet to leave the audience
                    gone += 1
                    continue
                pending = self.begin_or_refer(member)
            if builder.used + pending + size + WIDE > builder.room:
                grow(builder, pending + size)
            to = start_of(builder.own) + builder.used
            if pending:
                # The tape also has WIDE readable bytes after those used.
                memcpy(
                    to,
                    start_of(self.tape.data) + builder.mark,
                    WIDE if pending <= WIDE else pending,
                )
                builder.mark = tape_used
                to += pending
            if wide:  # the compiler inlines a copy of constant size: W5 takes 7% less CPU
                memcpy(to, line, WIDE)
            else:
                memcpy(to, line, size)
            builder.used += pending + size
            sessions += member.sessions
        self.stored_bytes += size * (count - gone) + ASKED_BYTES * gone
        return sessions

    cdef int64_t deliver_entering(
        self, int64_t sender, const char* line, size_t size, bint wide
    ) except -1:
        """Append a status update for the followers who have yet to enter the sender's audience."""
        cdef Audience* entering = &self.graph.moving_in
        cdef IdTable* apart
        cdef size_t index
        cdef int64_t sessions = 0
        self.stored_bytes += ASKED_BYTES * <size_t>entering.count
        for index in range(entering.count):
            apart = &entering.items[index].user.following
            if slot_of(apart, sender, self.graph.multiplier) != NOT_FOUND:
                sessions += self.deliver(&entering.items[index], 1, line, size, wide)
        return sessions

    cdef size_t begin_or_refer(self, Member* member) except? 0:
        """Begin a payload, or refer to a long slice of the tape; return the bytes still to copy."""
        cdef PayloadBuilder* builder = &member.builder
        if builder.own == NULL:
            builder.mark = 0
            builder.used = 0
            builder.room = FIRST_ROOM
            if self.room_bytes + builder.usual < MAX_ROOM:
                builder.room += builder.usual
                self.room_bytes += builder.usual
            builder.own = new_bytes(NULL, builder.room)
            self.touched.append(<object>member.first)
        if self.tape.used - builder.mark < SLICE_BYTES:
            return self.tape.used - builder.mark
        refer(builder, self.tape.used)
        return 0

    cdef int refuse(self, Run run, uint64_t sequence) except -1:
        self.refused.append(Reject(Reason.GRAPH_FULL, run.line(sequence), sequence))
        return 0

    cdef int keep_undelivered(self, Run run, uint64_t sequence) except -1:
        self.undelivered.append(Undelivered(run.line(sequence), sequence))
        return 0

    cdef list payloads(self):
        """Return a payload for each recipient that gets anything."""
        cdef list payloads = []
        cdef Recipient recipient
        cdef Member* member
        cdef bytes data = finished(&self.tape)
        cdef Tape tape = new_tape(data)
        for recipient in self.touched:
            member = find_user(&self.graph.user_table, recipient.user).member
            payload = finish(&member.builder, data, tape)
            for session in sessions_of(member):
                payloads.append((session, payload))
        self.touched = []
        if data and len(payloads) < len(self.graph.recipients):
            shared = new_payload([data], len(data), 0, tape)
            served = {recipient for recipient, _ in payloads}
            payloads += [(other, shared) for other in self.graph.recipients if other not in served]
        return payloads


cdef int grow(PayloadBuilder* builder, size_t size) except -1:
    cdef size_t room = 2 * builder.room + size
    _PyBytes_Resize(&builder.own, room)
    builder.room = room
    return 0


cdef int refer(PayloadBuilder* builder, size_t tape_used) except -1:
    """Note a long slice of the tape, and its place among the builder's own bytes."""
    if builder.slices == NULL:
        slices = []
        Py_INCREF(slices)
        builder.slices = <PyObject*>slices
    (<list>builder.slices).append((builder.used, builder.mark, tape_used))
    builder.mark = tape_used
    return 0


cdef void reset(PayloadBuilder* builder) noexcept:
    Py_XDECREF(builder.own)
    Py_XDECREF(builder.slices)
    builder.own = NULL
    builder.slices = NULL


cdef object finish(PayloadBuilder* builder, bytes data, Tape tape):
    """Return the payload of a builder and reset the builder."""
    cdef Py_ssize_t tape_size = len(data)
    cdef Py_ssize_t pending = tape_size - builder.mark
    cdef Py_ssize_t start = 0
    cdef list parts = []
    cdef Py_ssize_t referred = 0
    if pending >= SLICE_BYTES:
        refer(builder, tape_size)
    elif pending:
        if builder.used + pending > builder.room:
            grow(builder, pending)
        memcpy(
            start_of(builder.own) + builder.used,
            PyBytes_AS_STRING(data) + builder.mark,
            pending,
        )
        builder.used += pending
    builder.usual = builder.used
    _PyBytes_Resize(&builder.own, builder.used)
    own = <bytes>builder.own
    if builder.slices == NULL:
        parts.append(own)
    else:
        whole, view = memoryview(data), memoryview(own)
        for until, first, end in <list>builder.slices:
            if until > start:
                parts.append(view[start:until])
            parts.append(whole[first:end])
            start = until
            referred += end - first
        if start < len(own):
            parts.append(view[start:])
    reset(builder)
    return new_payload(parts, len(own) + referred, len(own), tape)
