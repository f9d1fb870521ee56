"""Connect sources and clients, send user ids, and raise the limit of open files if necessary.

Connecting blocks for at most CONNECT_TIMEOUT per connection.
"""

import logging
import resource
import socket
import ssl
from collections.abc import Container, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from simulator.errors import ConnectError
from simulator.play.tls import hang_up, reason, secure

log = logging.getLogger("simulator")

CONNECT_TIMEOUT = 10.0
"""Maximum time to connect; seconds. A full backlog delays a connection by one to three."""

_SPARE_FILES = 64
"""Open files of the simulator in addition to its clients."""

_STALLING_BYTES = 8 * 1024
"""Receive buffer of a stalling client; small, so that the server soon notices the stall."""


@dataclass(frozen=True)
class Address:
    """The server's address, and the TLS context if it speaks TLS."""

    host: str
    source_port: int
    client_port: int
    tls: ssl.SSLContext | None = None


@contextmanager
def connect_sources(address: Address, count: int) -> Iterator[list[socket.socket]]:
    """Connect ``count`` event sources; close all of them at the end."""
    with ExitStack() as stack:
        connections = []
        for _ in range(count):
            connections.append(connect_source(address))
            stack.callback(hang_up, connections[-1])
        yield connections


@contextmanager
def connect_clients(
    address: Address,
    users: Sequence[int],
    stalling: Container[int] = (),
    resuming: Container[int] = (),
) -> Iterator[list[socket.socket]]:
    """Connect a client for each user and send its id; close all of them at the end.

    Users in ``stalling`` get a small receive buffer; those in ``resuming`` ask for their position.
    """
    _allow_files(len(users))
    connections: list[socket.socket] = []
    try:
        # extend() appends one by one, so that all are closed if the next one fails.
        connections.extend(
            connect_client(
                address,
                user,
                _STALLING_BYTES if user in stalling else None,
                b"|" if user in resuming else b"",
            )
            for user in users
        )
        yield connections
    finally:
        for connection in connections:
            hang_up(connection)


def connect_client(
    address: Address, user: int, receive_bytes: int | None = None, asking: bytes = b""
) -> socket.socket:
    """Connect, send the user id, and return the non-blocking connection.

    ``asking`` follows the id: a bar, with or without a position, asks for positions.
    """
    connection = _connect(address, address.client_port, "user clients", receive_bytes)
    _send_id(connection, b"%d%b\r\n" % (user, asking))
    connection.setblocking(False)
    log.debug("client %d connected%s", user, f" with {asking.decode()}" if asking else "")
    return connection


def connect_source(address: Address) -> socket.socket:
    """Connect an event source, and return the non-blocking connection."""
    connection = _connect(address, address.source_port, "the event source")
    connection.setblocking(False)
    log.debug("source connected")
    return connection


def _connect(
    address: Address, port: int, who: str, receive_bytes: int | None = None
) -> socket.socket:
    host = address.host
    try:
        connection = _connect_any(host, port, receive_bytes)
    except (OSError, UnicodeError) as error:
        raise ConnectError(
            f"no server for {who} at {host}:{port} ({getattr(error, 'strerror', None) or error}); "
            "start one with `python -m maze.serve`, or use --serve"
        ) from error
    if address.tls is None:
        return connection
    return secure(connection, address.tls, host, port, CONNECT_TIMEOUT)


def _connect_any(host: str, port: int, receive_bytes: int | None) -> socket.socket:
    """Connect to the first of the host's addresses that answers."""
    failure = OSError("no address")
    for family, kind, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        connection = socket.socket(family, kind)
        connection.settimeout(CONNECT_TIMEOUT)
        # Events of a source with a rate, and an id after the TLS handshake, must not wait for an
        # acknowledgement.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        try:
            connection.connect(address)
        except ConnectionResetError:
            # The server closed the connection at once: the first read reports it.
            return connection
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    raise failure


def _send_id(connection: socket.socket, line: bytes) -> None:
    try:
        connection.sendall(line)
    except OSError as error:
        # The server has closed the connection: the first read reports it.
        log.debug("cannot send %r (%s)", line, reason(error))


def check_files(clients: int, instead: str = "lower --concurrency-level") -> None:
    """Raise ConnectError if the hard limit of open files is too low for the clients.

    ``instead`` tells the user what to do other than raise the limit.
    """
    count, hard = clients + _SPARE_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if count > hard != resource.RLIM_INFINITY:
        raise ConnectError(
            f"{count} open files are needed, but the limit is {hard}: raise `ulimit -Hn` "
            f"or {instead}"
        )


def _allow_files(clients: int) -> None:
    check_files(clients)
    count = clients + _SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
