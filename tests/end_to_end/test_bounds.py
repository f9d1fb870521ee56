"""Bounds on what the server accepts and holds; what exceeds them is refused, counted and logged."""

from __future__ import annotations

import errno
import os
import socket as system
from collections.abc import Callable

import gevent
import pytest
from structlog.testing import LogCapture

from .peers import joined, until
from .running import Maze

Start = Callable[..., Maze]


@pytest.mark.parametrize("bound", ["max_clients", "max_clients_per_address"])
def test_surplus_clients_are_closed_at_once_and_the_others_served(
    start: Start, log: LogCapture, bound: str
) -> None:
    maze = start(**{bound: 3})
    clients = maze.clients(1, 2, 3)
    for _ in range(5):
        maze.stranger().expect_closed()
    assert dict(maze.server.clients.limits.refused) == {bound: 5}
    assert [e["reason"] for e in log.entries if e["event"] == "client_refused"] == [bound]
    maze.source().send(b"1|B\n")
    for client in clients:
        client.expect(b"1|B\n")


def test_surplus_client_is_admitted_once_another_has_left(start: Start) -> None:
    maze = start(max_clients=1)
    for user in range(5):
        client = maze.client(user)
        maze.stranger().expect_closed()
        client.close()
        until(lambda: not maze.server.clients.limits.taken, "the connection to be released")
    assert dict(maze.server.clients.limits.refused) == {"max_clients": 5}


@pytest.mark.parametrize("said", [b"", b"abc\n", b"1" * 33])
def test_rejected_client_does_not_count_any_more(start: Start, said: bytes) -> None:
    maze = start(max_clients=1, handshake_timeout=0.05)
    client = maze.stranger()
    client.send(said)
    client.expect_closed()
    until(lambda: not maze.server.clients.limits.taken, "the connection to be released")
    maze.client(1)


def test_handshakes_beyond_the_bound_are_closed_and_sessions_do_not_count(start: Start) -> None:
    maze = start(max_handshakes=2)
    clients = maze.clients(1, 2, 3, 4)
    waiting = [maze.stranger(), maze.stranger()]
    until(lambda: maze.server.clients.limits.handshakes == 2, "two handshakes")
    maze.stranger().expect_closed()
    assert dict(maze.server.clients.limits.refused) == {"max_handshakes": 1}
    waiting[0].send(b"5\n")
    maze.await_sessions(5)
    clients.append(maze.client(6))
    maze.source().send(b"1|B\n")
    for client in [*clients, waiting[0]]:
        client.expect(b"1|B\n")


def test_clients_that_send_their_ids_at_once_never_exceed_the_handshakes(
    start: Start,
) -> None:
    """This holds however many connect before the server serves the first."""
    maze = start(max_handshakes=1)
    before = [system.create_connection(maze.client_address) for _ in range(300)]
    for user, client in enumerate(before):  # blocking, so that the server does not run meanwhile
        client.sendall(b"%d\n" % user)
    maze.await_sessions(300)
    assert dict(maze.server.clients.limits.refused) == {}
    for client in before:
        client.close()
    maze.await_sessions(0)


def test_follow_beyond_the_bound_is_notified_but_not_kept(start: Start, log: LogCapture) -> None:
    maze = start(max_follows=1)
    one, nine = maze.clients(1, 9)
    maze.source().send(b"1|F|1|9\n2|F|2|9\n3|F|1|8\n4|S|9\n5|S|8\n6|B\n")
    nine.expect(b"1|F|1|9\n2|F|2|9\n6|B\n")
    one.expect(b"4|S|9\n6|B\n")
    assert maze.rejects() == {"graph_full": 2}
    (line,) = (entry for entry in log.entries if entry["event"] == "follow_not_kept")
    assert (line["reason"], line["line"]) == ("graph_full", r"2|F|2|9\n")


def test_surplus_session_of_one_user_is_refused(start: Start, log: LogCapture) -> None:
    maze = start(max_clients_per_user=2)
    phone, tablet = maze.clients(7, 7)
    laptop = maze.stranger()
    laptop.send(b"007\n")
    laptop.expect_closed()
    assert dict(maze.server.clients.limits.refused) == {"max_clients_per_user": 1}
    assert maze.server.clients.limits.handshakes == 0
    (line,) = (entry for entry in log.entries if entry["event"] == "client_refused")
    assert (line["reason"], line["limit"], line["user"]) == ("max_clients_per_user", 2, 7)
    maze.client(8)
    phone.close()
    maze.await_sessions(2)
    again = maze.client(7)
    maze.source().send(b"1|P|8|7\n")
    for client in (tablet, again):
        client.expect(b"1|P|8|7\n")


def test_sessions_of_a_user_do_not_count_as_follows(start: Start) -> None:
    maze = start(max_follows=5)
    source = maze.source()
    source.send(b"1|F|7|1\n2|F|7|2\n3|F|7|3\n")
    maze.await_routed(3)
    sessions = maze.clients(*[7] * 20)
    one = maze.client(1)
    source.send(b"4|F|1|2\n5|F|7|4\n6|S|2\n7|S|4\n")
    one.expect(b"6|S|2\n")
    for session in sessions:
        session.expect(b"6|S|2\n7|S|4\n")
    assert maze.rejects() == {}


