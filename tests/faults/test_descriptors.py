"""File descriptors run out, before the start and while the server runs."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path

import gevent
import pytest
from end_to_end.peers import Client, Source
from end_to_end.running import Child

from .wrapped import wrap_servers

Serve = Callable[..., Child]

needs_prlimit = pytest.mark.skipif(
    not hasattr(resource, "prlimit"), reason="only Linux can change another process's limits"
)


def test_limit_at_the_start_lowers_max_clients_and_the_surplus_is_refused(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wrap_servers(monkeypatch, tmp_path, "ulimit -n 100; exec")
    child = serve()
    (line,) = child.logged("max_clients_lowered")
    most = 100 - 64 - 2
    assert (line["descriptor_limit"], line["max_clients"], line["wanted"]) == (100, most, 10_000)
    clients = child.clients(range(most))
    for _ in range(100):
        surplus = Client(child.client_address)
        surplus.expect_closed()
        surplus.close()
    assert child.logged("accepting_paused") == []
    child.source().send(b"1|B\n")
    for client in clients:
        client.expect(b"1|B\n")


class Scarcity:
    """Limits a server to the descriptors that it has."""

    def __init__(self, child: Child) -> None:
        self._process = child.process.pid
        self._before = resource.prlimit(self._process, resource.RLIMIT_NOFILE)

    def begin(self, spare: int = 0) -> None:
        """Let the server open ``spare`` more descriptors, or a few more if numbers are unused."""
        # The system gives a new descriptor the lowest free number, which must be below the limit.
        numbers = (int(path.name) for path in Path(f"/proc/{self._process}/fd").iterdir())
        limit = (max(numbers) + 1 + spare, self._before[1])
        resource.prlimit(self._process, resource.RLIMIT_NOFILE, limit)

    def end(self) -> None:
        resource.prlimit(self._process, resource.RLIMIT_NOFILE, self._before)


@needs_prlimit
def test_accepting_pauses_and_resumes_while_connected_peers_are_served(serve: Serve) -> None:
    child = serve()
    clients = child.clients(range(20))
    source = child.source()
    child.await_logged("source_connected")
    scarcity = Scarcity(child)
    scarcity.begin(spare=5)
    begin = time.monotonic()
    late = [child.client(user) for user in range(100, 130)]
    child.await_logged("session_opened", 20 + 5)
    child.await_logged("accepting_paused")
    sequence = 0
    while len(child.logged("accepting_paused")) < 3:
        sequence += 1
        source.send(b"%d|B\n" % sequence)
        for client in clients:
            client.expect(b"%d|B\n" % sequence)
        gevent.sleep(0.01)
    assert len(child.logged("session_opened")) == 25
    seconds = time.monotonic() - begin
    assert len(child.logged("accepting_paused")) <= 1 + seconds, "more than one line a second"
    scarcity.end()
    child.await_logged("session_opened", 20 + 30)
    source.send(b"%d|P|1|129\n" % (sequence + 1))
    late[-1].expect(b"%d|P|1|129\n" % (sequence + 1))


@needs_prlimit
def test_descriptor_that_a_client_leaves_is_taken_by_one_that_waits(serve: Serve) -> None:
    child = serve()
    leaving = child.clients(range(5))
    scarcity = Scarcity(child)
    scarcity.begin()
    waiting = [child.client(user) for user in range(10, 15)]
    child.await_logged("accepting_paused")
    for count, client in enumerate(leaving, start=1):
        client.close()
        child.await_logged("session_opened", 5 + count)
    scarcity.end()
    child.source().send(b"1|B\n")
    for client in waiting:
        client.expect(b"1|B\n")


@needs_prlimit
def test_source_that_waits_for_a_descriptor_is_served_once_there_is_one(serve: Serve) -> None:
    child = serve()
    (client,) = child.clients([1])
    scarcity = Scarcity(child)
    scarcity.begin()
    source = Source(child.source_address)
    source.send(b"1|B\n")
    child.await_logged("accepting_paused")
    assert [line["port"] for line in child.logged("accepting_paused")] == ["source"]
    scarcity.end()
    client.expect(b"1|B\n")
    source.close()


@needs_prlimit
def test_server_without_a_descriptor_left_still_drains() -> None:
    with Child("--log-level", "debug").ready() as child:
        clients = child.clients(range(3))
        Scarcity(child).begin()
        peer = Client(child.client_address)
        child.await_logged("accepting_paused")
        child.process.terminate()
        assert child.status() == 0
        for client in clients:
            client.expect_closed()
        peer.close()
        assert "Traceback" not in child.stderr()
