"""One connection as the rest of the server sees it: the same for plain TCP and for TLS.

``Connection`` is the plain one; ``tls.TlsConnection`` overrides what TLS does in another way.
It must never know users, events or queues.
"""

import os
from collections.abc import Sequence
from socket import SHUT_WR

from gevent.socket import socket, wait_write

from maze.net.sockets import unacknowledged_bytes

SEND_BYTES = 48 * 1024
"""Payloads are gathered up to about this size: a send costs 4 us whatever it carries
up to some 50 KB, and more from 64 KiB on (measured on loopback)."""
MAX_PARTS = 512
"""in one vectored send; the system takes 1024 (IOV_MAX)"""
DISCARD_BYTES = 64 * 1024
"""Most bytes thrown away with one read."""


class Connection:
    """A plain TCP connection.

    ``recv``, ``settimeout`` and ``wait_writable`` wait as a socket does; the others never do.
    """

    __slots__ = ("descriptor", "sock")

    direct = True
    """Whether bytes pass between the caller and the descriptor unchanged and unbuffered. If so, the
    outbox may send to the descriptor itself, and everything to be read is in the socket."""
    unsent_bytes = 0
    """bytes taken from the caller, or owed by the transport itself, that the kernel has yet to take
    """

    def __init__(self, sock: socket) -> None:
        self.sock = sock
        self.descriptor = sock.fileno()
        """the socket's, to be used only until that is closed: to ask it takes 0.3 us"""

    # These wait.

    def settimeout(self, seconds: float | None) -> None:
        """Limit how long ``recv`` may wait from now on."""
        self.sock.settimeout(seconds)

    def recv(self, size: int) -> bytes:
        """Return the next bytes; none at the end of the stream. Raise OSError if it was cut off."""
        return bytes(self.sock.recv(size))

    def wait_writable(self, seconds: float) -> None:
        """Wait until the kernel takes more; raise TimeoutError if it does not within that time."""
        wait_write(self.descriptor, seconds)

    # These do not.

    def send(self, parts: Sequence[bytes | memoryview]) -> int:
        """Send the first of the parts; return how many bytes of them have left.

        Raise BlockingIOError if the kernel takes no more, and OSError if the connection is broken.
        After BlockingIOError the same parts have to come again.
        """
        return os.writev(self.descriptor, parts)

    def send_unsent(self) -> None:
        """Send ``unsent_bytes``; raise BlockingIOError if the kernel does not take them all."""

    def drop_unsent(self) -> None:
        """Forget ``unsent_bytes``: the connection is to be closed."""

    def discard(self) -> int:
        """Throw away what came; return how many bytes it was, or -1 at the end of the stream.

        Raise BlockingIOError if nothing came, OSError if the connection is broken.
        """
        return len(os.read(self.descriptor, DISCARD_BYTES)) or -1

    def send_close_notify(self) -> None:
        """Tell the peer that nothing more comes, if the protocol above TCP has a word for it."""

    def shutdown(self) -> None:
        """Tell the peer that nothing more comes, and close this half of the connection.

        Raise OSError if the connection is broken.
        """
        self.send_close_notify()
        self.sock.shutdown(SHUT_WR)

    def unacknowledged_bytes(self) -> int:
        """Return how many bytes were sent that the peer's system has not acknowledged."""
        return unacknowledged_bytes(self.descriptor)

    def peer_names(self) -> tuple[list[str], list[str]]:
        """Return the common names and the URIs in the peer's certificate, if it has one."""
        return [], []


def unsent_parts(sent: int, parts: Sequence[bytes | memoryview]) -> Sequence[bytes | memoryview]:
    """What is left of the parts once so many bytes were sent."""
    for index, part in enumerate(parts):
        if sent < len(part):
            return [memoryview(part)[sent:], *parts[index + 1 :]]
        sent -= len(part)
    return ()
