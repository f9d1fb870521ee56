"""A connection over TLS: decrypts received bytes and encrypts bytes to send.

OpenSSL never sees the socket. Received bytes are written to one memory buffer, and bytes to send
are read from another. So no call of OpenSSL has to be repeated when the kernel accepts only part
of a send, and TLS's own messages (an alert, the reply to a key update) simply join the unsent
bytes.
This module must not depend on users, events or queues.
"""

import errno
import os
import ssl
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

from gevent.lock import Semaphore
from gevent.socket import socket

from maze.listener.handshake_rejects import HandshakeError, HandshakeReason
from maze.listener.registration_wait import Registration
from maze.listener.tls_context import ServerContext, describe_tls_error
from maze.net.connection import MAX_PARTS, SEND_BYTES, Connection, unsent_parts
from maze.net.time_slice import TimeSlice

RECORD_BYTES = 16 * 1024
"""Maximum payload of a TLS record (RFC 8446, 5.1). OpenSSL's buffers never shrink, so they are
never given more than one record at a time."""
MAX_UNSENT_BYTES = SEND_BYTES + 64 * 1024
"""Maximum unsent bytes: one send, and TLS replies to a peer that does not read them."""
TLS_HANDSHAKE = b"\x16"
"""First byte of every TLS connection: the type of a handshake record (RFC 8446, 5.1)."""


class HandshakeSlices:
    """Turns for the TLS handshakes of one port (1 ms each), with a yield after each time slice."""

    def __init__(self) -> None:
        self._next = Semaphore()
        self._time_slice = TimeSlice()

    def wait(self) -> None:
        """Wait for the caller's turn to compute, which ends when the caller waits."""
        with self._next:
            if self._time_slice.is_over():
                self._time_slice.begin_next()


