"""Owns making connections: the address, the user ids, and what the machine must allow for them.

Must never know the stream. Connecting blocks, within a bound.
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

CONNECT_TIMEOUT = 10.0  # seconds for one connection; a full backlog costs one to three
_SPARE_FILES = 64
_STALLING_BYTES = 8 * 1024


@dataclass(frozen=True)
class Address:
    """Where the server is."""

    host: str
    source_port: int
    client_port: int
    tls: ssl.SSLContext | None = None


@contextmanager
def connect_sources(address: Address, count: int) -> Iterator[list[socket.socket]]:
    """Connect `count` event sources; close all of them at the end."""
    with ExitStack() as stack:
        connections = []
        for _ in range(count):
            connections.append(connect_source(address))
            stack.callback(hang_up, connections[-1])
        yield connections


@contextmanager
def connect_clients(
    address: Address, users: Sequence[int], stalling: Container[int] = ()
) -> Iterator[list[socket.socket]]:
    """Connects a client for each user and sends its id; closes all of them at the end.

    Those who will stall have a small buffer, so that the server soon feels it.
    """
    _allow_files(len(users))
    connections: list[socket.socket] = []
    try:
        # One by one, so that those there are can be closed if the next one fails.
        connections.extend(
            connect_client(address, user, _STALLING_BYTES if user in stalling else None)
            for user in users
        )
        yield connections
    finally:
        for connection in connections:
            hang_up(connection)


def connect_client(address: Address, user: int, receive_bytes: int | None = None) -> socket.socket:
    """A connection that does not block, and over which the user id was sent."""
    connection = _connect(address, address.client_port, "user clients", receive_bytes)
    _send_id(connection, user)
    connection.setblocking(False)
    log.debug("client %d connected", user)
    return connection


def connect_source(address: Address) -> socket.socket:
    """A connection for the event source that does not block."""
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
            "start one with `python -m maze.serve`, or let the simulator do it with --serve"
        ) from error
    if address.tls is None:
        return connection
    return secure(connection, address.tls, host, port, CONNECT_TIMEOUT)


def _connect_any(host: str, port: int, receive_bytes: int | None) -> socket.socket:
    """A connection to the first of the host's addresses that answers."""
    failure = OSError("no address")
    for family, kind, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        connection = socket.socket(family, kind)
        connection.settimeout(CONNECT_TIMEOUT)
        # Small segments must not wait for acknowledgements: events of a source with a rate, and
        # an id after the end of the TLS handshake.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
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
        log.debug("client %d: its id could not be sent (%s)", user, reason(error))


def check_files(clients: int, instead: str = "lower --concurrency-level") -> None:
    """Raises ConnectError if so many clients are more than this machine allows open files.

    `instead` is what the user may do if it cannot be allowed more.
    """
    count, hard = clients + _SPARE_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if count > hard != resource.RLIM_INFINITY:
        raise ConnectError(
            f"{count} open files are needed and this machine allows {hard}; raise `ulimit -Hn` "
            f"or {instead}"
        )


def _allow_files(clients: int) -> None:
    check_files(clients)
    count = clients + _SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
