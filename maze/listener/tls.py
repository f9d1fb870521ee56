"""TLS on one connection: what came is decrypted, what goes is encrypted, nothing else.

OpenSSL never sees the socket. What the kernel gave goes into one buffer, what it
is to take comes out of another; so a send that the kernel takes in part needs no
call of OpenSSL to be repeated, and what TLS itself wants to say (a key update's
answer, an alert) simply joins what waits to leave. It must never know users,
events or queues.
"""

import errno
import os
import ssl
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from typing import Any

from gevent.lock import Semaphore
from gevent.socket import socket

from maze.listener.refusals import HandshakeError, HandshakeReason
from maze.listener.registration_wait import Registration
from maze.listener.tls_context import ServerContext
from maze.net.connection import MAX_PARTS, SEND_BYTES, Connection, unsent_parts
from maze.net.time_slice import TimeSlice

RECORD_BYTES = 16 * 1024
"""The most that one record of TLS carries (RFC 8446, 5.1). A buffer of OpenSSL's never
shrinks, so it is never given more than a record at a time."""
MAX_UNSENT_BYTES = SEND_BYTES + 64 * 1024
"""a send, and what may wait behind it for a peer that makes TLS answer and does not read"""
HANDSHAKE = 0x16
"""the first byte of every TLS connection: a record of the handshake (RFC 8446, 5.1)"""


class HandshakeSlices:
    """Lets the handshakes of one port compute one at a time (1 ms each), and others run between."""

    def __init__(self) -> None:
        self._next = Semaphore()
        self._time_slice = TimeSlice()

    def wait(self) -> None:
        """Return when it is the caller's turn to compute, which it does before it waits again."""
        with self._next:
            if self._time_slice.is_over():
                self._time_slice.begin_next()


