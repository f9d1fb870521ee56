"""Peers with habits: a client with hardly any buffer, a stream too large to keep."""

from __future__ import annotations

import socket as system
import sys
from collections.abc import Iterator

import gevent
from end_to_end.peers import Address, Client, Source, patience, until
from gevent.socket import socket

SEGMENT_BYTES = 1_400
WINDOW_BYTES = 4_096


class NarrowClient(Client):
    """A client between whom and the server hardly anything is on its way.

    On loopback the kernels keep over 4 MB for a client that does not read. Segments as short
    as Ethernet's make the server's kernel keep some 70 KB, and let the client's kernel
    acknowledge what was read in steps of one segment.
    """

    def __init__(self, address: Address, user: int, window: int = WINDOW_BYTES) -> None:
        self.sock = socket()
        self.sock.setsockopt(system.IPPROTO_TCP, system.TCP_MAXSEG, SEGMENT_BYTES)
        self.sock.setsockopt(system.SOL_SOCKET, system.SO_RCVBUF, window)
        with patience(f"connecting to {address}"):
            self.sock.connect(address)
        self.send(b"%d\n" % user)


class Flood:
    """A stream of broadcasts, ``width`` bytes each, too long to keep: made block by block."""

    BLOCK_EVENTS = 4_000

    def __init__(self, width: int, total_bytes: int, first: int = 1) -> None:
        self.width = width
        self.first = first
        self.end = first + total_bytes // width
        self.received_bytes = 0

    def blocks(self) -> Iterator[bytes]:
        for start in range(self.first, self.end, self.BLOCK_EVENTS):
            numbers = range(start, min(start + self.BLOCK_EVENTS, self.end))
            yield b"".join(b"%0*d|B\n" % (self.width - 3, number) for number in numbers)

    def send(self, source: Source, ahead: int = sys.maxsize) -> None:
        """Send it all, however long the server takes, at most ``ahead`` bytes before the reader."""
        sent = 0
        for block in self.blocks():
            until(lambda: sent - self.received_bytes <= ahead, "the reader to follow")  # noqa: B023
            source.sock.sendall(block)
            sent += len(block)

    def receive(self, client: Client) -> None:
        """Read it all; AssertionError where it is not what was sent."""
        for number, block in enumerate(self.blocks()):
            received = b""
            while len(received) < len(block):
                data = client.sock.recv(len(block) - len(received))
                assert data, f"the connection ended in block {number}"
                received += data
                self.received_bytes += len(data)
            assert received == block, f"block {number} is not what was sent"


def together(*tasks: gevent.Greenlet[..., None], seconds: float = 80.0) -> None:
    """Wait for all; the first error is raised."""
    done = gevent.joinall(tasks, timeout=seconds, raise_error=True)
    assert len(done) == len(tasks), f"not done within {seconds} s"
