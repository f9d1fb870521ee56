"""Accepting connections, on free loopback ports."""

import errno
import os
import socket as system
import sys
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent import socket as green
from gevent.event import Event
from gevent.server import StreamServer
from structlog.testing import capture_logs

from maze.errors import ListenError
from maze.listener import listener as listener_module
from maze.listener.listener import Listener, probe_silent_peer
from maze.log.processors import RateLimit
from maze.net.peer import Address, peer_name
from maze.net.sockets import current_greenlet
from maze.settings.options import Settings

PATIENCE = 30.0
Start = Callable[..., Listener]


@pytest.fixture(autouse=True)
def _bounded() -> Iterator[None]:
    with gevent.Timeout(PATIENCE):
        yield


@pytest.fixture
def start() -> Iterator[Start]:
    """Start listeners that send ``hello`` to each peer; close them after the test."""
    running: list[Listener] = []

    def start_one(**options: Any) -> Listener:
        options = dict[str, Any](fail=never, backlog=5) | options
        running.append(Listener(Settings(client_port=0).client, greet, **options))
        running[-1].start()
        return running[-1]

    yield start_one
    for listener in running:
        listener.close()


def never(event: str, **details: object) -> None:
    raise AssertionError(f"{event}: {details}")


def greet(sock: green.socket, _: Address) -> None:
    """Send ``hello``, then wait until the peer closes the connection."""
    sock.sendall(b"hello")
    sock.recv(1)


def connect(server: Listener) -> green.socket:
    return green.create_connection((server.server_host, server.server_port))


class OneConnection:
    """A limit of one connection at a time."""

    def __init__(self) -> None:
        self.taken: list[green.socket] = []

    def acquire(self, sock: green.socket, _: Address) -> bool:
        if self.taken:
            return False
        self.taken.append(sock)
        return True

    def release(self, sock: green.socket) -> None:
        self.taken.remove(sock)


def test_a_connection_beyond_the_limit_is_closed_at_once_and_unserved(start: Start) -> None:
    limits = OneConnection()
    server = start(limits=limits)
    with connect(server) as first:
        assert first.recv(5) == b"hello"
        with connect(server) as second:
            assert second.recv(5) == b""
        assert [sock.getpeername() for sock in limits.taken] == [first.getsockname()]
    while limits.taken:
        gevent.sleep(0)
    with connect(server) as third:
        assert third.recv(5) == b"hello"


