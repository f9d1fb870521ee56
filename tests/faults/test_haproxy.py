"""Clients and sources behind HAProxy, with the configuration in ``deploy``."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from end_to_end.running import Child
from redis_server import free_port, running

from maze.net.peer import peer_name
from simulator.play.connecting import Address
from simulator.stream.workload import Workload

from .haproxy import HAProxy, Ports
from .staged_play import StagedPlay, Steps

CLIENTS = 30
TOKEN = {"MAZE_ADMIN_TOKEN": "0123456789abcdef"}
"""The checks do not present it."""

Start = Callable[..., Child]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start servers of a role on given ports."""
    with ExitStack() as children:

        def start_one(role: str, ports: Ports, *options: str) -> Child:
            both = (ports.own, 0) if role == "ingest" else (0, ports.own)
            options = ("--role", role, "--admin-port", str(ports.admin), *options)
            child = Child("--log-level", "debug", *options, ports=both, environment=TOKEN)
            return children.enter_context(child)

        yield start_one


def play(haproxy: HAProxy, events: int, steps: Callable[[StagedPlay], Steps]) -> StagedPlay:
    workload = Workload(events, clients=CLIENTS, users=100, mix=(3, 2, 0.1, 2, 3))
    address = Address("127.0.0.1", haproxy.source_port, haproxy.client_port)
    played = StagedPlay(address, workload, steps).play()
    played.check()
    return played


def through(port: int) -> socket.socket:
    """Connect to HAProxy from an address that HAProxy itself does not use."""
    return socket.create_connection(
        ("127.0.0.1", port), timeout=30.0, source_address=("127.0.0.2", 0)
    )


@pytest.mark.parametrize(
    "option", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options unique-id"]
)
def test_peers_behind_haproxy_are_at_their_own_addresses(tmp_path: Path, option: str) -> None:
    """docs/operations.md, "Behind a proxy"."""
    client_port, source_port, admin_port = free_port(), free_port(), free_port()
    servers = {
        "edge-1": Ports(client_port, admin_port),
        "ingest-1": Ports(source_port, admin_port),
    }
    own = ("--log-level", "debug", "--admin-port", str(admin_port))
    behind = ("--proxy-from", "127.0.0.1", "--max-clients-per-address", "1")
    ranges = ("--allow-client", "127.0.0.2", "--allow-source", "127.0.0.2")
    with (
        Child(*own, *behind, *ranges, ports=(source_port, client_port)).ready() as server,
        HAProxy(tmp_path, servers, server_option=option) as haproxy,
        through(haproxy.client_port) as client,
    ):
        client.sendall(b"7\n")
        server.await_logged("session_opened")
        with through(haproxy.source_port) as source:
            source.sendall(b"1|P|9|7\n")
            assert client.recv(100) == b"1|P|9|7\n"
            server.await_logged("source_connected")
            (opened,), (connected,) = map(server.logged, ("session_opened", "source_connected"))
            assert opened["client"] == peer_name(client.getsockname())
            assert connected["source"] == peer_name(source.getsockname())
        with through(haproxy.client_port) as second:
            assert second.recv(1) == b""
            server.await_logged("client_refused")
        assert server.logged("client_refused")[0]["reason"] == "max_clients_per_address"


def test_the_clients_of_an_edge_that_stops_go_on_at_another(start: Start, tmp_path: Path) -> None:
    ports = {name: Ports.free() for name in ("ingest-1", "edge-1", "edge-2")}
    feed = ("--feed", f"unix:{tmp_path / 'feed'}")
    journal = ("--journal", str(tmp_path / "journal"), "--source-acks", "on")
    servers = {
        name: start(name[:-2], ports[name], *feed, *(journal if name == "ingest-1" else ()))
        for name in ports
    }
    for server in servers.values():
        server.await_logged("ready")
    opened = [servers[name].logged for name in ("edge-1", "edge-2")]
    had: list[int] = []

    def steps(play: StagedPlay) -> Steps:
        yield from play.until_share(0.3)
        had.extend(len(logged("session_opened")) for logged in opened)
        servers["edge-1"].signal(signal.SIGTERM)
        yield from play.until_ended(servers["edge-1"])
        yield from play.until_resumes(CLIENTS // 2)

    with HAProxy(tmp_path, ports) as haproxy:
        played = play(haproxy, 20_000, steps)
    assert had == [CLIENTS / 2, CLIENTS / 2]  # leastconn
    assert played.resumes == CLIENTS / 2
    assert len(opened[1]("session_opened")) == CLIENTS


def test_everything_is_replaced_one_by_one_without_a_loss(start: Start, tmp_path: Path) -> None:
    """The upgrade of docs/scaling.md: each edge, then the ingest, whose standby takes over."""
    ports = {name: Ports.free() for name in ("ingest-1", "ingest-2", "edge-1", "edge-2")}
    with running("--appendfsync", "everysec") as redis:
        options = ("--journal", f"unix://{redis.path}")
        writing = (*options, "--source-acks", "on")
        ingest = start("ingest", ports["ingest-1"], *writing)
        ingest.await_logged("ready")
        standby = start("ingest", ports["ingest-2"], *writing)
        edges = {name: start("edge", ports[name], *options) for name in ("edge-1", "edge-2")}
        standby.await_logged("lease_waits")
        for edge in edges.values():
            edge.await_logged("ready")

        def steps(play: StagedPlay) -> Steps:
            # The first edge has half of the clients, then the second one has all of them.
            for share, name, resumes in ((0.1, "edge-1", 0.5), (0.4, "edge-2", 1.5)):
                yield from play.until_share(share)
                edges[name].signal(signal.SIGTERM)
                yield from play.until_ended(edges[name])
                edges[name] = start("edge", ports[name], *options)
                yield from play.until_ready(edges[name])
                yield from play.until_resumes(int(resumes * CLIENTS))
            yield from play.until_share(0.7)
            ingest.signal(signal.SIGTERM)
            yield from play.until_ended(ingest)
            yield from play.until_ready(standby)

        with HAProxy(tmp_path, ports) as haproxy:
            played = play(haproxy, 30_000, steps)
    assert played.reconnects >= 1


def test_the_sources_of_an_ingest_that_hangs_go_on_at_the_standby(
    start: Start, tmp_path: Path
) -> None:
    ports = {name: Ports.free() for name in ("ingest-1", "ingest-2", "edge-1")}
    with running("--appendfsync", "everysec") as redis:
        options = ("--journal", f"unix://{redis.path}")
        writing = (*options, "--source-acks", "on", "--lease", "500ms")
        ingest = start("ingest", ports["ingest-1"], *writing)
        ingest.await_logged("ready")
        standby = start("ingest", ports["ingest-2"], *writing)
        standby.await_logged("lease_waits")
        start("edge", ports["edge-1"], *options).await_logged("ready")

        def steps(play: StagedPlay) -> Steps:
            yield from play.until_share(0.3)
            ingest.signal(signal.SIGSTOP)
            yield from play.until_ready(standby)

        with HAProxy(tmp_path, ports, check_timeout="300ms") as haproxy:
            played = play(haproxy, 20_000, steps)
    assert played.reconnects >= 1
