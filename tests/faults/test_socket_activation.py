"""Listening sockets from systemd: ``systemd-socket-activate`` passes them as systemd does."""

from __future__ import annotations

import json
import signal
import socket
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.request import urlopen

import pytest
from end_to_end.peers import Client, Source, until
from end_to_end.running import Child
from end_to_end.test_positions import read_position
from redis_server import free_port

from .activation import activated, given

ADMIN = ("--admin-port", "9095")
"""The port is enabled; its socket is another one."""


def free_ports() -> dict[str, int]:
    return {name: free_port() for name in ("admin", "source", "client")}


def await_listening(path: Path) -> None:
    """Wait until a Unix socket is there."""
    until(path.is_socket, "the socket to be there")


@pytest.mark.parametrize("edges", [0, 2])
def test_all_ports_may_be_sockets_of_systemd(edges: int) -> None:
    ports = free_ports()
    addresses = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    with activated(addresses, *ADMIN, "--edges", str(edges)) as child, ExitStack() as peers:
        until(lambda: "Listening on" in child.stderr(), "the sockets to listen")
        first = peers.enter_context(closing(Client(("127.0.0.1", ports["client"]))))
        first.send(b"7|\n")  # this starts the server
        child.ready()
        assert child.client_address == ("127.0.0.1", ports["client"])
        assert child.source_address == ("127.0.0.1", ports["source"])
        assert read_position(first)[0] == "="
        child.await_first_broadcast(child.client(1), child.source())
        with urlopen(f"http://127.0.0.1:{ports['admin']}/healthz", timeout=30) as answer:
            assert json.load(answer) == {"status": "ok"}
        child.signal(signal.SIGTERM)
        assert child.status() == 0


def test_ports_without_a_socket_are_opened(tmp_path: Path) -> None:
    path = tmp_path / "client"
    with activated({"client": path}) as child:
        await_listening(path)
        with closing(Client(path)) as client:
            client.send(b"7|\n")
            child.ready()
            assert child.client_address == (f"unix:{path}", 0)
            assert child.source_address[1] > 0
            assert read_position(client)[0] == "="
            source = child.source()
            source.send(b"1|B\n")
            client.expect(b"1|B\n")
            child.signal(signal.SIGTERM)
            assert child.status() == 0
    assert path.is_socket()  # it is systemd's


@pytest.mark.parametrize(
    ("name", "more", "complaint"),
    [
        ("", (), "LISTEN_FDS is 1, but LISTEN_FDNAMES has 0 names: "),
        ("unknown", (), "a socket was passed with the name 'unknown': "),
        ("client", ("--datagram",), "the socket with the name client is not a stream socket: "),
        ("admin", (), "a socket was passed with the name admin, but --admin-port 0 disables "),
    ],
)
def test_what_cannot_be_used_is_one_line(
    tmp_path: Path, name: str, more: tuple[str, ...], complaint: str
) -> None:
    path = tmp_path / "socket"
    with activated({name: path}, more=more) as child:
        await_listening(path)
        kind = socket.SOCK_DGRAM if more else socket.SOCK_STREAM
        with socket.socket(socket.AF_UNIX, kind) as sock:
            sock.connect(str(path))
            sock.send(b"7\n")
            assert child.status() == 2
        lines = [line for line in child.stderr().splitlines() if line.startswith("maze: ")]
        assert len(lines) == 1
        assert lines[0].startswith(f"maze: {complaint}")
        assert "Traceback" not in child.stderr()


@pytest.mark.parametrize("name", ["client", "source", "admin"])
def test_an_abstract_unix_socket_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    abstract = f"@{tmp_path}"  # no other socket has this name
    with activated({name: abstract}, *ADMIN) as child:
        until(lambda: "Listening on" in child.stderr(), "the socket to listen")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(abstract.replace("@", "\0"))
            assert child.status() == 2
        complaint = f"maze: the socket with the name {name} is an abstract Unix socket: use a path"
        assert complaint in child.stderr().splitlines()
        assert "Traceback" not in child.stderr()


@pytest.mark.parametrize("options", [(), ("--edges", "2")])
def test_who_connects_while_the_server_restarts_is_served_by_the_next(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    journal = ("--journal", str(tmp_path / "journal"), *options)
    with ExitStack() as stack:
        sockets = {
            name: stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            for name in ("source", "client")
        }
        address = {name: sock.getsockname() for name, sock in sockets.items()}
        with given(sockets, *journal).ready() as former:
            client = stack.enter_context(closing(Client(address["client"])))
            client.send(b"7|\n")
            position = read_position(client)[1]
            former.signal(signal.SIGTERM)
            assert former.status() == 0
        assert client.read_until_closed() == b""
        waiting = stack.enter_context(closing(Client(address["client"])))
        waiting.send(b"7|%d-%d\n" % position)
        source = stack.enter_context(closing(Source(address["source"])))
        source.send(b"1|P|8|7\n")
        with given(sockets, *journal).ready() as successor:
            assert read_position(waiting)[1] == position
            waiting.expect(b"1|P|8|7\n")
            successor.signal(signal.SIGTERM)
            assert successor.status() == 0


def test_the_variables_are_not_passed_on() -> None:
    """Otherwise a child would take other descriptors for sockets."""
    with (
        socket.create_server(("127.0.0.1", 0)) as sock,
        given({"client": sock}, "--edges", "1").ready() as child,
    ):
        processes = _children(child)
        assert len(processes) == 2
        for process in processes:
            assert b"LISTEN_" not in Path(f"/proc/{process}/environ").read_bytes()
        child.signal(signal.SIGTERM)
        assert child.status() == 0


def _children(child: Child) -> list[int]:
    process = child.process.pid
    text = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii")
    return [int(word) for word in text.split()]
