"""Connecting sources and clients, and the limit of open files."""

import resource
import socket

import pytest
from running import client_of

from simulator.errors import ConnectError
from simulator.play.connecting import Address, connect_clients, connect_sources

pytestmark = pytest.mark.realtime


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with (
        pytest.raises(ConnectError, match=rf"at 127\.0\.0\.1:{port} .*python -m maze\.serve"),
        connect_clients(Address("127.0.0.1", port, port), [1]),
    ):
        pytest.fail("connected to nobody")


def test_what_is_small_is_sent_at_once() -> None:
    # An id behind the end of TLS's handshake would wait for an acknowledgement.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        address = Address("127.0.0.1", port, port)
        with connect_sources(address, 2) as sources, connect_clients(address, [1, 2]) as clients:
            for connection in (*sources, *clients):
                assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


class ThrownOut(socket.socket):
    """A connection that is reset as soon as it is there."""

    def connect(self, address: object, /) -> None:
        raise ConnectionResetError(104, "Connection reset by peer")


def test_a_server_that_resets_at_once_is_left_to_the_verdict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "socket", ThrownOut)
    with connect_clients(Address("127.0.0.1", 9, 9), [1]) as (connection,):
        client = client_of(connection, b"1|B\n")
        assert client.read() == 0
        assert client.closed_by is not None
        assert client.closed_by.startswith("connection reset by the server")


@pytest.mark.parametrize(
    ("soft", "hard", "wanted"),
    [
        (10, 4096, [(65, 4096)]),
        (10, resource.RLIM_INFINITY, [(65, resource.RLIM_INFINITY)]),
        (4096, 4096, []),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, []),
    ],
)
def test_the_limit_of_open_files_is_raised_if_needed(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, wanted: list[tuple[int, int]]
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _what, both: asked.append(both))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with connect_clients(Address("127.0.0.1", port, port), [1]):
            assert asked == wanted


def test_too_many_clients_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (10, 20))
    with (
        pytest.raises(ConnectError, match="65 open files are needed, but the limit is 20"),
        connect_clients(Address("127.0.0.1", 9, 9), [1]),
    ):
        pytest.fail("connected all the same")
