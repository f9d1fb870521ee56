"""Peers behind a proxy that says in a PROXY header for whom it connects."""

from __future__ import annotations

import struct
from collections.abc import Callable
from ipaddress import ip_address, ip_network

import gevent
import pytest
from structlog.testing import LogCapture

from .certificates import Authority
from .peers import SERVER_NAME, Client, Peer, Source, patience, until
from .running import Maze
from .tls_ports import await_rejected, connect, rejected

Start = Callable[..., Maze]

HERE = (ip_network("127.0.0.0/8"),)
REAL = "192.0.2.7"
V2_START = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL = V2_START + b"\x20\0\0\0"
UNKNOWN = b"PROXY UNKNOWN\r\n"


def v1(host: str = REAL, port: int = 4711) -> bytes:
    return f"PROXY TCP4 {host} 198.51.100.1 {port} 9099\r\n".encode()


def v2(host: str = REAL, port: int = 4711, more: bytes = b"") -> bytes:
    near, far = ip_address(host).packed, ip_address("198.51.100.1").packed
    content = near + far + struct.pack("!HH", port, 9099) + more
    return V2_START + struct.pack("!BBH", 0x21, 0x11, len(content)) + content


HEADERS = pytest.mark.parametrize(
    "header", [v1(), v2(), v2(more=b"\x04\0\x01x")], ids=["v1", "v2", "v2-more"]
)


def client_behind(maze: Maze, header: bytes, user: int = 7) -> Client:
    """Connect a client through a proxy that sends its header and the id at once."""
    before = len(maze.sessions)
    client = maze.stranger()
    client.send(header + b"%d\n" % user)
    until(lambda: len(maze.sessions) > before, "the session to begin")
    return client


# What the real address counts for.


@HEADERS
def test_a_client_behind_a_proxy_is_at_its_own_address(
    start: Start, log: LogCapture, header: bytes
) -> None:
    maze = start(proxy_from=HERE)
    client = client_behind(maze, header)
    maze.source().send(header + b"1|P|9|7\n")
    client.expect(b"1|P|9|7\n")
    (opened,) = (entry for entry in log.entries if entry["event"] == "session_opened")
    assert opened["client"] == f"{REAL}:4711"
    (connected,) = (entry for entry in log.entries if entry["event"] == "source_connected")
    assert connected["source"] == f"{REAL}:4711"
    assert opened["client"].connection != connected["source"].connection


@pytest.mark.parametrize("pause", [False, True])
@pytest.mark.parametrize("header", [v1(), v2()], ids=["v1", "v2"])
def test_a_header_in_pieces_of_one_byte(start: Start, header: bytes, pause: bool) -> None:
    maze = start(proxy_from=HERE)
    client, source = maze.stranger(), maze.source()
    for at in range(len(header)):
        for peer in (client, source):
            peer.send(header[at : at + 1])
        if pause:
            gevent.sleep(0.001)
    client.send(b"7\n")
    maze.await_sessions(1)
    source.send(b"1|B\n")
    client.expect(b"1|B\n")


def test_the_limit_per_address_counts_the_real_address(start: Start, log: LogCapture) -> None:
    maze = start(proxy_from=HERE, max_clients_per_address=2)
    clients = [client_behind(maze, v1(port=port), port) for port in (1, 2)]
    clients += [client_behind(maze, v2("192.0.2.8", port), port) for port in (1, 2)]
    surplus = maze.stranger()
    surplus.send(v1(port=3))  # closed before it sends its id
    surplus.expect_closed()
    assert dict(maze.server.clients.limits.refused) == {"max_clients_per_address": 1}
    (line,) = (entry for entry in log.entries if entry["event"] == "client_refused")
    assert line["client"] == f"{REAL}:3"
    clients[0].close()
    maze.await_sessions(3)
    until(lambda: maze.server.clients.limits.taken == 3, "the connection to be released")
    client_behind(maze, v1(port=4))
    maze.source().send(v1() + b"1|B\n")
    clients[1].expect(b"1|B\n")


