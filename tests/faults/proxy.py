"""A TCP proxy that is a bad network: it delays, cuts, throttles and half-closes.

It forwards each direction in a greenlet of its own, a piece at a time. What it does to a
piece can be changed while it runs. It must never look into the bytes.
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
    """Listens on a free port and forwards every connection to ``target``.

    ``piece`` is how many bytes are forwarded at once, ``pause`` the seconds before each piece:
    a large piece and a pause are a delay, a piece of one byte and a second are a throttle.
    A ``narrow`` proxy has hardly any buffer towards the target.
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

    def cut(self) -> None:
        """Reset every connection, on both sides."""
        pairs, self._pairs = self._pairs, []
        for end in chain.from_iterable(pairs):
            with suppress(OSError):
                end.setsockopt(system.SOL_SOCKET, system.SO_LINGER, struct.pack("ii", 1, 0))
                end.close()

    def half_close(self) -> None:
        """Tell the target that the peers have no more to say; they may go on reading."""
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

    def _forward(self, giver: socket, taker: socket) -> None:
        """Forward until one side ends; a half-closed connection is half-closed beyond too."""
        with suppress(OSError):
            while True:
                self._flowing.wait()
                gevent.sleep(self.pause)
                data = giver.recv(self.piece)
                if not data:
                    break
                taker.sendall(data)
                self.forwarded_bytes += len(data)
        if any(taker in pair for pair in self._pairs):  # not if it was cut
            with suppress(OSError):
                taker.shutdown(system.SHUT_WR)
