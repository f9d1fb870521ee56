"""From one process to edges to Redis, as docs/scaling.md says: nobody loses an event on the way."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path

import pytest
from end_to_end.running import Child
from redis_server import RedisServer, running

from maze.journal.__main__ import main
from simulator.play.connecting import Address
from simulator.stream.workload import Workload

from .staged_play import StagedPlay, Steps

CLIENTS = 20
EVENTS = 20_000


class Journey:
    """The servers of each part of the way, all with the same journal."""

    def __init__(self, folder: Path, redis: RedisServer, children: ExitStack) -> None:
        self.file = str(folder / "journal")
        self.url = f"unix://{redis.path}"
        self.feed = f"unix:{folder / 'feed'}"
        self._children = children
        self._parts = 0
        self.servers: list[Child] = []
        """Those that run now; the one with the source port is the first."""

    def start(self, *options: str) -> Child:
        """Start a server that takes part from now on."""
        child = self._children.enter_context(Child("--log-level", "debug", *options))
        self.servers.append(child)
        return child

    def writing(self, place: str) -> tuple[str, ...]:
        # Many snapshots, and little in memory: clients are served from the journal, too.
        few = ("--snapshot-events", "1000", "--resume-events", "100")
        return ("--journal", place, "--source-acks", "on", *few)

    def use(self, play: StagedPlay) -> Steps:
        """Wait until all servers are ready; send clients and source there."""
        for server in self.servers:
            yield from play.until_ready(server)
        play.addresses = cycle(self.addresses())
        self._parts += 1
        yield from play.until_resumes(self._parts * CLIENTS)

    def addresses(self) -> list[Address]:
        """Return the addresses of the source port and of each client port."""
        host, source = self.servers[0].source_address
        ports = {server.client_address[1] for server in self.servers} - {0}
        return [Address(host, source, port) for port in sorted(ports)]

    def stop(self, play: StagedPlay) -> Steps:
        """Stop all servers in order, the one with the sources first."""
        play.addresses = None
        for server in self.servers:
            server.signal(signal.SIGTERM)
            yield from play.until_ended(server)
        self.servers = []

    def steps(self, play: StagedPlay) -> Steps:
        yield from play.until_share(0.15)
        yield from self.stop(play)
        self.start("--edges", "2", *self.writing(self.file))
        yield from self.use(play)

        yield from play.until_share(0.4)
        yield from self.stop(play)
        self.start("--role", "ingest", "--feed", self.feed, *self.writing(self.file))
        for _ in range(2):
            self.start("--role", "edge", "--feed", self.feed)
        yield from self.use(play)

        yield from play.until_share(0.65)
        yield from self.stop(play)
        assert main(["copy", self.file, self.url]) == 0
        self.start("--role", "ingest", *self.writing(self.url))
        for _ in range(2):
            self.start("--role", "edge", "--journal", self.url)
        yield from self.use(play)


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with running("--appendfsync", "always") as server:
        yield server


def test_clients_and_source_go_the_whole_way(tmp_path: Path, redis: RedisServer) -> None:
    workload = Workload(EVENTS, clients=CLIENTS, users=100, mix=(3, 2, 0.1, 2, 3))
    with ExitStack() as children:
        journey = Journey(tmp_path, redis, children)
        journey.start(*journey.writing(journey.file)).ready()
        (address,) = journey.addresses()
        play = StagedPlay(address, workload, journey.steps).play()
        play.check()
        assert play.resumes == 3 * CLIENTS
        assert play.reconnects == 3
        assert main(["check", journey.url]) == 0
