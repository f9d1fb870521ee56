"""Owns the play: connects every client and the source, sends and receives in one loop.

Must never know how the stream was made or judged. Plain non-blocking sockets and one thread, so
that the measuring instrument is simpler than what it measures; everything it waits for is bounded.
"""

import logging
import resource
import selectors
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from simulator.arrival import wait_until_taken
from simulator.client import Client
from simulator.errors import ConnectError
from simulator.oracle import Expectation
from simulator.source import Source
from simulator.workload import Chunk

log = logging.getLogger("simulator")

CONNECT_TIMEOUT = 10.0  # seconds for one connection; a full backlog costs one to three
LOST_SOURCE_PATIENCE = 2.0  # seconds without progress once the source is lost
_SPARE_FILES = 64
_TICK = 0.1  # seconds between looks at the clock when nothing happens

Progress = Callable[[float, int, int], None]


@dataclass(frozen=True)
class Address:
    """Where the server is."""

    host: str
    source_port: int
    client_port: int


@dataclass(frozen=True)
class Timing:
    """All waits of a play in seconds, and the source's rate in events per second."""

    timeout: float
    settle: float = 0.0
    linger: float = 0.0
    rate: float | None = None


@contextmanager
def connect_clients(address: Address, users: Sequence[int]) -> Iterator[list[socket.socket]]:
    """Connects a client for each user and sends its id; closes all of them at the end."""
    _allow_files(len(users) + _SPARE_FILES)
    connections: list[socket.socket] = []
    try:
        for user in users:
            connection = _connect(address.host, address.client_port, "user clients")
            connections.append(connection)
            _send_id(connection, user)
            connection.setblocking(False)
            log.debug("client %d connected", user)
        yield connections
    finally:
        for connection in connections:
            connection.close()


class Play:
    """One run of the stream over clients that are connected already."""

    def __init__(
        self,
        address: Address,
        timing: Timing,
        progress: Progress = lambda now, events, received: None,
        *,
        log_lines: bool = False,
    ) -> None:
        self.clients: list[Client] = []
        self.source_lost: str | None = None
        self.received = 0
        self.sent_events = 0
        self.seconds = 0.0
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
            Client(user, connection, expected, lines=self._log_lines)
            for user, connection, expected in zip(users, connections, expectations, strict=True)
        ]
        self._open = len(self.clients)
        self._waiting = {client for client in self.clients if not client.finished}
        self._wait_for_handshakes(connections)
        with (
            _connect(self._address.host, self._address.source_port, "the event source") as source,
            selectors.DefaultSelector() as selector,
        ):
            source.setblocking(False)
            # With a rate the pieces are small, and must not wait for acknowledgements.
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            log.debug("source connected")
            for client in self.clients:
                selector.register(client.connection, selectors.EVENT_READ, client)
            sender = Source(source, chunks, self._timing.rate, lines=self._log_lines)
            self._exchange(sender, selector)
            self.source_lost = sender.lost
            self._linger(sender, selector)

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
        writing = False
        while self._open and (self._waiting or not source.done):
            now = time.monotonic()
            pause = source.wait(now)
            ready = not source.done and not pause
            if ready != writing:
                self._watch(selector, source, writable=ready)
                writing = ready
            if self._turn(source, selector, min(pause or _TICK, _TICK)):
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
        moved = 0
        for key, events in selector.select(wait):
            if isinstance(key.data, Client):
                moved += self._receive(key.data, selector)
                continue
            if events & selectors.EVENT_WRITE and not source.done:
                moved += source.write()
            if events & selectors.EVENT_READ and not source.read():
                selector.unregister(source.connection)
        return moved

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
            self._turn(source, selector, left)

    def _watch(self, selector: selectors.BaseSelector, source: Source, *, writable: bool) -> None:
        if source.connection in selector.get_map():
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writable else 0)
            selector.modify(source.connection, events, source)

    def _patience(self, source: Source) -> float:
        timeout = self._timing.timeout
        return min(timeout, LOST_SOURCE_PATIENCE) if source.lost else timeout


def _connect(host: str, port: int, who: str) -> socket.socket:
    try:
        return _connect_any(host, port)
    except OSError as error:
        raise ConnectError(
            f"no server for {who} at {host}:{port} ({error.strerror or error}); "
            "start one with `python -m maze.serve`, or let the simulator do it with --serve"
        ) from error


def _connect_any(host: str, port: int) -> socket.socket:
    """A connection to the first of the host's addresses that answers."""
    failure = OSError("no address")
    for family, kind, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        connection = socket.socket(family, kind)
        connection.settimeout(CONNECT_TIMEOUT)
        try:
            connection.connect(address)
        except ConnectionResetError:
            # Somebody is there and threw us out at once: the verdict says so when it is read.
            return connection
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    raise failure


def _send_id(connection: socket.socket, user: int) -> None:
    try:
        connection.sendall(b"%d\r\n" % user)
    except OSError as error:
        # The server has closed already: found again, with a verdict, when the client reads.
        log.debug("client %d: its id could not be sent (%s)", user, error.strerror)


def _allow_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if count > hard != resource.RLIM_INFINITY:
        raise ConnectError(
            f"{count} open files are needed and this machine allows {hard}; raise `ulimit -Hn` "
            "or lower --concurrency-level"
        )
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
