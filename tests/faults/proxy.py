"""A TCP proxy that simulates a bad network: it delays, cuts, throttles and half-closes.

Each direction of a connection has its own greenlet, which forwards one piece at a time. The
settings may change while the proxy runs. It never looks at the content.
"""

from __future__ import annotations

import socket as system
import struct
from contextlib import suppress
from itertools import chain

import gevent
from end_to_end.peers import Address
from gevent.event import Event
from gevent.server import StreamServer
from gevent.socket import socket

from .peers import SEGMENT_BYTES, WINDOW_BYTES


class Proxy:
    """A proxy that listens on a free port and forwards every connection to ``target``.

    ``piece`` is the number of bytes forwarded at once, ``pause`` the seconds before each piece:
    a large piece and a pause make a delay; a piece of one byte and a pause make a throttle.
    A ``narrow`` proxy has almost no receive buffer towards the target.
    """

    def __init__(
        self, target: Address, *, piece: int = 1 << 16, pause: float = 0.0, narrow: bool = False
    ) -> None:
        self.piece = piece
        self.pause = pause
        self.forwarded_bytes = 0
        self._target = target
        self._narrow = narrow
        self._flowing = Event()
        self._flowing.set()
        self._pairs: list[tuple[socket, socket]] = []
        self._server = StreamServer(("127.0.0.1", 0), self._serve)
        self._server.start()
        self.address: Address = ("127.0.0.1", self._server.server_port or 0)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(timeout=0)
        self.cut()

    def hold(self) -> None:
        """Forward nothing until ``release``; connections stay."""
        self._flowing.clear()

    def release(self) -> None:
        """Forward again."""
        self._flowing.set()

    def silence(self) -> None:
        """Forward nothing more on the present connections; new ones work."""
        self._flowing.clear()
        self._flowing = Event()
        self._flowing.set()

    def cut(self) -> None:
        """Reset every connection, on both sides."""
        pairs, self._pairs = self._pairs, []
        for end in chain.from_iterable(pairs):
            with suppress(OSError):
                end.setsockopt(system.SOL_SOCKET, system.SO_LINGER, struct.pack("ii", 1, 0))
                end.close()

    def half_close(self) -> None:
        """Close the sending half of every connection towards the target."""
        for _, far in self._pairs:
            far.shutdown(system.SHUT_WR)

    def _serve(self, near: socket, _: object) -> None:
        far = socket()
        if self._narrow:
            far.setsockopt(system.IPPROTO_TCP, system.TCP_MAXSEG, SEGMENT_BYTES)
            far.setsockopt(system.SOL_SOCKET, system.SO_RCVBUF, WINDOW_BYTES)
        far.connect(self._target)
        self._pairs.append((near, far))
        back = gevent.spawn(self._forward, far, near)
        self._forward(near, far)
        back.join()

    def _forward(self, sender: socket, receiver: socket) -> None:
        """Forward until the sender ends, then half-close the receiver's side as well."""
        flowing = self._flowing
        with suppress(OSError):
            while True:
                flowing.wait()
                gevent.sleep(self.pause)
                data = sender.recv(self.piece)
                flowing.wait()
                if not data:
                    break
                receiver.sendall(data)
                self.forwarded_bytes += len(data)
        if any(receiver in pair for pair in self._pairs):  # not if it was cut
            with suppress(OSError):
                receiver.shutdown(system.SHUT_WR)
