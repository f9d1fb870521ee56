"""The compiled version of ``outbox``: a short send costs little more than its system call.

System calls are made with the interpreter's lock held: the socket does not block, and releasing
and taking the lock costs as much as the rest of a send.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, errno
from libc.string cimport memset, strerror

from maze.core._compiled.graph cimport Recipient
from maze.core._compiled.payload cimport Payload

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX

cdef extern from "<sys/socket.h>" nogil:
    struct iovec:
        void* iov_base
        size_t iov_len

    struct msghdr:
        iovec* msg_iov
        size_t msg_iovlen

    int MSG_DONTWAIT, MSG_NOSIGNAL
    ssize_t send(int descriptor, const void* data, size_t size, int flags)
    ssize_t sendmsg(int descriptor, const msghdr* message, int flags)

cdef enum:
    SEND_BYTES = 48 * 1024  # as in outbox
    MAX_PARTS = 512
    PAYLOAD_BYTES = 240
    BLOCKED = -1
    FAILED = -(1 << 30)  # an exception is set; no errno has this value


cdef class QueuedMemory:
    """Memory of all queued payloads together; see ``outbox.QueuedMemory``."""

    cdef public Py_ssize_t bytes


def push_all(list payloads not None):
    """Queue each recipient's payload; return the recipients, which have to be outboxes."""
    cdef list outboxes = []
    for outbox, payload in payloads:
        (<Outbox?>outbox).take_in(payload)
        outboxes.append(outbox)
    return outboxes


def flush_all(list outboxes not None, Py_ssize_t limit):
    """Flush the outboxes; return those that still hold more than the limit, in bytes."""
    cdef list full = []
    for outbox in outboxes:
        (<Outbox?>outbox).send_now()
        if (<Outbox>outbox).held_bytes > limit:
            full.append(outbox)
    return full