class TlsConnection(Connection):
    """A server's end of one TLS connection.

    ``handshake`` waits, as ``recv`` and ``wait_writable`` do; the others never do.
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
        """for its turn to compute, which the peer cannot help"""
        self._slices = slices
        self._deadline: float | None = None
        self.unsent_bytes = 0
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap(self._incoming, self._outgoing)
        self._unsent: Sequence[bytes | memoryview] = ()
        self._sealed_bytes = 0  # how much of what was given to send that is
        self._finished = False
        self._broken = ""

    # These wait.

    def handshake(self, deadline: float) -> None:
        """Agree with the peer.

        Raises HandshakeError, at the deadline at the latest, or as much later as it waited.
        """
        data = self._receive(deadline)
        if data and data[0] != HANDSHAKE:
            raise HandshakeError(HandshakeReason.PLAIN_TEXT, data)
        while data:
            self._incoming.write(data)
            self._wait_for_slice()
            if self._agree(deadline + self.waited_seconds):
                return
            self._note_answer()
            data = self._receive(deadline + self.waited_seconds)
        raise HandshakeError(HandshakeReason.LEFT, detail="before TLS was agreed on")

    def settimeout(self, seconds: float | None) -> None:
        """Limit how long ``recv`` may wait from now on, however many pieces its bytes come in."""
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self.sock.settimeout(seconds)

    def recv(self, size: int) -> bytes:
        """The next bytes; none at the end of the stream. Raises OSError if it was cut off."""
        while not (data := self._decrypt(size)):
            self._raise_if_broken()
            if self._finished:
                return b""
            if self._deadline is not None:
                self.sock.settimeout(max(0.0, self._deadline - time.monotonic()))
            came = self.sock.recv(max(size, RECORD_BYTES))
            if came:
                self._incoming.write(came)
            else:
                self._broken = "the connection ended without TLS's close_notify"
        return data

    # These do not.

    def send(self, parts: Sequence[bytes | memoryview]) -> int:
        """Encrypt and send the first of the parts; returns how many bytes of them have left.

        Raises BlockingIOError if the kernel did not take them all, and OSError if
        the connection is broken. After BlockingIOError the same parts have to come again.
        """
        self.send_unsent()
        if not self._sealed_bytes:
            self._seal(_portion(parts))
            self.send_unsent()
        sealed, self._sealed_bytes = self._sealed_bytes, 0
        return sealed

    def send_unsent(self) -> None:
        """Send what is encrypted; raises BlockingIOError if the kernel does not take it all."""
        while self._unsent:
            sent = os.writev(self.sock.fileno(), self._unsent[:MAX_PARTS])
            self.unsent_bytes -= sent
            self._unsent = unsent_parts(sent, self._unsent)

    def drop_unsent(self) -> None:
        """Forget what is encrypted and not yet taken by the kernel."""
        self._unsent = ()
        self.unsent_bytes = 0

    def discard(self) -> int:
        """Throw away what came; returns how much that was, or -1 at the end of the stream.

        Raises BlockingIOError if nothing came, OSError if the connection is broken.
        """
        size = len(self._decrypt(sys.maxsize))
        if not size and not self._finished:
            self._raise_if_broken()
            data = os.read(self.sock.fileno(), RECORD_BYTES)
            if not data:  # it left without a word of TLS's, which makes no difference here
                return -1
            self._incoming.write(data)
            size = len(self._decrypt(sys.maxsize))
        self._raise_if_broken()
        return -1 if self._finished else size

    def send_close_notify(self) -> None:
        """Tell the peer that nothing more comes, if the kernel takes it at once."""
        with suppress(OSError):
            self.send_unsent()
            with suppress(ssl.SSLWantReadError):  # the peer need not say the same
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
        since = time.monotonic()
        # Until the server has answered, the peer cannot have sent more than its hello.
        waits = self._registration.undecrypted() if self._registration and self._answered else None
        with waits or nullcontext():
            self._slices.wait()
        self.waited_seconds += time.monotonic() - since

    def _note_answer(self) -> None:
        """Note that the next bytes may be the end of the handshake with an id after it."""
        self._answered = True
        if self._registration is not None:
            self._registration.watch(self.sock.fileno())

    def _agree(self, deadline: float) -> bool:
        """Go on as far as what came allows; True once both sides agree."""
        agreed = True
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            agreed = False
        except ssl.SSLError as error:
            self._send_answers()  # the alert that tells the peer why
            raise HandshakeError(HandshakeReason.TLS_FAILED, detail=_why(error)) from None
        try:
            self.sock.settimeout(max(0.0, deadline - time.monotonic()))
            self.sock.sendall(self._outgoing.read())
        except (TimeoutError, BlockingIOError):
            raise HandshakeError(HandshakeReason.TIMEOUT) from None
        except OSError as error:
            raise HandshakeError(HandshakeReason.LEFT, detail=str(error.strerror)) from None
        if self._tls.session_reused:  # another connection cached it meanwhile: see ServerContext
            raise HandshakeError(HandshakeReason.TLS_FAILED, detail="an earlier session is resumed")
        return agreed

    def _receive(self, deadline: float) -> bytes:
        """The next bytes of the handshake; none if the peer has left."""
        self.sock.settimeout(max(0.0, deadline - time.monotonic()))
        try:
            return self.sock.recv(RECORD_BYTES)
        except (TimeoutError, BlockingIOError):
            raise HandshakeError(HandshakeReason.TIMEOUT, detail="TLS was not agreed on") from None
        except OSError:
            return b""

    # What comes.

    def _decrypt(self, size: int) -> bytes:
        """At most so many of the bytes that have come; how the stream ended is noted for later."""
        pieces = []
        try:
            while size > 0 and not self._finished and (piece := self._read(size)):
                pieces.append(piece)
                size -= len(piece)
        except ssl.SSLError as error:
            self._broken = self._broken or _why(error)
        self._send_answers()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read(self, size: int) -> bytes:
        """A record's bytes, or none if nothing whole has come, or nothing more comes."""
        try:
            piece = self._tls.read(min(size, RECORD_BYTES))
        except ssl.SSLWantReadError:
            return b""
        self._finished = not piece
        return piece

    def _raise_if_broken(self) -> None:
        if self._broken:
            raise OSError(errno.EPROTO, self._broken)

    # What goes.

    def _seal(self, data: bytes | memoryview) -> None:
        self._sealed_bytes = len(data)
        left = memoryview(data)
        while left:
            left = left[self._tls.write(left[:RECORD_BYTES]) :]
            self._take_outgoing()

    def _take_outgoing(self) -> None:
        sealed = self._outgoing.read()
        self._unsent = [*self._unsent, sealed]
        self.unsent_bytes += len(sealed)

    def _send_answers(self) -> None:
        """Send what TLS itself has to say; what the kernel does not take waits."""
        if self._outgoing.pending:
            self._take_outgoing()
            with suppress(OSError):  # who reads or sends next will notice
                self.send_unsent()
            if self.unsent_bytes > MAX_UNSENT_BYTES:
                self._broken = "the peer makes TLS answer, and does not read the answers"


def _portion(parts: Sequence[bytes | memoryview]) -> bytes | memoryview:
    """The first of the bytes in the parts, as many as one send should carry."""
    chosen: list[bytes | memoryview] = []
    size = 0
    for part in parts:
        chosen.append(part)
        size += len(part)
        if size >= SEND_BYTES:
            break
    data = chosen[0] if len(chosen) == 1 else b"".join(chosen)
    return data if size <= SEND_BYTES else memoryview(data)[:SEND_BYTES]


def _why(error: ssl.SSLError) -> str:
    """An error of OpenSSL's in a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate does not hold: {error.verify_message}"
    return (error.reason or str(error)).replace("_", " ").lower()