def test_graph_has_room_again_for_the_next_stream(start: Start) -> None:
    maze = start(max_users=1)
    one, two = maze.clients(1, 2)
    source = maze.source()
    source.send(b"1|F|1|9\n")
    maze.await_routed(1)
    source.close()
    maze.await_sources(0)
    maze.source().send(b"1|F|2|9\n2|S|9\n3|B\n")
    two.expect(b"2|S|9\n3|B\n")
    one.expect(b"3|B\n")
    assert maze.rejects() == {}


WIDE = 1_000


def _wide(first: int, end: int) -> bytes:
    """Broadcasts of a thousand bytes each."""
    return joined(b"%0*d|B\n" % (WIDE - 3, number) for number in range(first, end))


def test_gap_is_given_up_when_too_many_bytes_wait_behind_it(start: Start) -> None:
    maze = start(reorder_bytes=1_000_000)
    (client,) = maze.clients(1)
    maze.source().send(_wide(2, 2_000))
    until(lambda: maze.rejects() == {"skipped": 1}, "the gap to be given up")
    client.expect(_wide(2, 2_000))


def test_gap_that_fills_is_kept_open_within_the_bytes(start: Start) -> None:
    maze = start(reorder_bytes=4_000_000)
    (client,) = maze.clients(1)
    source = maze.source()
    source.send(_wide(2, 2_000))
    until(lambda: maze.server.intake.reorder.waiting == 1_998, "all events to wait")
    source.send(_wide(1, 2))
    client.expect(_wide(1, 2_000))
    assert maze.rejects() == {}


def test_fail_policy_closes_the_source_if_too_many_bytes_wait(
    start: Start, log: LogCapture
) -> None:
    maze = start(reorder_bytes=1_000_000, gap_policy="fail")
    source = maze.source()
    source.send_in_background(_wide(2, 3_000))
    source.expect_closed()
    (line,) = (entry for entry in log.entries if entry["event"] == "source_closed")
    assert "bytes of memory" in line["error"]


def test_source_is_paused_when_ready_events_take_too_much_memory(start: Start) -> None:
    """The router waits for a slow client, so events pile up in the reorder buffer."""
    maze = start(client_buffer=64 * 1024, reorder_bytes=1_000_000)
    slow = maze.client(1, small_buffers=True)
    reorder = maze.server.intake.reorder
    sending = maze.source(small_buffers=True).send_in_background(_wide(1, 30_001))
    until(lambda: reorder.ready_bytes >= 1_000_000, "the ready events to reach the bound")
    for _ in range(100):
        gevent.sleep(0.001)
        assert reorder.ready_bytes < 2_000_000, "more than one chunk over the bound"
    assert not sending.dead, "the source was not slowed"
    slow.expect(_wide(1, 30_001))


@pytest.mark.skipif(not hasattr(system, "TCP_USER_TIMEOUT"), reason="only Linux has it")
@pytest.mark.parametrize(
    ("settings", "of_source", "of_client"),
    [({}, 45, 45), ({"peer_timeout": 6.0}, 6, 15), ({"stall_timeout": 60.0}, 45, 65)],
)
def test_connections_on_both_ports_are_probed(
    start: Start, settings: dict[str, float], of_source: int, of_client: int
) -> None:
    """A client that takes nothing must not be treated as one that vanished."""
    maze = start(**settings)
    maze.client(1)
    maze.source()
    maze.await_sources(1)
    (source,) = maze.server.source._sources
    for sock, seconds in ((source, of_source), (maze.session(1).connection.sock, of_client)):
        assert sock.getsockopt(system.SOL_SOCKET, system.SO_KEEPALIVE) == 1
        assert sock.getsockopt(system.IPPROTO_TCP, system.TCP_KEEPIDLE) == seconds // 2
        user_timeout = sock.getsockopt(system.IPPROTO_TCP, system.TCP_USER_TIMEOUT)
        assert user_timeout == seconds * 1000


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.ETIMEDOUT, "vanished"), (errno.EHOSTUNREACH, "vanished"), (errno.EPIPE, "reset")],
)
def test_vanished_client_is_distinguished_from_a_reset(
    maze: Maze, log: LogCapture, number: int, reason: str
) -> None:
    """The system's own error decides: ETIMEDOUT is a TimeoutError, but not a stall."""
    one, other = maze.clients(1, 2)
    maze.session(1).on_error(OSError(number, os.strerror(number)))
    one.expect_closed()
    assert dict(maze.server.sessions.closed) == {reason: 1}
    (line,) = (entry for entry in log.entries if entry["event"] == "session_closed")
    assert (line["log_level"], line["error"]) == ("debug", os.strerror(number))
    maze.source().send(b"1|B\n")
    other.expect(b"1|B\n")