cdef class Outbox(Recipient):
    """The payloads that wait for one recipient; see ``outbox.Outbox``."""

    cdef readonly Py_ssize_t queued_bytes
    cdef readonly Py_ssize_t held_bytes
    cdef readonly Py_ssize_t pushed_bytes
    cdef readonly Py_ssize_t sent_bytes
    cdef public bint writing
    cdef readonly object connection
    cdef bint direct  # whether sends bypass the connection and use the descriptor
    cdef int descriptor
    cdef Py_ssize_t unsent_bytes  # encrypted and not sent, as counted in ``queued_memory``
    cdef object queue
    cdef QueuedMemory queued_memory
    cdef Py_ssize_t queued  # number of payloads in the queue; saves calls of the queue
    cdef list in_hand
    cdef list parts  # parts of the payloads in hand; None if there are none
    cdef Py_ssize_t part  # index of the first part that was not sent completely
    cdef Py_ssize_t offset  # bytes of that part that were sent

    def __init__(self, user, connection, queue, QueuedMemory queued_memory not None):
        Recipient.__init__(self, user)
        self.connection = connection
        self.direct = connection.direct
        self.descriptor = connection.descriptor
        self.queue = queue
        self.queued_memory = queued_memory
        self.in_hand = []

    def push(self, Payload payload not None):
        """Queue a payload."""
        self.take_in(payload)

    cdef int take_in(self, Payload payload) except -1:
        self.queued_bytes += payload.size
        self.held_bytes += payload.size + PAYLOAD_BYTES
        self.pushed_bytes += payload.size
        self.queued_memory.bytes += payload.hold() + PAYLOAD_BYTES
        self.queue.put(payload)
        self.queued += 1
        return 0

    def flush(self):
        """Send what the kernel accepts at once; call ``on_blocked`` if anything is left."""
        self.send_now()

    cdef int send_now(self) except -1:
        if self.writing:
            return 0
        try:
            if not self.send_all(PY_SSIZE_T_MAX if self.direct else 1):
                self.writing = True
                self.on_blocked()
        except Exception as error:
            self.on_error(error)
        return 0

    def advance(self, Py_ssize_t sends=PY_SSIZE_T_MAX):
        """Send until nothing waits, at most ``sends`` times; return False if anything is left."""
        return bool(self.send_all(sends))

    cdef int send_all(self, Py_ssize_t sends) except -1:
        cdef Py_ssize_t sent
        while True:
            if self.parts is None:
                if not self.queued:
                    return self.direct or self.send_unsent()
                self.gather()
            if not sends:
                return 0
            sends -= 1
            sent = self.send_parts()
            if sent == BLOCKED:
                return 0
            self.sent_bytes += sent
            self.skip_sent(sent)

    def discard(self):
        """Drop all payloads; return how many bytes were not sent."""
        cdef Py_ssize_t sent_in_hand = 0
        if self.parts is not None:
            left = sum([len(part) for part in self.parts[self.part :]]) - self.offset
            sent_in_hand = sum([(<Payload>payload).size for payload in self.in_hand]) - left
        lost_bytes = self.queued_bytes - sent_in_hand
        if not self.direct:
            self.connection.drop_unsent()
            self.count_unsent()
        self.parts = None
        self.part = self.offset = 0
        self.release_in_hand()
        while self.queued:
            self.release(self.take())
        return lost_bytes

    def on_blocked(self):
        """Called when the kernel accepts no more for now."""
        raise NotImplementedError

    def on_error(self, error):
        """Called when a flush fails, usually because the connection is broken."""
        raise NotImplementedError

    cdef Payload take(self):
        payload = self.queue.get()
        self.queued -= 1
        return payload

    cdef int gather(self) except -1:
        """Take payloads from the queue until they fill a send."""
        cdef Payload payload
        cdef Py_ssize_t size = 0
        while size < SEND_BYTES and self.queued:
            payload = self.take()
            self.in_hand.append(payload)
            size += payload.size
        if len(self.in_hand) == 1:
            self.parts = payload.parts
        else:
            self.parts = [part for held in self.in_hand for part in (<Payload>held).parts]
        return 0

    cdef Py_ssize_t send_parts(self) except FAILED:
        """Send what is left of the parts; return the bytes that the kernel accepted, or BLOCKED."""
        cdef Py_ssize_t sent
        cdef object part
        if not self.direct:
            return self.send_through()
        while True:
            part = self.parts[self.part]
            if len(self.parts) == self.part + 1 and PyBytes_CheckExact(part):
                sent = send(
                    self.descriptor,
                    PyBytes_AS_STRING(part) + self.offset,
                    PyBytes_GET_SIZE(part) - self.offset,
                    MSG_DONTWAIT | MSG_NOSIGNAL,
                )
                if sent < 0:
                    sent = -errno
            else:
                sent = self.send_vector()
            if sent >= 0:
                return sent
            if sent == -EAGAIN:
                return BLOCKED
            if sent != -EINTR:
                raise OSError(-sent, strerror(-sent).decode())

    cdef Py_ssize_t send_through(self) except FAILED:
        """Send what is left of the parts through the connection; see ``send_parts``."""
        parts = self.parts[self.part : self.part + MAX_PARTS]
        if self.offset:
            parts[0] = memoryview(parts[0])[self.offset :]
        try:
            return self.connection.send(parts)
        except BlockingIOError:
            return BLOCKED
        finally:
            self.count_unsent()

    cdef int send_unsent(self) except -1:
        """Send what the connection has encrypted; return 0 if the kernel accepts only part."""
        try:
            self.connection.send_unsent()
        except BlockingIOError:
            return 0
        finally:
            self.count_unsent()
        return 1

    cdef int count_unsent(self) except -1:
        """Update ``queued_memory`` by what the connection has encrypted and not sent."""
        cdef Py_ssize_t unsent_bytes = self.connection.unsent_bytes
        self.queued_memory.bytes += unsent_bytes - self.unsent_bytes
        self.unsent_bytes = unsent_bytes
        return 0

    cdef Py_ssize_t send_vector(self) except FAILED:
        """Send up to MAX_PARTS parts with one system call; return the bytes sent, or -errno."""
        cdef Py_buffer views[MAX_PARTS]
        cdef iovec vector[MAX_PARTS]
        cdef msghdr message
        cdef Py_ssize_t sent, index, count = 0
        try:
            for index in range(self.part, min(len(self.parts), self.part + MAX_PARTS)):
                PyObject_GetBuffer(self.parts[index], &views[count], PyBUF_SIMPLE)
                vector[count] = iovec(views[count].buf, views[count].len)
                count += 1
            vector[0].iov_base = <char*>vector[0].iov_base + self.offset
            vector[0].iov_len -= self.offset
            memset(&message, 0, sizeof(message))
            message.msg_iov = vector
            message.msg_iovlen = count
            sent = sendmsg(self.descriptor, &message, MSG_DONTWAIT | MSG_NOSIGNAL)
            return sent if sent >= 0 else -errno
        finally:
            for index in range(count):
                PyBuffer_Release(&views[index])

    cdef int skip_sent(self, Py_ssize_t sent) except -1:
        """Advance past the bytes sent; release the payloads in hand once all parts are sent."""
        cdef Py_ssize_t left
        while self.part < len(self.parts):
            left = len(self.parts[self.part]) - self.offset
            if sent < left:
                self.offset += sent
                return 0
            sent -= left
            self.part += 1
            self.offset = 0
        self.parts = None
        self.part = 0
        return self.release_in_hand()

    cdef int release(self, Payload payload) except -1:
        self.queued_bytes -= payload.size
        self.held_bytes -= payload.size + PAYLOAD_BYTES
        self.queued_memory.bytes -= payload.release() + PAYLOAD_BYTES
        return 0

    cdef int release_in_hand(self) except -1:
        for payload in self.in_hand:
            self.release(payload)
        self.in_hand.clear()
        return 0