def test_connections_with_the_same_real_port_are_two(start: Start) -> None:
    """Two proxies may give the same one, and a proxy may give a wrong one."""
    maze = start(proxy_from=HERE, max_handshakes=2)
    waiting = [maze.stranger(), maze.stranger()]
    for client in waiting:
        client.send(v1())
    until(lambda: maze.server.clients.limits.handshakes == 2, "two handshakes")
    waiting[0].send(b"1\n")
    maze.await_sessions(1)
    assert maze.server.clients.limits.handshakes == 1


@pytest.mark.parametrize("port", ["client", "source"])
@pytest.mark.parametrize(("host", "is_allowed"), [(REAL, True), ("203.0.113.1", False)])
def test_ranges_concern_the_real_address(
    start: Start, log: LogCapture, port: str, host: str, is_allowed: bool
) -> None:
    maze = start(proxy_from=HERE, **{f"allow_{port}": (ip_network("192.0.2.0/24"),)})
    peer = connect(maze, port, None)
    peer.send(v1(host) + b"7\n")
    if is_allowed:
        maze.await_sessions(1) if port == "client" else maze.await_sources(1)
    else:
        peer.read_until_closed()
        await_rejected(maze, port, "address")
        assert rejected(log)[0][port] == f"{host}:4711"
    peer.close()


@pytest.mark.parametrize("header", [LOCAL, UNKNOWN], ids=["local", "unknown"])
def test_a_proxy_that_connects_for_itself_keeps_its_address(
    start: Start, log: LogCapture, header: bytes
) -> None:
    maze = start(proxy_from=HERE, max_clients_per_address=1)
    client = client_behind(maze, header)
    (line,) = (entry for entry in log.entries if entry["event"] == "session_opened")
    assert line["client"].startswith("127.0.0.1:")
    surplus = maze.stranger()
    surplus.send(header)
    surplus.expect_closed()
    maze.source().send(header + b"1|B\n")
    client.expect(b"1|B\n")


@HEADERS
def test_the_header_comes_before_tls(
    start: Start, log: LogCapture, authority: Authority, header: bytes
) -> None:
    server = authority.server
    maze = start(
        proxy_from=HERE,
        **{f"{port}_tls_cert": server.cert for port in ("client", "source")},
        **{f"{port}_tls_key": server.key for port in ("client", "source")},
    )
    client, source = connect(maze, "client", None), connect(maze, "source", None)
    for peer, said in ((client, b"7\n"), (source, b"1|B\n")):
        peer.send(header)
        with patience("the TLS handshake"):
            peer.sock = authority.context().wrap_socket(peer.sock, server_hostname=SERVER_NAME)
        if peer is source:
            maze.await_sessions(1)
        peer.send(said)
    assert isinstance(client, Client)
    client.expect(b"1|B\n")
    for peer in (client, source):
        peer.close()


# What is refused.


@pytest.mark.parametrize("port", ["client", "source"])
@pytest.mark.parametrize(
    ("said", "detail"),
    [
        (b"7\n", "the connection does not begin with a PROXY header"),
        (b"1|B\n", "the connection does not begin with a PROXY header"),
        (b"\x16\x03\x01", "the connection does not begin with a PROXY header"),
        (b"PROXY TCP4 192.0.2.7\r\n", "the PROXY header is malformed"),
        (b"PROXY " + b"x" * 101, "the PROXY header is longer than 107 bytes"),
        (V2_START + b"\x21\x11\xff\xff", "the PROXY header is longer than 4096 bytes"),
        (V2_START + b"\x31\x11\0\x0c", "the PROXY header is malformed"),
    ],
)
def test_a_proxy_without_a_valid_header_is_rejected(
    start: Start, log: LogCapture, port: str, said: bytes, detail: str
) -> None:
    maze = start(proxy_from=HERE)
    peer = connect(maze, port, None)
    peer.send(said)
    peer.expect_closed()
    await_rejected(maze, port, "proxy_header")
    (line,) = rejected(log)
    assert (line["detail"], line["log_level"]) == (detail, "warning")
    assert line[port].startswith("127.0.0.1:")


