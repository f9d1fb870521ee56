"""Sockets that a supervisor passes on: who takes them, and what is wrong with others."""

import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from maze.errors import SettingsError
from maze.process import socket_activation
from maze.process.socket_activation import take_sockets
from maze.settings.options import Settings

FIRST = 500
"""In place of the first descriptor, which this process uses for something else."""

HOW_TO_NAME = "set FileDescriptorName= in the .socket unit to source, client or admin"

Pass = Callable[..., dict[str, str]]


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pass]:
    """Pass sockets, and return the variables about them."""
    monkeypatch.setattr(socket_activation, "FIRST_DESCRIPTOR", FIRST)
    with ExitStack() as descriptors:

        def passed_as(names: str, *sockets: socket.socket | int) -> dict[str, str]:
            for number, sock in enumerate(sockets, FIRST):
                own = sock if isinstance(sock, int) else sock.fileno()
                assert fcntl.fcntl(own, fcntl.F_DUPFD, number) == number
                descriptors.callback(os.close, number)
            return {
                "LISTEN_PID": str(os.getpid()),
                "LISTEN_FDS": str(len(sockets)),
                "LISTEN_FDNAMES": names,
                "HOME": "/",
            }

        yield passed_as


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def refusal(environment: dict[str, str], **settings: Any) -> str:
    with pytest.raises(SettingsError) as error:
        take_sockets(environment, Settings(**settings))
    assert error.value.status == 2
    assert "LISTEN_PID" not in environment
    return str(error.value)


def test_sockets_are_taken_by_their_names(passed: Pass, listening: socket.socket) -> None:
    environment = passed("client:admin:source", *[listening] * 3)
    assert take_sockets(environment, Settings()) == {
        "client": FIRST,
        "admin": FIRST + 1,
        "source": FIRST + 2,
    }
    assert environment == {"HOME": "/"}
    assert not os.get_inheritable(FIRST)
    assert listening.fileno() >= 0


@pytest.mark.parametrize("family", [socket.AF_INET6, socket.AF_UNIX])
def test_a_socket_of_any_family_is_taken(passed: Pass, tmp_path: Any, family: int) -> None:
    with socket.socket(family) as sock:
        sock.bind(str(tmp_path / "client") if family == socket.AF_UNIX else ("::1", 0))
        sock.listen()
        assert take_sockets(passed("client", sock), Settings()) == {"client": FIRST}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "client"},
        {"LISTEN_FDS": "1"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"},
    ],
)
def test_sockets_of_nobody_or_of_another_process_are_none(environment: dict[str, str]) -> None:
    assert take_sockets(environment, Settings()) == {}
    assert environment == {}


def test_sockets_without_names_are_refused(passed: Pass, listening: socket.socket) -> None:
    message = f"LISTEN_FDS is 1, but LISTEN_FDNAMES has 0 names: {HOW_TO_NAME}"
    assert refusal(passed("", listening)) == message


def test_too_many_names_are_refused(passed: Pass, listening: socket.socket) -> None:
    message = f"LISTEN_FDS is 1, but LISTEN_FDNAMES has 2 names: {HOW_TO_NAME}"
    assert refusal(passed("source:client", listening)) == message


@pytest.mark.parametrize("name", ["follower-maze.socket", "unknown", "feed", "Client"])
def test_other_names_are_refused(passed: Pass, listening: socket.socket, name: str) -> None:
    message = f"a socket was passed with the name {name!r}: {HOW_TO_NAME}"
    assert refusal(passed(name, listening)) == message


def test_two_sockets_for_a_port_are_refused(passed: Pass, listening: socket.socket) -> None:
    message = "two sockets were passed with the name client: the port takes only one"
    assert refusal(passed("client:client", listening, listening)) == message


@pytest.mark.parametrize(("role", "name"), [("ingest", "client"), ("edge", "source")])
def test_a_port_that_the_role_has_not_is_refused(
    passed: Pass, listening: socket.socket, role: str, name: str
) -> None:
    message = f"a socket was passed with the name {name}, but --role {role} has no such port"
    assert refusal(passed(name, listening), role=role) == message


def test_a_disabled_port_is_refused(passed: Pass, listening: socket.socket) -> None:
    message = "a socket was passed with the name admin, but --admin-port 0 disables that port"
    assert refusal(passed("admin", listening), admin_port=0) == message


def test_what_is_no_listening_stream_socket_is_refused(passed: Pass) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as datagram:
        message = "the socket with the name client is not a stream socket: use ListenStream="
        assert refusal(passed("client", datagram)) == message


def test_an_abstract_unix_socket_is_refused(passed: Pass) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("")  # the system chooses an abstract name that is free
        sock.listen()
        message = "the socket with the name client is an abstract Unix socket: use a path"
        assert refusal(passed("client", sock)) == message


def test_a_connection_is_refused(passed: Pass) -> None:
    near, far = socket.socketpair()
    with near, far:
        message = "the socket with the name client does not listen: use Accept=no"
        assert refusal(passed("client", near)) == message


def test_a_pipe_is_refused(passed: Pass) -> None:
    reading, writing = os.pipe()
    try:
        message = "the descriptor passed with the name client is not a socket"
        assert refusal(passed("client", reading)) == message
    finally:
        os.close(reading)
        os.close(writing)


def test_an_admin_port_for_other_machines_needs_a_token(passed: Pass) -> None:
    with socket.create_server(("0.0.0.0", 0)) as sock:
        environment = passed("admin", sock)
        message = refusal(dict(environment))
        assert message.startswith("the socket with the name admin, 0.0.0.0 port ")
        assert message.endswith("set MAZE_ADMIN_TOKEN to a secret of 16 characters or more")
        settings = Settings(admin_token="0123456789abcdef")
        assert take_sockets(environment, settings) == {"admin": FIRST}
