"""Owns the play: connects every client and the source, sends and receives in one loop.

Must never know how the stream was made or judged. Plain non-blocking sockets and one thread, so
that the measuring instrument is simpler than what it measures; everything it waits for is bounded.
"""

import logging
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from simulator.arrival import wait_until_taken
from simulator.client import Client
from simulator.connecting import Address, connect_source
from simulator.latency import Marks
from simulator.oracle import Expectation
from simulator.source import Source
from simulator.workload import Chunk

log = logging.getLogger("simulator")

LOST_SOURCE_PATIENCE = 2.0  # seconds without progress once the source is lost
_LAZY = 0.01  # seconds between reads for clients that are not timed, while others are
_TICK = 0.1  # seconds between looks at the clock when nothing happens

Progress = Callable[[float, int, int], None]


@dataclass(frozen=True)
class Timing:
    """All waits of a play in seconds, and the source's rate in events per second."""

    timeout: float
    settle: float = 0.0
    linger: float = 0.0
    rate: float | None = None


class Play:
    """One run of the stream over clients that are connected already."""

    def __init__(
        self,
        address: Address,
        timing: Timing,
        progress: Progress = lambda now, events, received: None,
        *,
        timed: Sequence[int] = (),
        log_lines: bool = False,
    ) -> None:
        self.clients: list[Client] = []
        self.source_lost: str | None = None
        self.received = 0
        self.sent_events = 0
        self.seconds = 0.0
        self.source_marks = Marks()
        self.behind = 0.0
        self._timed = frozenset(timed)
        self._address = address
        self._timing = timing
        self._progress = progress
        self._log_lines = log_lines
        self._open = 0
        self._waiting: set[Client] = set()

    def run(
        self,
        users: Sequence[int],
        connections: Sequence[socket.socket],
        chunks: Sequence[Chunk],
        expectations: Sequence[Expectation],
    ) -> None:
        """Sends all, receives all, and stays for the linger time; how it went is in the fields."""
        self.clients = [
            Client(user, connection, expected, marks=self._marks(user), lines=self._log_lines)
            for user, connection, expected in zip(users, connections, expectations, strict=True)
        ]
        self._open = len(self.clients)
        self._waiting = {client for client in self.clients if not client.finished}
        self._wait_for_handshakes(connections)
        with (
            connect_source(self._address) as source,
            selectors.DefaultSelector() as selector,
            selectors.DefaultSelector() as lazy,
        ):
            self._lazy, self._next_lazy = lazy, 0.0
            for client in self.clients:
                urgent = not self._timed or client.marks is not None
                (selector if urgent else lazy).register(
                    client.connection, selectors.EVENT_READ, client
                )
            sender = Source(
                source,
                chunks,
                self._timing.rate,
                marks=self.source_marks if self._timed else None,
                lines=self._log_lines,
            )
            self._exchange(sender, selector)
            self.source_lost = sender.lost
            self.behind = sender.behind
            self._linger(sender, selector)

    def _marks(self, user: int) -> Marks | None:
        return Marks() if user in self._timed else None

    def _wait_for_handshakes(self, connections: Sequence[socket.socket]) -> None:
        ports = set()
        for connection in connections:
            ports.add(connection.getsockname()[1])
        taken = wait_until_taken(ports, self._address.client_port)
        if taken is False:
            log.warning("the server has not read all user ids; starting all the same")
        time.sleep(self._timing.settle)

    def _exchange(self, source: Source, selector: selectors.BaseSelector) -> None:
        """Until everything was sent and received, or nothing has moved for too long."""
        selector.register(source.connection, selectors.EVENT_READ, source)
        began = moved = time.monotonic()
        tick = _LAZY if self._timed else _TICK
        writing = False
        while self._open and (self._waiting or not source.done):
            now = time.monotonic()
            pause = source.wait(now)
            ready = not source.done and not pause
            if ready != writing:
                self._watch(selector, source, writable=ready)
                writing = ready
            if self._turn(source, selector, min(pause or tick, tick)):
                moved = now = time.monotonic()
            elif pause and not source.done:
                moved = now
            self.sent_events = source.sent_events
            self._progress(now, self.sent_events, self.received)
            if now - moved > self._patience(source):
                log.debug("nothing moved for %.1f s", now - moved)
                break
        self.seconds = moved - began

    def _turn(self, source: Source, selector: selectors.BaseSelector, wait: float) -> int:
        """Serves every connection that is ready once; returns the bytes that moved."""
        moved = self._read_the_lazy()
        for key, events in selector.select(wait):
            if isinstance(key.data, Client):
                moved += self._receive(key.data, selector)
                continue
            if events & selectors.EVENT_WRITE and not source.done:
                moved += source.write()
            if events & selectors.EVENT_READ and not source.read():
                selector.unregister(source.connection)
        return moved

    def _read_the_lazy(self) -> int:
        """Those who are not timed, while others are, are read now and then, as time allows."""
        now = time.monotonic()
        if not self._lazy.get_map() or now < self._next_lazy:
            return 0
        self._next_lazy = now + _LAZY
        return sum(self._receive(key.data, self._lazy) for key, _ in self._lazy.select(0))

    def _receive(self, client: Client, selector: selectors.BaseSelector) -> int:
        size = client.read()
        self.received += size
        if client.closed_by:
            selector.unregister(client.connection)
            self._open -= 1
        if client.finished:
            self._waiting.discard(client)
        return size

    def _linger(self, source: Source, selector: selectors.BaseSelector) -> None:
        """Bytes beyond the expected are only found by waiting for them."""
        self._watch(selector, source, writable=False)
        deadline = time.monotonic() + self._timing.linger
        while self._open and (left := deadline - time.monotonic()) > 0:
            self._turn(source, selector, min(left, _LAZY))

    def _watch(self, selector: selectors.BaseSelector, source: Source, *, writable: bool) -> None:
        if source.connection in selector.get_map():
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writable else 0)
            selector.modify(source.connection, events, source)

    def _patience(self, source: Source) -> float:
        timeout = self._timing.timeout
        return min(timeout, LOST_SOURCE_PATIENCE) if source.lost else timeout
