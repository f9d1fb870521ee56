"""Handshakes of clients, what clients send after them, and a thousand connections at once."""

from __future__ import annotations

import contextlib
import socket as system
from collections.abc import Callable

import gevent
import pytest
from structlog.testing import LogCapture

from .peers import Client, broadcasts, joined, until
from .running import Maze

pytestmark = pytest.mark.parametrize("wire", ["plain", "tls"], indirect=True)


def _await_rejected(maze: Maze, reason: str, count: int = 1) -> None:
    rejects = maze.server.clients.access.rejects.counts
    until(lambda: dict(rejects) == {reason: count}, f"{count} handshakes rejected as {reason}")


@pytest.mark.parametrize("line", [b"7\n", b"7\r\n", b"007\n", b"7".rjust(64, b"0") + b"\r\n"])
def test_handshake_with_either_terminator_and_leading_zeros(maze: Maze, line: bytes) -> None:
    client = maze.client(line)
    maze.source().send(b"1|P|9|7\n")
    client.expect(b"1|P|9|7\n")


def test_handshake_of_single_bytes(maze: Maze) -> None:
    client = maze.stranger()
    for byte in b"4711\r\n":
        client.send(bytes([byte]))
        gevent.sleep(0)
    maze.await_sessions(1)
    maze.source().send(b"1|P|9|4711\n")
    client.expect(b"1|P|9|4711\n")


@pytest.mark.parametrize(
    "line",
    [
        *(b"\n", b"\r\n", b"abc\n", b"-1\n", b"+1\n", b" 1\n", b"1 \n", b"1|2\n", b"1\x00\n"),
        *(b"1\r\r\n", b"9223372036854775808\n", "\u0661\n".encode(), b"\xff\xfe\n"),
    ],
)
def test_handshake_that_is_not_a_valid_id_is_rejected(
    maze: Maze, log: LogCapture, line: bytes
) -> None:
    (other,) = maze.clients(1)
    client = maze.stranger()
    client.send(line)
    client.expect_closed()
    _await_rejected(maze, "bad_user")
    assert [e["reason"] for e in log.entries if e["event"] == "handshake_rejected"] == ["bad_user"]
    maze.source().send(b"1|B\n")
    other.expect(b"1|B\n")
    assert len(maze.sessions) == 1


@pytest.mark.parametrize("line", [b"0" * 64 + b"7\n", b"0" * 64 + b"7\r\n", b"1" * 65, b"x" * 9999])
def test_handshake_too_long_is_rejected(maze: Maze, line: bytes) -> None:
    client = maze.stranger()
    client.send(line)
    client.expect_closed()
    _await_rejected(maze, "too_long")


@pytest.mark.parametrize("said", [b"", b"7", b"7\r"], ids=["nothing", "half", "CR"])
def test_handshake_that_takes_too_long_is_rejected(start: Callable[..., Maze], said: bytes) -> None:
    maze = start(handshake_timeout=0.1)
    client = maze.stranger()
    client.send(said)
    client.expect_closed()
    _await_rejected(maze, "timeout")


def test_handshake_timeout_is_for_the_whole_line(start: Callable[..., Maze]) -> None:
    maze = start(handshake_timeout=0.3)
    client = maze.stranger()
    client.sock.settimeout(0.02)
    # A byte every 20 ms: the line would be too long only after four times the timeout.
    with contextlib.suppress(OSError), contextlib.closing(client):
        while True:
            client.sock.send(b"0")
            with contextlib.suppress(TimeoutError):
                assert not client.sock.recv(1)
                break
    _await_rejected(maze, "timeout")


def test_handshake_timeout_does_not_apply_to_a_session(start: Callable[..., Maze]) -> None:
    maze = start(handshake_timeout=0.05)
    client = maze.client(1)
    stranger = maze.stranger()
    stranger.expect_closed()  # the timeout has passed
    maze.source().send(b"1|B\n")
    client.expect(b"1|B\n")


@pytest.mark.parametrize("said", [b"", b"7"])
@pytest.mark.parametrize("leave", [Client.close, Client.reset, Client.half_close])
def test_handshake_of_a_client_that_left_is_counted(
    maze: Maze, said: bytes, leave: Callable[[Client], None]
) -> None:
    client = maze.stranger()
    client.send(said)
    leave(client)
    _await_rejected(maze, "left")


