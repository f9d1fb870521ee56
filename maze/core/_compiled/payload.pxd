"""Payloads, as the fan-out and the outbox use them."""

cdef class Tape:
    cdef readonly bytes data
    cdef Py_ssize_t holders


cdef class Payload:
    cdef readonly list parts
    cdef readonly Py_ssize_t size
    cdef readonly Py_ssize_t own_size
    cdef readonly Tape tape
    cdef Py_ssize_t holders
    cpdef Py_ssize_t hold(self)
    cpdef Py_ssize_t release(self)


cdef Payload new_payload(list parts, Py_ssize_t size, Py_ssize_t own_size, Tape tape)
cdef Tape new_tape(bytes data)
