"""Listening on a Unix socket."""

import errno
import os
import socket
import stat
from contextlib import suppress

from gevent.socket import socket as GeventSocket  # noqa: N812

OWNER_ONLY = 0o600
"""Mode of the socket's file: only its owner may connect."""


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
