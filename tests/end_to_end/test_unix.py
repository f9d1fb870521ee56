"""Sources, clients and operators on Unix sockets."""

from __future__ import annotations

import os
import signal
import socket as system
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from ipaddress import ip_network
from pathlib import Path

import pytest
from structlog.testing import LogCapture

from maze.core import Position

from .peers import PATIENCE, Client, Source, until
from .running import Child, Maze
from .test_positions import read_position
from .test_proxy_header import LOCAL, UNKNOWN

ELSEWHERE = (ip_network("192.0.2.0/24"),)
HEADER = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 9099\r\n"


class Local:
    """The paths of a server's sockets, and its peers."""

    def __init__(self, folder: Path) -> None:
        self.paths = {name: folder / name for name in ("source", "client", "admin")}
        self.hosts = {f"{name}_host": self.host(name) for name in ("source", "client")}
        self._peers = ExitStack()

    def host(self, name: str) -> str:
        return f"unix:{self.paths[name]}"

    def options(self, *ports: str) -> list[str]:
        return [word for port in ports for word in (f"--{port}-host", self.host(port))]

    def client(self, said: bytes = b"") -> Client:
        client = self._peers.enter_context(closing(Client(self.paths["client"])))
        client.send(said)
        return client

    def source(self, said: bytes = b"") -> Source:
        source = self._peers.enter_context(closing(Source(self.paths["source"])))
        source.send(said)
        return source

    def is_healthy(self) -> bool:
        """Ask the admin port."""
        operator = self._peers.enter_context(closing(Client(self.paths["admin"])))
        operator.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return operator.read_until_closed().startswith(b"HTTP/1.1 200 ")

    def close(self) -> None:
        self._peers.close()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    with closing(Local(tmp_path)) as peers:
        yield peers


Start = Callable[..., Maze]


def test_events_are_delivered(start: Start, log: LogCapture, local: Local) -> None:
    maze = start(**local.hosts)
    assert maze.server.addresses == {name: (local.host(name), 0) for name in ("client", "source")}
    clients = [local.client(b"%d\n" % user) for user in range(3)]
    maze.await_sessions(3)
    stream = b"".join(b"%d|B\n" % number for number in range(1, 20_001))
    source = local.source(stream)
    for client in clients:
        client.expect(stream)
    source.close()
    until(lambda: dict(maze.server.source.closed) == {"left": 1}, "the source to leave")
    clients[0].close()
    until(lambda: dict(maze.server.sessions.closed) == {"left": 1}, "the client to leave")
    named = {entry["client"] for entry in log.entries if entry["event"] == "session_opened"}
    assert named == {"unix"}


def test_peers_are_exempt_from_what_concerns_addresses(start: Start, local: Local) -> None:
    ranges = {"allow_client": ELSEWHERE, "allow_source": ELSEWHERE}
    maze = start(**local.hosts, **ranges, max_clients_per_address=1)
    clients = [local.client(b"7\n") for _ in range(3)]
    maze.await_sessions(3)
    local.source(b"1|B\n")
    for client in clients:
        client.expect(b"1|B\n")


def test_all_other_limits_hold(start: Start, local: Local) -> None:
    maze = start(**local.hosts, max_clients=2, max_handshakes=1)
    first = local.client()
    until(lambda: maze.server.clients.limits.handshakes == 1, "the handshake")
    local.client().expect_closed()
    first.send(b"1\n")
    maze.await_sessions(1)
    local.client(b"2\n")
    maze.await_sessions(2)
    local.client().expect_closed()
    assert dict(maze.server.clients.limits.refused) == {"max_handshakes": 1, "max_clients": 1}


def test_a_source_takes_the_slot_of_one_that_has_left(start: Start, local: Local) -> None:
    maze = start(**local.hosts)
    first = local.source(b"1|B\n")
    maze.await_sources(1)
    local.source().expect_closed()  # there is one slot
    first.close()
    maze.await_sources(0)
    local.source(b"1|B\n2|B\n")
    maze.await_routed(3)