def test_a_connection_is_released_even_if_serving_fails(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = OneConnection()
    server = start(limits=limits)
    monkeypatch.setattr(gevent.get_hub(), "handle_error", lambda *_: None)

    def fail(*_: object) -> None:
        raise RuntimeError

    server.set_handle(fail)
    with connect(server) as first:
        assert first.recv(5) == b""
    assert limits.taken == []


def test_other_greenlets_run_while_many_peers_connect(start: Start) -> None:
    """If a turn of the event loop accepted too many, connected peers would wait."""
    server = start(backlog=100)
    served: list[Address] = []
    server.set_handle(lambda _, address: served.append(address))
    server.stop_accepting()
    peers = [connect(server) for _ in range(80)]
    server.start_accepting()
    between, before = [], 0
    while len(served) < len(peers):
        gevent.sleep(0)
        between.append(len(served) - before)
        before = len(served)
    assert max(between) <= 10
    for peer in peers:
        peer.close()


class Accept:
    """Makes the next accepts fail, one with each of the error numbers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
        self.numbers = list(numbers)
        real = StreamServer.do_read

        def do_read(server: StreamServer) -> Any:
            if self.numbers:
                number = self.numbers.pop(0)
                raise OSError(number, os.strerror(number))
            return real(server)

        monkeypatch.setattr(StreamServer, "do_read", do_read)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_without_descriptors_accepting_pauses_and_resumes(
    start: Start, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], number: int
) -> None:
    monkeypatch.setattr(listener_module, "PAUSE_SECONDS", 0.01)
    accept = Accept(monkeypatch, number, number, number)
    server = start()
    limit = RateLimit(clock=lambda: 1000.0)
    with capture_logs([limit]) as entries, connect(server) as client:
        assert client.recv(5) == b"hello"
    assert accept.numbers == []
    assert server.pauses == 3
    assert entries == [
        {
            "event": "accepting_paused",
            "log_level": "warning",
            "port": "client",
            "error": os.strerror(number),
        }
    ]
    assert capfd.readouterr().err == ""


def test_a_pause_is_logged_at_most_once_a_second(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(listener_module, "PAUSE_SECONDS", 0.01)
    server = start()
    with capture_logs([RateLimit(clock=lambda: now)]) as entries:
        for _ in range(2):
            Accept(monkeypatch, errno.EMFILE, errno.EMFILE)
            with connect(server) as client:
                assert client.recv(5) == b"hello"
            now += 1
    assert [entry.get("suppressed") for entry in entries] == [None, 1]


def test_a_paused_listener_does_not_try_to_accept(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "PAUSE_SECONDS", 0.05)
    accept = Accept(monkeypatch, *[errno.EMFILE] * 1_000)
    with connect(start()):
        gevent.sleep(0.12)
    assert len(accept.numbers) >= 1_000 - 3


def test_a_listener_closed_during_a_pause_stays_closed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "PAUSE_SECONDS", 0.01)
    accept = Accept(monkeypatch, errno.EMFILE)
    server = start()
    with connect(server):
        while accept.numbers:
            gevent.sleep(0)
        server.close()
        gevent.sleep(0.03)
    assert server._watcher is None  # type: ignore[attr-defined]


def test_a_connection_that_breaks_before_it_is_accepted_is_a_line_at_debug(
    start: Start, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    Accept(monkeypatch, errno.ECONNABORTED)
    with capture_logs() as entries, connect(start()) as client:
        assert client.recv(5) == b"hello"
    assert [(entry["event"], entry["log_level"]) for entry in entries] == [
        ("accept_failed", "debug")
    ]
    assert capfd.readouterr().err == ""


def test_a_broken_port_fails_the_server_once(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    accept = Accept(monkeypatch, *[errno.EBADF] * 1_000)
    failures: list[tuple[str, object, type[BaseException] | None]] = []

    def fail(event: str, port: str) -> None:
        failures.append((event, port, sys.exc_info()[0]))

    with connect(start(fail=fail)):
        while not failures:
            gevent.sleep(0)
        for _ in range(3):  # in each turn the event loop would accept again
            gevent.sleep(0.001)
    assert failures == [("port_failed", "client", OSError)]
    assert len(accept.numbers) == 999, "it was tried again"


@pytest.mark.skipif(not hasattr(system, "TCP_USER_TIMEOUT"), reason="only Linux has it")
def test_a_silent_peer_is_probed_within_the_time(start: Start) -> None:
    with connect(start()) as sock:
        probe_silent_peer(sock, 45.0)
        assert sock.getsockopt(system.SOL_SOCKET, system.SO_KEEPALIVE) == 1
        idle, interval, count, user_timeout = (
            sock.getsockopt(system.IPPROTO_TCP, getattr(system, name))
            for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
        )
        assert (idle, interval, count, user_timeout) == (22, 7, 3, 45_000)
        assert idle + (count + 1) * interval < 60, "not detected within a minute"


@pytest.mark.skipif(not hasattr(system, "TCP_USER_TIMEOUT"), reason="only Linux has it")
@pytest.mark.parametrize("seconds", [1.0, 3.0, 24 * 3600.0 + 5])
def test_the_system_takes_any_time_that_the_options_allow(start: Start, seconds: float) -> None:
    with connect(start()) as sock:
        probe_silent_peer(sock, seconds)
        user_timeout = sock.getsockopt(system.IPPROTO_TCP, system.TCP_USER_TIMEOUT)
        assert user_timeout == seconds * 1000


def test_where_the_system_lacks_an_option_it_is_left_out(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TCP_KEEPIDLE", "TCP_USER_TIMEOUT"):
        monkeypatch.delattr(system, name, raising=False)
    with connect(start()) as sock:
        probe_silent_peer(sock, 45.0)
        assert sock.getsockopt(system.SOL_SOCKET, system.SO_KEEPALIVE) == 1


def test_probing_a_closed_connection_is_no_error(start: Start) -> None:
    with connect(start()) as sock:
        sock.close()
        probe_silent_peer(sock, 45.0)


def test_every_connection_is_probed_if_there_is_a_peer_timeout(start: Start) -> None:
    served: list[int] = []

    def look(sock: green.socket, _: Address) -> None:
        served.append(sock.getsockopt(system.SOL_SOCKET, system.SO_KEEPALIVE))

    for options in ({}, {"peer_timeout": 45.0}):
        server = start(**options)
        server.set_handle(look)
        with connect(server) as client:
            client.recv(1)
    assert served == [0, 1]


def test_the_endpoint_has_the_port_that_the_system_chose() -> None:
    port = Listener(Settings(source_port=0).source, greet, backlog=5, fail=never)
    port.open()
    host, number = port.endpoint
    assert host == "127.0.0.1"
    assert number > 0
    port.close()


def test_a_port_has_a_greenlet_for_each_connection() -> None:
    seen: list[tuple[gevent.Greenlet[..., object], str]] = []
    both = Event()

    def handle(sock: green.socket, address: Address) -> None:
        seen.append((current_greenlet(), peer_name(address)))
        if len(seen) == 2:
            both.set()

    port = Listener(Settings(source_port=0).source, handle, backlog=5, fail=never)
    port.open()
    with (
        green.create_connection(port.endpoint) as one,
        green.create_connection(port.endpoint) as two,
    ):
        assert both.wait(PATIENCE)
        assert {name for _, name in seen} == {
            peer_name(one.getsockname()),
            peer_name(two.getsockname()),
        }
    assert len({id(greenlet) for greenlet, _ in seen} | {id(current_greenlet())}) == 3
    port.close()


def test_a_port_that_is_closed_accepts_no_more() -> None:
    port = Listener(Settings(source_port=0).source, greet, backlog=5, fail=never)
    port.open()
    address = port.endpoint
    port.close()
    with pytest.raises(ConnectionRefusedError):
        green.create_connection(address)


def test_a_port_in_use_is_an_error_that_says_which_and_what_to_do() -> None:
    with system.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        port = Listener(Settings(client_port=number).client, greet, backlog=5, fail=never)
        with pytest.raises(ListenError) as error:
            port.open()
    message = str(error.value)
    assert message.startswith(f"cannot listen on 127.0.0.1 port {number}: ")
    assert "in use" in message
    assert message.endswith("--client-host and --client-port choose another address")
    assert len(message.splitlines()) == 1
