"""A port that is a Unix socket."""

import os
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from gevent import socket as green

from maze.errors import ListenError
from maze.listener.listener import Listener
from maze.net.peer import UNIX_PEER, Address
from maze.settings.feed_address import feed_address
from maze.settings.options import Settings


@pytest.fixture(autouse=True)
def _bounded() -> Iterator[None]:
    with gevent.Timeout(30.0):
        yield


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "feed")


def never(event: str, **details: object) -> None:
    raise AssertionError(f"{event}: {details}")


def tell_the_address(sock: green.socket, address: Address) -> None:
    sock.sendall(repr(address).encode())


def listener(path: str) -> Listener:
    port = Settings(feed=feed_address(f"unix:{path}")).feed_port
    return Listener(port, tell_the_address, backlog=5, fail=never, peer_timeout=5.0)


def connect(path: str) -> green.socket:
    sock = green.socket(green.AF_UNIX)
    sock.connect(path)
    return sock


def test_it_serves_and_removes_its_file_when_it_is_closed(path: str) -> None:
    port = listener(path)
    port.open()
    assert port.endpoint == (f"unix:{path}", 0)
    with connect(path) as sock:
        assert sock.recv(100) == repr(UNIX_PEER).encode()
    port.close()
    assert not os.path.lexists(path)
    port.close()


def test_the_file_of_another_process_stays(path: str) -> None:
    port = listener(path)
    port.open()
    other = listener(path)
    with pytest.raises(ListenError) as error:
        other.open()
    assert str(error.value) == (
        f"cannot listen on unix:{path}: Address already in use; --feed chooses another address"
    )
    other.close()
    with connect(path) as sock:
        assert sock.recv(100)
    port.close()


def test_a_path_that_is_too_long_is_said_to_be(path: str) -> None:
    path += "n" * 108
    with pytest.raises(ListenError) as error:
        listener(path).open()
    assert str(error.value) == (
        f"cannot listen on unix:{path}: AF_UNIX path too long; --feed chooses another address"
    )
