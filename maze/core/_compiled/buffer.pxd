"""A buffer of lines, which becomes a bytes object without a copy."""

from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from libc.string cimport memcpy

cdef extern from "Python.h":
    int _PyBytes_Resize(PyObject** data, Py_ssize_t size) except -1
    PyObject* new_bytes "PyBytes_FromStringAndSize"(const char* data, Py_ssize_t size) except NULL
    char* start_of "PyBytes_AS_STRING"(PyObject* data) nogil

cdef enum:
    WIDE = 32  # bytes copied by two instructions; a shorter line is copied with what follows it
    FIRST_ROOM = 256  # bytes; initial size of a buffer

cdef struct Buffer:
    # A bytes object that grows; WIDE bytes after ``used`` can always be written.
    PyObject* data
    size_t used
    size_t room


cdef inline int append(Buffer* buffer, const char* line, size_t size, bint wide) except -1:
    """Append a line; ``wide`` tells whether WIDE bytes of it can be read."""
    cdef size_t room
    if buffer.used + size + WIDE > buffer.room:
        room = 2 * buffer.room + size + FIRST_ROOM
        if buffer.data == NULL:
            buffer.data = new_bytes(NULL, room)
        else:
            _PyBytes_Resize(&buffer.data, room)
        buffer.room = room
    memcpy(start_of(buffer.data) + buffer.used, line, WIDE if wide else size)
    buffer.used += size
    return 0


cdef inline bytes finished(Buffer* buffer):
    """Return the contents of a buffer and leave it empty."""
    if buffer.data == NULL:
        return b""
    _PyBytes_Resize(&buffer.data, buffer.used)
    data = <bytes>buffer.data
    Py_XDECREF(buffer.data)  # data holds it now
    buffer[0] = Buffer(NULL, 0, 0)
    return data
