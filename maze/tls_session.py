"""A session over TLS: what is sent is encrypted first, what is read decrypted.

Its payloads stay queued in the clear, so that what sessions share is held once;
only what one send carries is encrypted at a time. That counts as held, too,
while it waits for the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import gevent

from maze.peer import Peer
from maze.session import Session
from maze.tls import TlsConnection

if TYPE_CHECKING:
    from maze.clients import ClientPort


class TlsSession(Session):
    """One connected user client that speaks TLS."""

    __slots__ = ("_flushed", "_held_bytes", "_tls")

    def __init__(
        self, user: int, connection: TlsConnection, peer: Peer, port: ClientPort, mark: bytes = b""
    ) -> None:
        super().__init__(user, connection.sock, peer, port, mark)
        self.sealed = True
        self._tls = connection
        self._held_bytes = 0
        self._flushed = False

    def serve(self) -> None:
        """Send whatever is pushed, until the session is closed."""
        # What came together with the id is in no buffer of the kernel's, and wakes nobody.
        gevent.get_hub().loop.run_callback(self._on_readable)
        super().serve()

    def _end(self) -> None:
        self._tls.finish()
        super()._end()

    def flush(self) -> None:
        """Send what one send carries at once, and leave the rest to the writer.

        To encrypt a large batch for a thousand clients takes too long for one go.
        """
        self._flushed = False
        super().flush()

    def advance(self) -> bool:
        """Send until nothing waits, or until the kernel takes no more: then it is False."""
        try:
            if super().advance():
                self._tls.send_unsent()  # what TLS itself has to say
                return True
        except BlockingIOError:
            pass
        finally:
            self._count()
        return False

    def send_sealed(self, parts: Sequence[bytes | memoryview], /) -> int:
        """Encrypt and send the first of the parts; see ``TlsConnection.send``."""
        if self._flushed and not self.writing:
            raise BlockingIOError
        self._flushed = True
        try:
            return self._tls.send(parts)
        finally:
            self._count()

    def discard(self) -> int:
        """Free all that waits; returns how many bytes of it were not sent."""
        self._port.router.held.bytes -= self._held_bytes
        self._held_bytes = 0
        return super().discard()

    def _receive(self) -> int:
        size = self._tls.discard()
        if self._tls.unsent_bytes and not self.writing:
            self.writing = True
            self.on_blocked()
        return size

    def _count(self) -> None:
        """Have what is encrypted and not sent counted with what is held."""
        if not self._closed:
            self._port.router.held.bytes += self._tls.unsent_bytes - self._held_bytes
            self._held_bytes = self._tls.unsent_bytes
