"""Ingests, edges and a real Redis server, each of which may end at any time."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from end_to_end.peers import Client, broadcasts, joined, patience, until
from end_to_end.running import Child
from redis_server import RedisServer, free_port, running

from maze.core import Position
from maze.journal.journal import UnavailableError
from maze.pipeline.journal_store import open_store
from maze.settings.options import Settings
from simulator.cli import main as simulate

from .proxy import Proxy

FIRST, MORE = joined(broadcasts(1, 11)), joined(broadcasts(11, 21))
START = Position(1, 1)


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with running("--appendfsync", "everysec") as server:
        yield server


class House:
    """Processes that share a journal in Redis."""

    def __init__(self, redis: RedisServer, children: ExitStack) -> None:
        self._url = f"unix://{redis.path}"
        self._children = children

    def start(self, *arguments: str, lease: str = "500ms") -> Child:
        options = ("--journal", self._url, "--lease", lease, "--log-level", "debug")
        return self._children.enter_context(Child(*options, *arguments))

    def ingest(self, **how: Any) -> Child:
        child = self.start("--role", "ingest", **how)
        child.await_logged("ready")
        (line,) = child.logged("ready")
        child.source_address = (line["source_host"], line["source_port"])
        return child

    def standby(self, **how: Any) -> Child:
        child = self.start("--role", "ingest", **how)
        child.await_logged("lease_waits")
        return child

    def edge(self) -> Child:
        child = self.start("--role", "edge")
        child.await_logged("ready")
        (line,) = child.logged("ready")
        child.client_address = (line["client_host"], line["client_port"])
        return child

    def took_over(self, standby: Child) -> Child:
        standby.await_logged("ready")
        (line,) = standby.logged("ready")
        standby.source_address = (line["source_host"], line["source_port"])
        return standby


@pytest.fixture
def house(redis: RedisServer) -> Iterator[House]:
    with ExitStack() as children:
        yield House(redis, children)


def client_of(edge: Child) -> Client:
    client = edge.client(7)
    edge.await_logged("session_opened")
    return client


def test_edges_deliver_what_the_ingest_writes_to_redis(house: House) -> None:
    ingest, edges = house.ingest(), [house.edge(), house.edge()]
    clients = [client_of(edge) for edge in edges]
    ingest.source().send(b"2|F|1|7\n1|B\n4|P|1|7\n3|S|9\n")
    for client in clients:
        client.expect(b"1|B\n2|F|1|7\n4|P|1|7\n")


def test_a_standby_takes_over_when_the_ingest_is_killed(house: House) -> None:
    ingest, standby, edge = house.ingest(), house.standby(), house.edge()
    client = client_of(edge)
    ingest.source().send(FIRST)
    client.expect(FIRST)
    ingest.signal(signal.SIGKILL)
    house.took_over(standby).source().send(MORE)
    client.expect(MORE)


def test_an_ingest_that_stops_in_order_gives_the_lease_back(house: House) -> None:
    ingest, standby = house.ingest(lease="1h"), house.standby(lease="1h")
    ingest.signal(signal.SIGTERM)
    assert ingest.status() == 0
    house.took_over(standby)


@pytest.mark.parametrize("form", [("--role", "ingest"), ("--edges", "1")])
def test_a_standby_logs_where_its_admin_port_is(house: House, form: tuple[str, str]) -> None:
    ingest, standby = house.ingest(), house.start(*form, "--admin-port", "free")
    standby.await_logged("lease_waits")
    standby.await_logged("admin_ready")
    assert not standby.logged("ready")
    ingest.signal(signal.SIGTERM)
    standby.ready().signal(signal.SIGTERM)
    assert standby.status() == 0
    assert len(standby.logged("admin_ready")) == 1


def test_an_ingest_whose_lease_was_taken_ends(house: House) -> None:
    ingest, standby, edge = house.ingest(), house.standby(), house.edge()
    client = client_of(edge)
    source = ingest.source()
    source.send(FIRST)
    client.expect(FIRST)
    ingest.signal(signal.SIGSTOP)
    house.took_over(standby)
    source.send(joined(broadcasts(11, 12)))  # the former ingest reads it once it goes on
    ingest.signal(signal.SIGCONT)
    assert ingest.status() == 3
    (line,) = ingest.logged("journal_fenced")
    assert line["level"] == "critical"
    standby.source().send(MORE)
    client.expect(MORE)


def test_a_lease_is_renewed_although_a_connection_goes_silent() -> None:
    port = free_port()
    with running(port=port), Proxy(("127.0.0.1", port)) as proxy, patience("the renewals"):
        url = "redis://{}:{}".format(*proxy.address)
        store = open_store(Settings(journal=url, journal_timeout=3600.0, lease=1.0), START)
        lease = store.lease
        assert lease
        fence = lease.take()
        assert fence

        def is_renewed() -> bool:
            try:
                lease.renew(fence)
            except UnavailableError:
                return False
            return True

        until(is_renewed, "a renewal")
        proxy.silence()
        assert not is_renewed()
        until(is_renewed, "a renewal on another connection")
        store.close()


def test_everything_goes_on_when_redis_is_back(house: House, redis: RedisServer) -> None:
    ingest, edge = house.ingest(), house.edge()
    client, source = client_of(edge), ingest.source()
    source.send(FIRST)
    client.expect(FIRST)
    redis.kill()
    source.send(MORE)
    ingest.await_logged("journal_unavailable")
    edge.await_logged("feed_unavailable")
    redis.start()
    client.expect(MORE)
    ingest.await_logged("journal_available")
    edge.await_logged("feed_available")


@pytest.mark.parametrize("role", [("--role", "ingest"), ()])
def test_a_redis_that_keeps_nothing_is_refused(role: tuple[str, ...]) -> None:
    with running("--appendonly", "no") as redis, ExitStack() as children:
        child = House(redis, children).start(*role)
        assert child.status() == 1
        (line,) = child.stderr().splitlines()
    assert line.startswith("maze: unix://")
    assert line.endswith("keeps nothing on its disk: set appendonly to yes")


def test_every_client_gets_exactly_its_bytes_over_redis(redis: RedisServer) -> None:
    options = f"--edges 2 --journal unix://{redis.path} --lease 500ms --source-acks on"
    status = simulate(
        [
            *("--serve", "--resend", "--restart-server", "2", "--server-options", options),
            *("--total-events", "30000", "--concurrency-level", "20", "--resuming", "10"),
            *("--rate", "20000", "--random-seed", "3", "--timeout", "60000"),
        ]
    )
    assert status == 0


def test_edges_end_once_they_have_what_the_ingest_wrote(house: House) -> None:
    parent = house.start("--edges", "2", "--drain-timeout", "20s").ready()
    client = parent.client(7)
    until(lambda: bool(parent.logged("session_opened")), "the session")
    parent.source().send(FIRST)
    client.expect(FIRST)
    parent.signal(signal.SIGTERM)
    assert parent.status() == 0
    assert not parent.logged("events_not_routed")


def test_a_parent_drains_its_edges_after_the_ingest(house: House) -> None:
    parent = house.start("--edges", "2").ready()
    clients = parent.clients(range(12))
    sending = parent.source().send_in_background(joined(broadcasts(1, 300_001)))
    clients[0].read_line()
    parent.signal(signal.SIGTERM)
    assert len({client.read_until_closed()[-20:] for client in clients}) == 1
    assert parent.status() == 0
    sending.kill()
    until(lambda: len(parent.logged("stopped")) == 4, "all to say that they stop")
