"""A connection, plain or over TLS, as a file to read from."""

import io

from maze.net.connection import Connection


class _Received(io.RawIOBase):
    """The bytes that a connection receives."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        data = self._connection.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def file_of(connection: Connection) -> io.BufferedReader:
    """Return a file with what the connection receives; closing it leaves the connection open."""
    return io.BufferedReader(_Received(connection))
