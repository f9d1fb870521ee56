"""A TCP link between two processes that can be cut, held, delayed and throttled."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextlib import suppress

import gevent
from end_to_end.peers import Address
from gevent.event import Event
from gevent.server import StreamServer

PIECE_BYTES = 1 << 18
"""Bytes forwarded at once."""

CONNECT_SECONDS = 5.0
"""Maximum time to connect to the target."""


class Link:
    """Listens on a free port, and forwards every connection to a target that may change."""

    def __init__(self, name: str, target: Address) -> None:
        self.name = name
        self._target = target
        self._delay = 0.0
        self._bytes_per_second = 0
        self._flowing = Event()
        self._flowing.set()
        self._cuts_reply = False
        self.cuts = 0
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._server = StreamServer(("127.0.0.1", 0), self._serve)
        self._server.start()
        self.address: Address = ("127.0.0.1", self._server.server_port or 0)

    def close(self) -> None:
        self._flowing.set()
        self._server.stop(timeout=0)
        self.cut()

    def delay(self, seconds: float) -> None:
        """Delay each piece by a time."""
        self._delay = seconds

    def throttle(self, bytes_per_second: int) -> None:
        """Limit the bytes per second in each direction; 0 means no limit."""
        self._bytes_per_second = bytes_per_second

    def hold(self) -> None:
        """Forward nothing until ``heal``; connections stay."""
        self._flowing.clear()

    def cut_in_reply(self) -> None:
        """Forward half of the next piece that the target sends, then reset all connections."""
        self._cuts_reply = True

    def heal(self) -> None:
        """Forward everything at once again."""
        self._delay = self._bytes_per_second = 0
        self._cuts_reply = False
        self._flowing.set()

    def cut(self) -> None:
        """Reset every connection, on both sides."""
        pairs, self._pairs = self._pairs, []
        self.cuts += bool(pairs)
        for end in (end for pair in pairs for end in pair):
            _reset(end)

    def _serve(self, near: socket.socket, _: object) -> None:
        try:
            far = socket.create_connection(self._target, CONNECT_SECONDS)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = near, far
        self._pairs.append(pair)
        back = gevent.spawn(self._forward, far, near, self._reply)
        self._forward(near, far, lambda data: data)
        back.join()
        if pair in self._pairs:
            self._pairs.remove(pair)
        near.close()
        far.close()

    def _reply(self, data: bytes) -> bytes:
        """Return what is forwarded of a piece from the target."""
        return data[: (len(data) + 1) // 2] if self._cuts_reply else data

    def _forward(
        self, sender: socket.socket, receiver: socket.socket, part: Callable[[bytes], bytes]
    ) -> None:
        """Forward until the sender ends.

        If it closes, half-close the receiver's side; if it resets, reset the receiver's side.
        """
        try:
            while data := sender.recv(self._piece_bytes):
                self._wait(len(data))
                forwarded = part(data)
                receiver.sendall(forwarded)
                if len(forwarded) < len(data):
                    self._cuts_reply = False
                    self.cut()
            receiver.shutdown(socket.SHUT_WR)
        except OSError:  # a process that was killed resets its connections
            _reset(sender)
            _reset(receiver)

    @property
    def _piece_bytes(self) -> int:
        return min(PIECE_BYTES, self._bytes_per_second // 100 or PIECE_BYTES)

    def _wait(self, size: int) -> None:
        self._flowing.wait()
        seconds = self._delay
        if self._bytes_per_second:
            seconds += size / self._bytes_per_second
        if seconds:
            gevent.sleep(seconds)


def _reset(end: socket.socket) -> None:
    """Reset a connection."""
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()  # without a shutdown, after which the peer would see an orderly end
