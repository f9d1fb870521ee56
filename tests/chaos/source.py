"""A source that sends again what was not acknowledged, and can be held before the stream's end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import gevent
from end_to_end.peers import PATIENCE, Address
from gevent import select, socket

from simulator.errors import ConnectError, RefusedError
from simulator.play.acknowledgements import Acknowledgement, read_first
from simulator.play.connecting import Address as ServerAddress
from simulator.play.connecting import connect_source
from simulator.play.resending import ResendingSource
from simulator.play.tls import hang_up
from simulator.stream.workload import Chunk

ACK_SECONDS = 2.0
"""Time without an acknowledgement after which a source with unconfirmed events connects again."""

FIRST_ACK_SECONDS = 1.0
STEP_SECONDS = 0.02
RUN_SECONDS = 120.0
"""Time without progress after which the source counts as lost."""


class ChaosSource(ResendingSource):
    """A source that tries all ingests, and the greenlet that plays it.

    It sends no more than ``limit`` lines until ``release``, and nothing while ``waits`` says so.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        chunks: Sequence[Chunk],
        rate: float | None,
        *,
        last: int,
        limit: int,
        waits: Callable[[int], bool] = lambda sent: False,
    ) -> None:
        self._addresses = list(addresses)
        self._waits = waits
        self._limit: int | None = limit
        self._acked_at = time.monotonic()
        connection, first = _connect_first(self._addresses)
        super().__init__(
            *(connection, chunks, rate),
            first=first,
            last=last,
            connect=lambda: connect_any(self._addresses),
            timeout=RUN_SECONDS,
            cut=1 << 14,
        )
        self.greenlet = gevent.spawn(self._play)

    @property
    def acknowledged(self) -> int:
        """Everything below this number is acknowledged."""
        return self._acknowledged.next

    @property
    def is_held(self) -> bool:
        """Whether the source has sent all that it may until ``release``."""
        return self._limit is not None and self.sent_events >= self._limit

    def release(self) -> None:
        """Send to the end."""
        self._limit = None

    def _play(self) -> None:
        while not self.done:
            now = time.monotonic()
            if self.broken:
                if not self.reconnect(now):
                    gevent.sleep(STEP_SECONDS)
                self._acked_at = time.monotonic()
                continue
            self._step(now)
            if time.monotonic() - self._acked_at > ACK_SECONDS and self._is_unconfirmed:
                self.break_off()
        hang_up(self.connection)

    @property
    def _is_unconfirmed(self) -> bool:
        """Whether more was sent than is acknowledged, even if a batch is not whole yet."""
        return self._acknowledged.next + 1_000 < self.sent_events or self._limit is None

    def _step(self, now: float) -> None:
        pause = self.wait(now)
        again = bool(self._again)
        may_write = self.writable and not pause and (again or not self._must_wait())
        writing = [self.connection] if may_write else []
        readable, writable, _ = select.select(
            [self.connection], writing, [], min(pause or STEP_SECONDS, STEP_SECONDS)
        )
        if readable:
            self.read()
        if writable and not self.broken and self.lost is None:
            self.write()

    def _must_wait(self) -> bool:
        return self.is_held or self._waits(self.sent_events)

    def break_off(self) -> None:
        super().break_off()
        hang_up(self.connection)

    def _note(self, told: Any) -> None:
        if told.next > self._acknowledged.next:
            self._acked_at = time.monotonic()
        super()._note(told)


def _connect_first(addresses: list[Address]) -> tuple[socket.socket, Acknowledgement]:
    """Connect; an ingest may be taking over from another."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return connect_any(addresses)
        except (ConnectError, RefusedError):
            if time.monotonic() > deadline:
                raise
        gevent.sleep(STEP_SECONDS)


def connect_any(addresses: list[Address]) -> tuple[socket.socket, Acknowledgement]:
    """Connect to the ingest that takes sources; try last those that did not."""
    failure: Exception = ConnectError("there is no ingest")
    for _ in range(len(addresses)):
        host, port = addresses[0]
        try:
            connection = connect_source(ServerAddress(host, port, 0))
            try:
                return connection, read_first(connection, FIRST_ACK_SECONDS)
            except BaseException:
                connection.close()
                raise
        except (ConnectError, RefusedError) as error:
            failure = error
            addresses.append(addresses.pop(0))
    raise failure
