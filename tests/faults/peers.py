"""Peers for fault tests: a client with almost no buffer, a stream too large to keep in memory."""

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
    """A client whose connection buffers little data in the kernels.

    On loopback the kernels buffer over 4 MB for a client that does not read. With segments as
    short as Ethernet's, the server's kernel buffers about 70 KB, and the client's kernel
    acknowledges the bytes read in steps of one segment.
    """

    def __init__(self, address: Address, user: int, window: int = WINDOW_BYTES) -> None:
        self.sock = socket()
        self.sock.setsockopt(system.IPPROTO_TCP, system.TCP_MAXSEG, SEGMENT_BYTES)
        self.sock.setsockopt(system.SOL_SOCKET, system.SO_RCVBUF, window)
        with patience(f"connecting to {address}"):
            self.sock.connect(address)
        self.send(b"%d\n" % user)


class Flood:
    """A stream of broadcasts, each ``width`` bytes long, generated block by block."""

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
        """Send the whole stream, at most ``ahead`` bytes ahead of ``receive``."""
        sent = 0
        for block in self.blocks():
            until(lambda: sent - self.received_bytes <= ahead, "the reader to follow")  # noqa: B023
            source.sock.sendall(block)
            sent += len(block)

    def receive(self, client: Client) -> None:
        """Read the whole stream; raise AssertionError where it differs from what was sent."""
        for number, block in enumerate(self.blocks()):
            received = b""
            while len(received) < len(block):
                data = client.sock.recv(len(block) - len(received))
                assert data, f"the connection ended in block {number}"
                received += data
                self.received_bytes += len(data)
            assert received == block, f"block {number} is not what was sent"


def together(*tasks: gevent.Greenlet[..., None], seconds: float = 80.0) -> None:
    """Wait for all tasks; raise the first error."""
    done = gevent.joinall(tasks, timeout=seconds, raise_error=True)
    assert len(done) == len(tasks), f"not done within {seconds} s"
