"""Queries of sockets, on loopback connections."""

import errno
import os
import select
import socket
import struct
from collections.abc import Iterator

import gevent
import pytest
from gevent import socket as green

from maze.net.peer import UNIX_PEER, Address, Peer, peer_name
from maze.net.sockets import has_vanished, is_broken, peer_has_closed

PATIENCE = 30.0
Pair = tuple[green.socket, green.socket]


@pytest.fixture(autouse=True)
def _bounded() -> Iterator[None]:
    with gevent.Timeout(PATIENCE):
        yield


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Return both ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = green.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        far = green.socket(accepted.family, accepted.type, fileno=accepted.detach())
    with near, far:
        yield near, far


def wait_for_the_end(sock: green.socket) -> None:
    """Wait until the peer's FIN has arrived, even if unread bytes precede it."""
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLRDHUP)
    assert poll.poll(PATIENCE * 1000)


def wait_until_broken(sock: green.socket) -> None:
    """Wait until the peer's reset has arrived."""
    poll = select.poll()
    poll.register(sock.fileno(), 0)  # errors are always reported
    assert poll.poll(PATIENCE * 1000)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (("127.0.0.1", 9090), "127.0.0.1:9090"),
        (("::1", 9090, 0, 0), "[::1]:9090"),
        (("fe80::1%eth0", 1, 0, 2), "[fe80::1%eth0]:1"),
        (("::ffff:192.0.2.1", 1, 0, 0), "[::ffff:192.0.2.1]:1"),
        (UNIX_PEER, "unix"),
    ],
)
def test_a_peer_is_named_by_host_and_port(address: Address, name: str) -> None:
    assert peer_name(address) == name


def test_a_peer_at_another_address_is_the_same_connection() -> None:
    peer = Peer(("10.0.0.1", 1))
    real = peer.at(("192.0.2.7", 2))
    assert (real, real.connection) == ("192.0.2.7:2", peer.connection)


def test_an_open_peer_has_not_closed(pair: Pair) -> None:
    near, far = pair
    assert not peer_has_closed(near)
    far.sendall(b"1|B\n")
    green.wait_read(near.fileno(), PATIENCE)
    assert not peer_has_closed(near)


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="only Linux has it")
def test_a_peer_that_has_shut_down_its_side_has_closed(pair: Pair) -> None:
    near, far = pair
    far.shutdown(socket.SHUT_WR)
    wait_for_the_end(near)
    assert peer_has_closed(near)


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="only Linux has it")
def test_a_peer_has_closed_even_if_its_bytes_are_unread(pair: Pair) -> None:
    near, far = pair
    far.sendall(b"1|B\n")
    far.shutdown(socket.SHUT_WR)
    wait_for_the_end(near)
    assert peer_has_closed(near)
    assert near.recv(100) == b"1|B\n"


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="only Linux has it")
def test_only_a_connection_that_was_reset_is_broken(pair: Pair) -> None:
    near, far = pair
    assert not is_broken(near)
    far.sendall(b"1|B\n")
    far.shutdown(socket.SHUT_WR)
    wait_for_the_end(near)
    assert not is_broken(near)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.close()
    wait_until_broken(near)
    assert is_broken(near)


def test_a_socket_that_is_closed_here_counts_as_closed_and_broken(pair: Pair) -> None:
    near, _ = pair
    near.close()
    assert peer_has_closed(near) == is_broken(near) == hasattr(socket, "TCP_INFO")


def test_without_tcp_info_no_peer_has_closed(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "TCP_INFO", raising=False)
    near, far = pair
    far.close()
    green.wait_read(near.fileno(), PATIENCE)
    assert not peer_has_closed(near)
    assert not is_broken(near)


@pytest.mark.parametrize(
    ("number", "vanished"),
    [
        (errno.ETIMEDOUT, True),
        (errno.EHOSTUNREACH, True),
        (errno.ENETUNREACH, True),
        (errno.ECONNRESET, False),
        (errno.EPIPE, False),
    ],
)
def test_a_vanished_peer_is_distinguished_from_a_reset(number: int, vanished: bool) -> None:
    assert has_vanished(OSError(number, os.strerror(number))) == vanished


def test_a_timeout_of_our_own_is_not_a_vanished_peer(pair: Pair) -> None:
    near, _ = pair
    near.settimeout(0.001)
    with pytest.raises(TimeoutError) as error:
        near.recv(1)
    assert not has_vanished(error.value)


@pytest.fixture
def local_pair() -> Iterator[Pair]:
    """Return both ends of a connection on a Unix socket."""
    near, far = green.socketpair()
    with near, far:
        yield near, far


@pytest.mark.skipif(not hasattr(select, "POLLRDHUP"), reason="only Linux has it")
def test_a_peer_on_a_unix_socket_that_has_shut_down_its_side_has_closed(local_pair: Pair) -> None:
    near, far = local_pair
    far.sendall(b"1|B\n")
    assert not peer_has_closed(near)
    far.shutdown(socket.SHUT_WR)
    assert peer_has_closed(near)
    far.close()
    assert peer_has_closed(near)
    assert not is_broken(near)
    near.close()
    assert peer_has_closed(near)


def test_a_peer_on_a_unix_socket_that_leaves_bytes_unread_has_reset(local_pair: Pair) -> None:
    near, far = local_pair
    near.sendall(b"1|B\n")
    assert not is_broken(near)
    far.close()
    assert is_broken(near)