@pytest.mark.parametrize("header", [HEADER, b""])
def test_a_proxy_on_a_unix_socket(
    start: Start, log: LogCapture, local: Local, header: bytes
) -> None:
    maze = start(**local.hosts, proxy_from=("unix",))
    client = local.client(header + b"7\n")
    if header:
        maze.await_sessions(1)
        (line,) = (entry for entry in log.entries if entry["event"] == "session_opened")
        assert line["client"] == "192.0.2.7:4711"
    else:
        client.expect_closed()
        assert dict(maze.server.clients.access.rejects.counts) == {"proxy_header": 1}


@pytest.mark.parametrize("header", [LOCAL, UNKNOWN], ids=["local", "unknown"])
def test_a_proxy_on_a_unix_socket_that_connects_for_itself_is_exempt_from_ranges(
    start: Start, local: Local, header: bytes
) -> None:
    ranges = {"allow_client": ELSEWHERE, "allow_source": ELSEWHERE}
    maze = start(**local.hosts, **ranges, proxy_from=("unix",))
    client = local.client(header + b"7\n")
    maze.await_sessions(1)
    local.source(header + b"1|B\n")
    client.expect(b"1|B\n")


def test_a_slow_client_is_waited_for_and_one_comes_back(start: Start, local: Local) -> None:
    maze = start(**local.hosts, client_buffer=64 * 1024)
    slow = local.client(b"7\n")
    maze.await_sessions(1)
    lines = [b"%018d|B\n" % number for number in range(1, 100_001)]
    sending = local.source().send_in_background(b"".join(lines))
    until(lambda: maze.server.router.stats.waited_seconds > 0, "the router to wait")
    slow.expect(b"".join(lines))
    sending.join(PATIENCE)
    assert sending.dead
    position = Position(maze.server.router.position.epoch, 100_000)
    back = local.client(b"8|%d-%d\n" % position)
    assert read_position(back) == ("=", position)
    back.expect(lines[-1])


# The files.


@pytest.mark.parametrize("edges", ["0", "2"])
def test_the_files_are_there_while_the_server_runs(local: Local, edges: str) -> None:
    for path in local.paths.values():
        with system.socket(system.AF_UNIX) as left:
            left.bind(str(path))
    options = local.options("source", "client", "admin")
    with Child("--edges", edges, "--admin-port", "9095", *options).ready() as child:
        for path in local.paths.values():
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert local.is_healthy()
        clients = [local.client(b"7|\n") for _ in range(6)]
        for client in clients:
            read_position(client)
        local.source(b"1|B\n")
        for client in clients:
            client.expect(b"1|B\n")
        with Child(*local.options("client")) as other:
            assert other.status() == 1
            assert other.stderr().splitlines()[-1] == (
                f"maze: cannot listen on {local.host('client')}: Address already in use; "
                "--client-host chooses another address"
            )
        assert all(path.is_socket() for path in local.paths.values())
        child.signal(signal.SIGTERM)
        assert child.status() == 0
        assert not any(os.path.lexists(path) for path in local.paths.values())


def test_another_server_cannot_take_the_admin_port(local: Local) -> None:
    options = ("--admin-port", "9095", *local.options("admin"))
    with Child(*options).ready() as first, Child(*options) as second:
        assert second.status() == 1
        last = second.stderr().splitlines()[-1]
        assert f"cannot listen on {local.host('admin')}: Address already in use; " in last
        assert local.is_healthy()
        assert first.process.poll() is None


def test_two_ports_need_two_paths(local: Local) -> None:
    path = local.host("client")
    with Child("--client-host", path, "--source-host", path) as child:
        assert child.status() == 2
        assert child.stderr() == (
            f"maze: --source-host and --client-host are both {path}: choose different paths\n"
        )