def test_pending_handshakes_delay_nobody(maze: Maze) -> None:
    for _ in range(50):
        maze.stranger()
    (client,) = maze.clients(1)
    maze.source().send(b"1|B\n")
    client.expect(b"1|B\n")


def test_data_after_the_id_is_discarded_and_counted(maze: Maze) -> None:
    client = maze.client(b"7\nand this")
    client.send(b"more\n")
    until(lambda: maze.server.sessions.discarded_bytes == 13, "13 bytes to be discarded")
    source = maze.source()
    source.send(b"1|P|9|7\n")
    client.expect(b"1|P|9|7\n")
    flood = 3_000_000
    client.send(b"8\n" * (flood // 2))
    until(lambda: maze.server.sessions.discarded_bytes == 13 + flood, "the flood to be discarded")
    source.send(b"2|P|9|8\n3|P|9|7\n")
    client.expect_nothing_before(b"3|P|9|7\n")


@pytest.mark.parametrize(
    ("leave", "reason"), [(Client.close, "left"), (Client.reset, "reset")], ids=["close", "reset"]
)
def test_client_that_leaves_does_not_affect_the_others(
    maze: Maze, leave: Callable[[Client], None], reason: str
) -> None:
    one, two, other = maze.clients(1, 1, 2)
    source = maze.source()
    source.send(b"1|F|1|3\n2|B\n")
    one.expect(b"2|B\n")
    leave(one)
    maze.await_sessions(2)
    assert dict(maze.server.sessions.closed) == {reason: 1}
    source.send(b"3|S|3\n4|P|9|1\n5|B\n")
    two.expect(b"2|B\n3|S|3\n4|P|9|1\n5|B\n")
    other.expect(b"2|B\n5|B\n")


@pytest.mark.parametrize("leave", [Client.close, Client.reset], ids=["close", "reset"])
def test_client_that_leaves_during_a_fan_out_does_not_affect_the_others(
    maze: Maze, leave: Callable[[Client], None]
) -> None:
    leaving = maze.clients(*range(10, 20))
    staying = [client.read_in_background() for client in maze.clients(1, 2, 3)]
    lines = broadcasts(1, 60_001)
    sending = maze.source().send_in_background(joined(lines))
    for client in leaving:
        client.expect(b"1|B\n2|B\n")
        leave(client)
    sending.join()
    expected = joined(lines)
    for inbox in staying:
        until(lambda inbox=inbox: inbox.size >= len(expected), "everything to arrive")  # type: ignore[misc]
        assert inbox.so_far() == expected
    maze.await_sessions(3)


def test_small_events_are_sent_at_once(maze: Maze) -> None:
    """With Nagle's algorithm, a client with delayed ACKs waits 40 ms for every second event."""
    maze.client(7)
    sock = maze.session(7).connection.sock
    assert sock.getsockopt(system.IPPROTO_TCP, system.TCP_NODELAY)


def test_user_can_connect_and_leave_repeatedly(maze: Maze) -> None:
    source = maze.source()
    source.send(b"1|F|1|2\n")
    maze.await_routed(1)
    for number in range(2, 52):
        client = maze.client(1)
        source.send(b"%d|S|2\n" % number)
        client.expect(b"%d|S|2\n" % number)
        client.close()
        maze.await_sessions(0)
    maze.expect_all_freed()


def test_thousand_connections_in_one_burst(start: Callable[..., Maze]) -> None:
    # Over TLS, the handshakes are done one after the other; then all send their ids.
    maze = start(handshake_timeout=20)
    count = 1_000
    clients = [maze.stranger() for _ in range(count)]
    for user, client in enumerate(clients):
        client.send(b"%d\n" % user)
    maze.await_sessions(count)
    maze.source().send(b"1|B\n" + joined(b"%d|P|1|%d\n" % (n + 2, n) for n in range(count)))
    for user, client in enumerate(clients):
        client.expect(b"1|B\n%d|P|1|%d\n" % (user + 2, user))
    for client in clients:
        client.close()
    maze.await_sessions(0)