class TlsConnection(Connection):
    """The server's end of a TLS connection.

    ``handshake``, ``recv``, ``send_all`` and ``wait_writable`` may wait; the other methods never
    do.
    """

    direct = False

    def __init__(
        self,
        sock: socket,
        context: ServerContext,
        slices: HandshakeSlices,
        registration: Registration | None = None,
    ) -> None:
        super().__init__(sock)
        self._registration = registration
        self._answered = False
        self.waited_seconds = 0.0
        """Time for which the handshake has waited for its turn; it extends the peer's deadline."""
        self._slices = slices
        self._deadline: float | None = None
        self.unsent_bytes = 0
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap(self._incoming, self._outgoing)
        self._unsent: Sequence[bytes | memoryview] = ()
        self._encrypted_bytes = 0
        """Bytes of the current send that are encrypted but not yet reported as sent."""
        self._finished = False
        self._broken = ""

    def handshake(self, deadline: float) -> None:
        """Complete the TLS handshake.

        Raise HandshakeError, at the latest at the deadline plus ``waited_seconds``.
        """
        data = self._receive(deadline)
        if data and data[:1] != TLS_HANDSHAKE:
            raise HandshakeError(HandshakeReason.PLAIN_TEXT, data)
        while data:
            self._incoming.write(data)
            self._wait_for_slice()
            if self._advance_handshake(deadline + self.waited_seconds):
                return
            self._note_answer()
            data = self._receive(deadline + self.waited_seconds)
        raise HandshakeError(HandshakeReason.LEFT, detail="during the TLS handshake")

    def settimeout(self, seconds: float | None) -> None:
        """Set the deadline of ``recv``, one for all the pieces in which a record may arrive."""
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self.sock.settimeout(seconds)

    def recv(self, size: int) -> bytes:
        """Return the next bytes; none at the end of the stream. Raise OSError if it was cut off."""
        while not (data := self._decrypt(size)):
            self._raise_if_broken()
            if self._finished:
                return b""
            if self._deadline is not None:
                self.sock.settimeout(max(0.0, self._deadline - time.monotonic()))
            received = self.sock.recv(max(size, RECORD_BYTES))
            if received:
                self._incoming.write(received)
            else:
                self._broken = "the connection ended without a TLS close_notify"
        return data

    def send(self, parts: Sequence[bytes | memoryview]) -> int:
        """Encrypt and send bytes from the start of the parts; return how many were sent.

        Raise BlockingIOError if the kernel did not accept them all, and OSError if the
        connection is broken. After BlockingIOError the next call must pass the same parts.
        """
        self.send_unsent()
        if not self._encrypted_bytes:
            self._encrypt(_portion(parts))
            self.send_unsent()
        sent, self._encrypted_bytes = self._encrypted_bytes, 0
        return sent

    def send_unsent(self) -> None:
        """Send ``unsent_bytes``; raise BlockingIOError if the kernel does not accept them all."""
        while self._unsent:
            sent = os.writev(self.sock.fileno(), self._unsent[:MAX_PARTS])
            self.unsent_bytes -= sent
            self._unsent = unsent_parts(sent, self._unsent)

    def drop_unsent(self) -> None:
        """Drop ``unsent_bytes``: the connection is about to be closed."""
        self._unsent = ()
        self.unsent_bytes = 0

    def discard(self) -> int:
        """Discard received bytes; return how many there were, or -1 at the end of the stream.

        Raise BlockingIOError if nothing was received, OSError if the connection is broken.
        """
        size = len(self._decrypt(sys.maxsize))
        if not size and not self._finished:
            self._raise_if_broken()
            data = os.read(self.sock.fileno(), RECORD_BYTES)
            if not data:  # without close_notify, which makes no difference here
                return -1
            self._incoming.write(data)
            size = len(self._decrypt(sys.maxsize))
        self._raise_if_broken()
        return -1 if self._finished else size

    def send_close_notify(self) -> None:
        """Send TLS's close_notify, if the kernel accepts it at once."""
        with suppress(OSError):
            self.send_unsent()
            with suppress(ssl.SSLWantReadError):  # the peer's close_notify is not awaited
                self._tls.unwrap()
            self._send_answers()

    def peer_names(self) -> tuple[list[str], list[str]]:
        """Return the common names and the URIs in the peer's certificate."""
        certificate: Any = self._tls.getpeercert() or {}
        common_names = [
            value
            for part in certificate.get("subject", ())
            for key, value in part
            if key == "commonName"
        ]
        uris = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
        return common_names, uris

    # The handshake.

    def _wait_for_slice(self) -> None:
        """Wait for a turn to compute; meanwhile, batches wait for an id that may have arrived."""
        began = time.monotonic()
        # Until the server has answered, the peer cannot have sent more than its hello.
        counted: AbstractContextManager[None] = nullcontext()
        if self._registration is not None and self._answered:
            counted = self._registration.undecrypted()
        with counted:
            self._slices.wait()
        self.waited_seconds += time.monotonic() - began

    def _note_answer(self) -> None:
        """Record that the next bytes may be the end of the handshake, followed by an id."""
        self._answered = True
        if self._registration is not None:
            self._registration.watch(self.sock.fileno())

    def _advance_handshake(self, deadline: float) -> bool:
        """Process the received bytes and answer them; return whether the handshake is complete."""
        complete = True
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            complete = False
        except ssl.SSLError as error:
            self._send_answers()  # the alert that tells the peer the reason
            raise HandshakeError(
                HandshakeReason.TLS_FAILED, detail=describe_tls_error(error)
            ) from None
        try:
            self.sock.settimeout(max(0.0, deadline - time.monotonic()))
            self.sock.sendall(self._outgoing.read())
        except (TimeoutError, BlockingIOError):
            raise HandshakeError(HandshakeReason.TIMEOUT) from None
        except OSError as error:
            raise HandshakeError(HandshakeReason.LEFT, detail=str(error.strerror)) from None
        if self._tls.session_reused:  # another connection cached it meanwhile: see ServerContext
            raise HandshakeError(HandshakeReason.TLS_FAILED, detail="the peer resumed a session")
        return complete

    def _receive(self, deadline: float) -> bytes:
        """Return the next bytes of the handshake; none if the peer has left."""
        self.sock.settimeout(max(0.0, deadline - time.monotonic()))
        try:
            return self.sock.recv(RECORD_BYTES)
        except (TimeoutError, BlockingIOError):
            raise HandshakeError(
                HandshakeReason.TIMEOUT, detail="the TLS handshake is not complete"
            ) from None
        except OSError:
            return b""

    # Receiving.

    def _decrypt(self, size: int) -> bytes:
        """Return at most ``size`` decrypted bytes; record the end of the stream or an error."""
        pieces = []
        try:
            while size > 0 and not self._finished and (piece := self._read(size)):
                pieces.append(piece)
                size -= len(piece)
        except ssl.SSLError as error:
            self._broken = self._broken or describe_tls_error(error)
        self._send_answers()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read(self, size: int) -> bytes:
        """Return a record's bytes; none if no record is complete, or at the end of the stream."""
        try:
            piece = self._tls.read(min(size, RECORD_BYTES))
        except ssl.SSLWantReadError:
            return b""
        self._finished = not piece
        return piece

    def _raise_if_broken(self) -> None:
        if self._broken:
            raise OSError(errno.EPROTO, self._broken)

    # Sending.

    def _encrypt(self, data: bytes | memoryview) -> None:
        self._encrypted_bytes = len(data)
        rest = memoryview(data)
        while rest:
            rest = rest[self._tls.write(rest[:RECORD_BYTES]) :]
            self._take_outgoing()

    def _take_outgoing(self) -> None:
        """Move the bytes that OpenSSL has encrypted to the unsent ones."""
        encrypted = self._outgoing.read()
        self._unsent = [*self._unsent, encrypted]
        self.unsent_bytes += len(encrypted)

    def _send_answers(self) -> None:
        """Send TLS's own messages; bytes that the kernel does not accept stay unsent."""
        if self._outgoing.pending:
            self._take_outgoing()
            with suppress(OSError):  # the next read or write reports it
                self.send_unsent()
            if self.unsent_bytes > MAX_UNSENT_BYTES:
                self._broken = "the peer does not read the replies of the TLS protocol"


def _portion(parts: Sequence[bytes | memoryview]) -> bytes | memoryview:
    """Return the first bytes of the parts, as many as one send should carry."""
    chosen: list[bytes | memoryview] = []
    size = 0
    for part in parts:
        chosen.append(part)
        size += len(part)
        if size >= SEND_BYTES:
            break
    data = chosen[0] if len(chosen) == 1 else b"".join(chosen)
    return data if size <= SEND_BYTES else memoryview(data)[:SEND_BYTES]