@pytest.mark.parametrize("port", ["client", "source"])
@pytest.mark.parametrize("said", [b"", v1()[:-1], v2()[:-1]], ids=["nothing", "v1", "v2"])
def test_a_header_has_to_be_complete_in_time(
    start: Start, log: LogCapture, port: str, said: bytes
) -> None:
    maze = start(proxy_from=HERE, handshake_timeout=0.1)
    peer = connect(maze, port, None)
    peer.send(said)
    peer.expect_closed()
    await_rejected(maze, port, "timeout")
    assert rejected(log)[0]["detail"] == "the PROXY header is not complete"


@pytest.mark.parametrize("port", ["client", "source"])
@pytest.mark.parametrize("leave", [Peer.close, Peer.reset, Peer.half_close])
def test_a_proxy_that_only_connects_has_left(
    start: Start, port: str, leave: Callable[[Peer], None]
) -> None:
    """Health checks without a header do this."""
    maze = start(proxy_from=HERE)
    leave(connect(maze, port, None))
    await_rejected(maze, port, "left")


@pytest.mark.parametrize("wire", ["plain", "tls"], indirect=True)
@pytest.mark.parametrize("port", ["client", "source"])
@pytest.mark.parametrize("header", [v1(), v2(), UNKNOWN], ids=["v1", "v2", "unknown"])
def test_a_header_from_elsewhere_is_rejected(
    start: Start, log: LogCapture, port: str, header: bytes
) -> None:
    maze = start(proxy_from=(ip_network("192.0.2.0/24"),))
    peer = connect(maze, port, None)
    peer.send(header + b"7\n1|B\n")
    peer.read_until_closed()
    if port == "source" and not maze.tls:
        until(lambda: dict(maze.server.source.closed) == {"proxy": 1}, "the source to be closed")
        (line,) = (entry for entry in log.entries if entry["event"] == "source_closed")
        assert (line["log_level"], line["reason"]) == ("warning", "proxy")
    else:
        await_rejected(maze, port, "proxy_unexpected")
        (line,) = rejected(log)
        assert "--proxy-from does not name the address" in line["detail"]
    assert line[port].startswith("127.0.0.1:")
    assert maze.rejects() == {}
    assert maze.server.router.stats.routed_events == 0
    peer.close()


def test_a_header_behind_the_header_is_rejected(start: Start, log: LogCapture) -> None:
    """It was sent by whoever is behind the proxy."""
    maze = start(proxy_from=HERE)
    client = maze.stranger()
    client.send(v1() + v1("203.0.113.1") + b"7\n")
    client.expect_closed()
    await_rejected(maze, "client", "proxy_unexpected")
    assert rejected(log)[0]["client"] == f"{REAL}:4711"


def test_headers_that_do_not_come_hold_up_only_so_many_sources(start: Start) -> None:
    maze = start(proxy_from=HERE)
    waiting = [connect(maze, "source", None) for _ in range(100)]
    until(lambda: maze.server.source._handshakes == 100, "the handshakes")
    surplus = Source(maze.source_address)
    surplus.expect_closed()
    await_rejected(maze, "source", "busy")
    waiting[0].send(v1() + b"1|B\n")
    maze.await_sources(1)
    for peer in (*waiting, surplus):
        peer.close()


def test_headers_that_do_not_come_count_as_handshakes_of_clients(start: Start) -> None:
    maze = start(proxy_from=HERE, max_handshakes=2)
    for _ in range(2):
        maze.stranger()
    until(lambda: maze.server.clients.limits.handshakes == 2, "two handshakes")
    maze.stranger().expect_closed()
    assert dict(maze.server.clients.limits.refused) == {"max_handshakes": 1}
