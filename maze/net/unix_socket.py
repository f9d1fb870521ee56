"""Listening on a Unix socket."""

import errno
import os
import socket
import stat
from contextlib import suppress

from gevent.socket import socket as GeventSocket  # noqa: N812

OWNER_ONLY = 0o600
"""Mode of the socket's file: only its owner may connect."""


class SocketFile:
    """The file of a listening Unix socket, which is removed by whoever has made it.

    ``path`` is None for a socket that has no file, or whose file is another process's.
    """

    def __init__(self, path: str | None) -> None:
        self.path = path
        self._made: tuple[int, int] | None = None
        """Device and number of the file."""

    def listen(self, backlog: int) -> GeventSocket:
        """Return a socket that listens at the path; see ``unix_listener``."""
        assert self.path is not None
        listener = unix_listener(self.path, backlog)
        self._made = _identity(self.path)
        return listener

    def remove(self) -> None:
        """Remove the file, unless it is no longer the one that was made here."""
        if self._made is None or self.path is None:
            return
        with suppress(OSError):
            if _identity(self.path) == self._made:
                os.unlink(self.path)
        self._made = None


def _identity(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def unix_listener(path: str, backlog: int) -> GeventSocket:
    """Return a socket that listens at a path; replace a file that a process left there.

    Raise OSError if the path cannot be used, or another process listens there.
    """
    listener = GeventSocket(socket.AF_UNIX)
    try:
        if _is_left(path):
            with suppress(FileNotFoundError):
                os.unlink(path)
        former = os.umask(0o777 & ~OWNER_ONLY)
        try:
            listener.bind(path)
        finally:
            os.umask(former)
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener


def _is_left(path: str) -> bool:
    """Return whether the path is a socket on which no process listens.

    Linux refuses a connection to any file that is no socket, too.
    """
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path) == errno.ECONNREFUSED
