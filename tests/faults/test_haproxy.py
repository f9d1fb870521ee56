"""Clients and sources behind HAProxy, with the configuration in ``deploy``."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from end_to_end.running import Child
from redis_server import running

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
