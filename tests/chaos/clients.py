"""Clients that come back, at any edge, whenever their connection breaks or stays silent."""

from __future__ import annotations

import time
from collections.abc import Sequence
from random import Random

import gevent
from end_to_end.peers import Address
from gevent import socket

from simulator.errors import ConnectError
from simulator.play import connecting
from simulator.play.connecting import connect_client
from simulator.play.resuming import Leaving, ResumingClient
from simulator.stream.oracle import Expectation

MAX_SILENT_SECONDS = 3.0
"""Time without a byte after which a client connects again; an idle one gets its position sooner."""

RETRY_SECONDS = 0.05
MAX_STEP_SECONDS = 0.1


class ChaosClient(ResumingClient):
    """A client and the greenlet that plays it."""

    def __init__(
        self,
        user: int,
        expected: Expectation,
        leavings: Sequence[Leaving],
        addresses: Sequence[Address],
        edge: int,
        random: Random,
    ) -> None:
        self._addresses = addresses
        self._edge = edge
        self._random = random
        self.user = user
        super().__init__(user, self._connect(b"|"), expected, leavings)
        self._heard = time.monotonic()
        self.stays = False
        """Whether the client stays connected to its edge, however long that is silent."""
        self.breaks = 0
        self.served_at = 0.0
        """When the client first received an event above ``awaited``."""
        self.awaited: int | None = None
        self.greenlet = gevent.spawn(self._play)

    @property
    def next(self) -> int:
        """The number up to which the client has received everything; 0 before it knows."""
        return self.position.next if self.position else 0

    @property
    def wrong(self) -> str | None:
        """What the service told the client that is certainly wrong, if anything."""
        return self._wrong.why if self._wrong else None

    @property
    def differs(self) -> bool:
        """Whether the client received bytes that are not its own, or too few."""
        has_other = self._kept is not None and self._kept_from < self.received
        is_short = self.next > self.expected.last_number and self.received < self.expected.bytes
        return has_other or is_short

    def hop(self) -> None:
        """Disconnect, and come back at any edge."""
        if self.connected and not self.closed_by and self.position and not self.stays:
            self._break()
            self._edge = self._random.randrange(len(self._addresses))

    def describe(self) -> str:
        """Tell how far the client has come."""
        return (
            f"client {self.user} (edge {self._edge + 1}, {self.breaks} breaks, "
            f"{self.resumed} resumes): {self.received} of {self.expected.bytes} bytes, next "
            f"{self.next} of {self.expected.last_number + 1}, {self.evidence().fate}, "
            f"wrong: {self._wrong}"
        )

    def _play(self) -> None:
        while not self.wrong:
            if not self.connected:
                self._come_back()
                continue
            self._read_once()
            if self.wrong:
                return
            silent = time.monotonic() - self._heard > MAX_SILENT_SECONDS and not self.stays
            if self.closed_by or (silent and self.position):
                self.breaks += 1
                self._break()
                self._edge = (self._edge + 1) % len(self._addresses)
            elif self.acts_now:
                gevent.sleep(self.leave())
                self._edge = self._random.randrange(len(self._addresses))

    def _read_once(self) -> None:
        connection = self.connection
        try:
            socket.wait_read(connection.fileno(), MAX_STEP_SECONDS, TimeoutError())
        except (TimeoutError, OSError):
            return
        if connection is not self.connection or not self.connected:
            return  # it has hopped meanwhile
        self.read()
        if self.awaited is not None and not self.served_at and self.next > self.awaited:
            self.served_at = time.monotonic()

    def _take(self, size: int) -> int:
        if size:
            self._heard = time.monotonic()
        return super()._take(size)

    def _break(self) -> None:
        self.closed_by = None
        self._disconnect(abortive=False)

    def _come_back(self) -> None:
        try:
            connection = self._connect(self.request)
        except ConnectError:
            self._edge = (self._edge + 1) % len(self._addresses)
            gevent.sleep(RETRY_SECONDS)
            return
        self._heard = time.monotonic()
        self.resume(connection)

    def _connect(self, request: bytes) -> socket.socket:
        host, port = self._addresses[self._edge]
        address = connecting.Address(host, 0, port)
        return connect_client(address, self.user, asking=request)
