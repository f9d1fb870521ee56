"""One connection, with the same interface for plain TCP and for TLS.

``Connection`` is the plain one; ``TlsConnection`` overrides what TLS does differently.
This module must not depend on users, events or queues.
"""

import os
from collections.abc import Sequence
from socket import SHUT_WR

from gevent.socket import socket, wait_write

from maze.net.sockets import unacknowledged_bytes

SEND_BYTES = 48 * 1024
"""Size up to which payloads are gathered for one send. A send takes 4 us for any size up to about
50 KB, and longer from 64 KiB on (measured on loopback)."""
MAX_PARTS = 512
"""Maximum parts of one vectored send; the system takes 1024 (IOV_MAX)."""
DISCARD_BYTES = 64 * 1024
"""Maximum bytes that one read discards."""


class Connection:
    """A plain TCP connection.

    ``recv``, ``send_all`` and ``wait_writable`` may wait; the other methods never do.
    """

    __slots__ = ("descriptor", "sock")

    direct = True
    """Whether bytes pass unchanged and unbuffered between the caller and the descriptor. If so, the
    outbox may write to the descriptor itself, and all unread bytes are in the socket."""
    unsent_bytes = 0
    """Encrypted bytes that the kernel has not accepted yet, TLS's own messages included."""

    def __init__(self, sock: socket) -> None:
        self.sock = sock
        self.descriptor = sock.fileno()
        """The socket's descriptor, kept because ``fileno`` takes 0.3 us; valid until close."""

    def settimeout(self, seconds: float | None) -> None:
        """Set how long ``recv`` may wait."""
        self.sock.settimeout(seconds)

    def recv(self, size: int) -> bytes:
        """Return the next bytes; none at the end of the stream. Raise OSError if it was cut off."""
        return bytes(self.sock.recv(size))

    def wait_writable(self, seconds: float | None) -> None:
        """Wait until the kernel accepts more; raise TimeoutError after ``seconds``, if given."""
        wait_write(self.descriptor, seconds)

    def send(self, parts: Sequence[bytes | memoryview]) -> int:
        """Send bytes from the start of the parts; return how many were sent.

        Raise BlockingIOError if the kernel accepts none, and OSError if the connection is broken.
        After BlockingIOError the next call must pass the same parts.
        """
        return os.writev(self.descriptor, parts)

    def send_all(self, data: bytes) -> None:
        """Send all bytes. Raise OSError if the connection is broken."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self.send([rest]) :]
            except BlockingIOError:
                self.wait_writable(None)

    def send_unsent(self) -> None:
        """Send ``unsent_bytes``; raise BlockingIOError if the kernel does not accept them all."""

    def drop_unsent(self) -> None:
        """Drop ``unsent_bytes``: the connection is about to be closed."""

    def discard(self) -> int:
        """Discard received bytes; return how many there were, or -1 at the end of the stream.

        Raise BlockingIOError if nothing was received, OSError if the connection is broken.
        """
        return len(os.read(self.descriptor, DISCARD_BYTES)) or -1

    def send_close_notify(self) -> None:
        """Send TLS's close_notify; does nothing on a plain connection."""

    def shutdown(self) -> None:
        """Close the sending half of the connection, after a close_notify if it speaks TLS.

        Raise OSError if the connection is broken.
        """
        self.send_close_notify()
        self.sock.shutdown(SHUT_WR)

    def unacknowledged_bytes(self) -> int:
        """Return the number of bytes sent that the peer's kernel has not acknowledged."""
        return unacknowledged_bytes(self.descriptor)

    def peer_names(self) -> tuple[list[str], list[str]]:
        """Return the common names and the URIs in the peer's certificate, if it has one."""
        return [], []


def unsent_parts(sent: int, parts: Sequence[bytes | memoryview]) -> Sequence[bytes | memoryview]:
    """Return the parts that remain after ``sent`` bytes of them were sent."""
    for index, part in enumerate(parts):
        if sent < len(part):
            return [memoryview(part)[sent:], *parts[index + 1 :]]
        sent -= len(part)
    return ()
