"""The compiled version of ``payload``: a batch may create a payload for each user."""

cimport cython


@cython.final
cdef class Tape:
    """The broadcasts of one batch, joined; see ``payload.Tape``."""

    def __init__(self, bytes data not None):
        self.data = data


@cython.final
cdef class Payload:
    """The bytes that a session gets from one batch; see ``payload.Payload``."""

    def __init__(
        self, list parts not None, Py_ssize_t size, Py_ssize_t own_size, Tape tape not None
    ):
        self.parts = parts
        self.size = size
        self.own_size = own_size
        self.tape = tape

    cpdef Py_ssize_t hold(self):
        """Count one more queue as holder; return by how many bytes the memory held grows."""
        self.holders += 1
        if self.holders > 1:
            return 0
        if self.own_size == self.size:
            return self.size
        self.tape.holders += 1
        return self.own_size + (len(self.tape.data) if self.tape.holders == 1 else 0)

    cpdef Py_ssize_t release(self):
        """Count one holder less; return by how many bytes the memory held shrinks."""
        self.holders -= 1
        if self.holders:
            return 0
        if self.own_size == self.size:
            return self.size
        self.tape.holders -= 1
        return self.own_size + (0 if self.tape.holders else len(self.tape.data))


cdef Payload new_payload(list parts, Py_ssize_t size, Py_ssize_t own_size, Tape tape):
    cdef Payload payload = Payload.__new__(Payload)
    payload.parts = parts
    payload.size = size
    payload.own_size = own_size
    payload.tape = tape
    return payload


cdef Tape new_tape(bytes data):
    cdef Tape tape = Tape.__new__(Tape)
    tape.data = data
    return tape
