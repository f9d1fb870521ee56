"""The two kinds of peers of a server, as gevent sockets. Every wait is bounded."""

from __future__ import annotations

import socket as system
import struct
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import gevent
from gevent import ssl
from gevent.socket import socket

Address = tuple[str, int]

SERVER_NAME = "maze.test"
"""Host name that a server's certificate has to contain."""

PATIENCE = 30.0
"""Maximum seconds of a single wait. On an idle machine none takes more than one."""

SMALL_BUFFER = 128 * 1024
"""Size of a small kernel buffer, in bytes: two of the loopback's segments of 64 KiB. With less,
each segment of a transfer waits for a timer."""


def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> None:
    """Wait until the condition holds; raise AssertionError if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{seconds} s were not enough: {what}"
        gevent.sleep(0.002)


def patience(what: str) -> gevent.Timeout:
    """Return a time limit for a block that waits for a socket."""
    return gevent.Timeout(PATIENCE, AssertionError(f"{PATIENCE} s were not enough: {what}"))


class Peer:
    """A connection to the server, at a port or at the path of a Unix socket."""

    def __init__(
        self,
        address: Address | Path,
        *,
        small_buffers: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        is_path = isinstance(address, Path)
        self.sock = socket(system.AF_UNIX if is_path else system.AF_INET)
        self.ended_by: OSError | None = None
        """The error that ended the connection, if any."""
        if small_buffers:
            self.sock.setsockopt(system.SOL_SOCKET, system.SO_RCVBUF, SMALL_BUFFER)
            self.sock.setsockopt(system.SOL_SOCKET, system.SO_SNDBUF, SMALL_BUFFER)
        with patience(f"connecting to {address}"):
            self.sock.connect(str(address) if isinstance(address, Path) else address)
        if not is_path:
            self.sock.setsockopt(system.IPPROTO_TCP, system.TCP_NODELAY, 1)
        if tls:
            with patience("the TLS handshake"):
                self.sock = tls.wrap_socket(
                    self.sock, server_hostname=SERVER_NAME, suppress_ragged_eofs=False
                )

    def send(self, data: bytes) -> None:
        with patience(f"sending {len(data)} bytes"):
            self.sock.sendall(data)

    def send_in_background(self, data: bytes) -> gevent.Greenlet[..., None]:
        """Send as fast as the server reads. An error ends the greenlet silently."""

        def run() -> None:
            try:
                self.sock.sendall(data)
            except OSError:
                return

        return gevent.spawn(run)

    def half_close(self) -> None:
        if isinstance(self.sock, ssl.SSLSocket):
            # Send close_notify, but do not wait for the server's.
            self.sock.settimeout(0)
            with suppress(ssl.SSLWantReadError):
                self.sock.unwrap()
            self.sock.settimeout(None)
        else:
            self.sock.shutdown(system.SHUT_WR)

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        """Reset the connection instead of closing it in order."""
        self.sock.setsockopt(system.SOL_SOCKET, system.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def read_until_closed(self) -> bytes:
        """Return what is received until the server closes or resets the connection."""
        received = b""
        with patience("the server to close the connection"):
            while data := self._receive(1 << 16):
                received += data
        return received

    def expect_closed(self) -> None:
        """Assert that the server closes the connection without sending anything more."""
        received = self.read_until_closed()
        assert not received, f"received before the end: {_short(received)}"

    def _receive(self, size: int) -> bytes:
        try:
            return self.sock.recv(size)
        except OSError as error:
            self.ended_by = error
            return b""


class Source(Peer):
    """An event source."""


class Client(Peer):
    """A user client."""

    def read(self, size: int) -> bytes:
        """Return ``size`` bytes, or fewer if the connection ends or no more arrive in time."""
        pieces = []
        missing = size
        with gevent.Timeout(PATIENCE, False):  # type: ignore[arg-type]
            while missing and (data := self._receive(missing)):
                pieces.append(data)
                missing -= len(data)
        return b"".join(pieces)

    def read_line(self) -> bytes:
        """Return the next complete line."""
        line = b""
        while not line.endswith(b"\n"):
            byte = self.read(1)
            assert byte, f"no more bytes after {line!r}"
            line += byte
        return line

    def expect(self, expected: bytes) -> None:
        """Assert that the next bytes are ``expected``; more may follow."""
        received = self.read(len(expected))
        assert received == expected, _difference(received, expected)

    def expect_nothing_before(self, marker: bytes) -> None:
        """Assert that nothing arrives before ``marker``, which must have been sent already."""
        self.expect(marker)

    def read_in_background(self) -> Inbox:
        """Read until the connection ends, in a greenlet of its own."""
        return Inbox(self)


class Inbox:
    """What a client that reads at full speed has received."""

    def __init__(self, client: Client) -> None:
        self._pieces: list[bytes] = []
        self.size = 0
        self._greenlet = gevent.spawn(self._run, client)

    def all(self) -> bytes:
        """Return everything received up to the end of the connection."""
        self._greenlet.join(PATIENCE)
        assert self._greenlet.dead, "the connection did not end"
        return self.so_far()

    def so_far(self) -> bytes:
        return b"".join(self._pieces)

    def _run(self, client: Client) -> None:
        while data := client._receive(1 << 16):
            self._pieces.append(data)
            self.size += len(data)


def broadcasts(first: int, end: int) -> list[bytes]:
    """Return broadcasts with the sequence numbers ``first`` to ``end`` - 1."""
    return [b"%d|B\n" % sequence for sequence in range(first, end)]


def messages(first: int, end: int, user: int) -> list[bytes]:
    """Return private messages of 59 bytes with the numbers ``first`` to ``end`` - 1."""
    return [b"%018d|P|%018d|%018d\n" % (sequence, 1, user) for sequence in range(first, end)]


def joined(lines: Iterable[bytes]) -> bytes:
    return b"".join(lines)


def _short(data: bytes) -> str:
    return repr(data) if len(data) <= 200 else f"{data[:200]!r}... ({len(data)} bytes)"


def _difference(received: bytes, expected: bytes) -> str:
    at = next(
        (index for index, (a, b) in enumerate(zip(received, expected, strict=False)) if a != b),
        min(len(received), len(expected)),
    )
    start = max(0, at - 40)
    return (
        f"got {len(received)} bytes, expected {len(expected)}; from byte {start} on: "
        f"got {_short(received[start:])}, expected {_short(expected[start:])}"
    )
