"""An event that the server's system received after a client's id line reaches that client.

The server runs in the test's own event loop. Until a test yields to the loop, its connections and
the bytes that it sends reach the system, but not the server.
"""

from __future__ import annotations

import socket as system
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import gevent
import pytest
from gevent import ssl
from structlog.testing import LogCapture

from maze.listener import registration_wait
from maze.net.time_slice import yield_to_event_loop

from .certificates import Authority, Wire
from .peers import until
from .running import Maze
from .tls_ports import VERSIONS

RESET = struct.pack("ii", 1, 0)
"""Value of SO_LINGER with which close() resets the connection."""


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def _ample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise the budget, so that it suffices on a machine that is ten times slower."""
    monkeypatch.setattr(registration_wait, "BURST_SECONDS", 10.0)


def connect_at_once(stack: ExitStack, maze: Maze, users: range) -> list[system.socket]:
    """Connect clients and send their ids without yielding to the event loop."""
    connections = []
    for user in users:
        connection = stack.enter_context(system.create_connection(maze.client_address))
        connection.sendall(b"%d\n" % user)
        connection.setblocking(False)
        connections.append(connection)
    return connections


def expect(connection: system.socket, expected: bytes) -> None:
    """Assert that the next bytes are ``expected``."""
    received = bytearray()

    def has_arrived() -> bool:
        try:
            received.extend(connection.recv(len(expected) - len(received)))
        except BlockingIOError:
            return False
        return len(received) >= len(expected)

    until(has_arrived, f"{expected!r} to arrive")
    assert received == expected


@pytest.mark.usefixtures("_ample")
@pytest.mark.parametrize("count", [1, 100, 2_000])
def test_an_event_right_after_the_ids_reaches_every_client(
    start: Callable[..., Maze], stack: ExitStack, count: int
) -> None:
    maze = start()
    source = maze.source()
    maze.await_sources(1)
    clients = connect_at_once(stack, maze, range(count))
    source.sock.send(b"1|B\n2|P|1|0\n")
    for connection in clients:
        expect(connection, b"1|B\n")
    expect(clients[0], b"2|P|1|0\n")


def test_events_of_several_sources_right_after_the_ids(
    start: Callable[..., Maze], stack: ExitStack
) -> None:
    maze = start(max_sources=2)
    sources = [maze.source(), maze.source()]
    maze.await_sources(2)
    clients = connect_at_once(stack, maze, range(100))
    for number, source in enumerate(sources, start=1):
        source.sock.send(b"%d|B\n" % number)
    for connection in clients:
        expect(connection, b"1|B\n2|B\n")


def test_an_event_right_after_the_ids_of_accepted_clients(
    start: Callable[..., Maze], stack: ExitStack
) -> None:
    maze = start()
    source = maze.source()
    strangers = [maze.stranger() for _ in range(100)]
    maze.await_sources(1)
    until(lambda: maze.server.clients.limits.handshakes == 100, "all to be accepted")
    for user, client in enumerate(strangers):
        client.sock.send(b"%d\n" % user)
    source.sock.send(b"1|B\n")
    for client in strangers:
        client.expect(b"1|B\n")


@pytest.mark.usefixtures("_ample")
@pytest.mark.parametrize("count", [1, 100])
@pytest.mark.parametrize("version", VERSIONS)
def test_an_event_right_after_the_ids_over_tls(
    start: Callable[..., Maze], authority: Authority, version: ssl.TLSVersion, count: int
) -> None:
    tls = authority.context(version=version)
    maze = start(client_tls_cert=authority.server.cert, client_tls_key=authority.server.key)
    source = maze.source()
    strangers = [maze.stranger(tls=tls) for _ in range(count)]
    maze.await_sources(1)
    for user, client in enumerate(strangers):
        # Over TLS 1.3, the server has yet to read the client's Finished message, too.
        client.sock.send(b"%d\n" % user)
    source.sock.send(b"1|B\n")
    for client in strangers:
        client.expect(b"1|B\n")


def test_an_event_over_tls_right_after_the_ids(
    start: Callable[..., Maze], stack: ExitStack, authority: Authority
) -> None:
    wire = Wire(authority)
    settings = wire.settings()
    maze = start(**{key: value for key, value in settings.items() if key.startswith("source")})
    maze.tls = wire
    source = maze.source()
    maze.await_sources(1)
    clients = connect_at_once(stack, maze, range(100))
    source.sock.send(b"1|B\n")
    for connection in clients:
        expect(connection, b"1|B\n")


def test_silent_clients_delay_no_event(start: Callable[..., Maze]) -> None:
    maze = start()
    (client,) = maze.clients(1)
    for said in (b"", b"1", b"12"):
        for _ in range(10):
            maze.stranger().send(said)
    until(lambda: maze.server.clients.limits.handshakes == 30, "all to be accepted")
    maze.source().send(b"1|B\n")
    client.expect(b"1|B\n")
    assert maze.server.registration.overruns == 0


def test_a_pause_of_accepting_delays_no_event(start: Callable[..., Maze], stack: ExitStack) -> None:
    maze = start()
    (client,) = maze.clients(1)
    source = maze.source()
    maze.await_sources(1)
    maze.server._listeners["client"].stop_accepting()
    connect_at_once(stack, maze, range(2, 3))
    source.send(b"1|B\n")
    client.expect(b"1|B\n")
    assert maze.server.registration.overruns == 0


def test_registration_beyond_its_budget_does_not_delay_events(
    start: Callable[..., Maze],
    stack: ExitStack,
    log: LogCapture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registration_wait, "BURST_SECONDS", 0.001)
    monkeypatch.setattr(registration_wait, "REGAINED_SHARE", 0)
    maze = start()
    first = maze.client(1)
    source = maze.source()
    maze.await_sources(1)
    connect_at_once(stack, maze, range(2, 202))
    source.sock.send(b"1|B\n")
    first.expect(b"1|B\n")
    assert len(maze.sessions) < 201  # the event did not wait for all clients
    assert maze.server.registration.overruns == 1
    source.send(b"2|B\n")
    first.expect(b"2|B\n")
    warnings = [line for line in log.entries if line["event"] == "registration_behind"]
    assert len(warnings) == 1
    maze.await_sessions(201)


def test_a_storm_of_reset_connections_does_not_stop_the_stream(
    start: Callable[..., Maze], stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registration_wait, "BURST_SECONDS", 0.01)
    maze = start()
    client = maze.client(1)
    source = maze.source()
    maze.await_sources(1)
    storming = True

    def storm() -> None:
        """Keep the accept queue filled: the server accepts ten connections per port in a turn."""
        while storming:
            for _ in range(20):
                with closing(system.socket()) as connection:
                    connection.setblocking(False)
                    connection.setsockopt(system.SOL_SOCKET, system.SO_LINGER, RESET)
                    connection.connect_ex(maze.client_address)
            yield_to_event_loop()

    greenlet = gevent.spawn(storm)
    try:
        for number in range(1, 51):
            source.send(b"%d|B\n" % number)
            client.expect(b"%d|B\n" % number)
    finally:
        storming = False
        greenlet.join()
    assert maze.server.registration.overruns
