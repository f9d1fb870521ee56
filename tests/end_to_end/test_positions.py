"""Clients that ask for positions, and clients that do not."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from maze.core import Position

from .peers import Client, until
from .running import Maze

pytestmark = pytest.mark.parametrize("wire", ["plain", "tls"], indirect=True)


def read_position(client: Client) -> tuple[str, Position]:
    """Read the next line, which has to be a position line; return its mark and its position."""
    line = client.read_line().decode()
    match = re.fullmatch(r"([=!])\|([0-9]+)-([0-9]+)\n", line)
    assert match, f"{line!r} is no position line"
    return match[1], Position(int(match[2]), int(match[3]))


def test_asking_client_gets_its_position_before_the_first_event(maze: Maze) -> None:
    source = maze.source()
    source.send(b"1|B\n2|B\n")
    maze.await_routed(2)
    client = maze.client(b"7|\n")
    mark, position = read_position(client)
    assert mark == "="
    assert position == maze.server.router.position
    assert position.next == 3
    source.send(b"3|P|1|7\n")
    client.expect(b"3|P|1|7\n")


def test_plain_client_never_gets_a_position(start: Callable[..., Maze]) -> None:
    maze = start(position_interval=0.01)
    plain, asking = maze.client(7), maze.client(b"8|\r\n")
    for _ in range(3):
        read_position(asking)
    maze.source().send(b"1|B\n")
    plain.expect(b"1|B\n")


def test_idle_client_gets_its_position_again(start: Callable[..., Maze]) -> None:
    maze = start(position_interval=0.02)
    source = maze.source()
    client = maze.client(b"7|\n")
    first = read_position(client)
    assert read_position(client) == first
    source.send(b"1|P|7|9\n")  # for another user: the position advances nevertheless
    maze.await_routed(1)
    while (told := read_position(client)) == first:
        pass
    assert told == ("=", Position(first[1].epoch, 2))


def test_an_event_restarts_the_interval(start: Callable[..., Maze]) -> None:
    maze = start(position_interval=3600)
    source = maze.source()
    client = maze.client(b"7|\n")
    read_position(client)
    positions = maze.server.router._positions
    (session,) = maze.sessions
    now = positions._last_pushed[session][1]
    source.send(b"1|B\n")
    client.expect(b"1|B\n")
    assert positions._idle_sessions(now + 3600) == []
    assert positions._idle_sessions(now + 7199) == []
    assert positions._idle_sessions(now + 7201) == [session]


def test_a_reset_sends_the_position_of_the_new_epoch_before_its_first_event(maze: Maze) -> None:
    asking, plain = maze.client(b"7|\n"), maze.client(8)
    _, before = read_position(asking)
    for number in range(2):
        source = maze.source()
        source.send(b"1|B\n2|B\n")
        source.half_close()
        source.expect_closed()
        asking.expect(b"1|B\n2|B\n")
        mark, after = read_position(asking)
        assert mark == "="
        assert after.epoch > before.epoch
        assert after.next == 1
        before = after
        plain.expect(b"1|B\n2|B\n")
        assert number < 2


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.0\r\n"])
def test_a_connection_that_is_no_source_ends_no_stream(maze: Maze, said: bytes) -> None:
    client = maze.client(b"7|\n")
    _, before = read_position(client)
    probe = maze.source()
    probe.send(said)
    probe.half_close()
    probe.read_until_closed()
    until(lambda: maze.server.source.closed.total() == 1, "the probe to be noticed")
    assert maze.server.router.position == before


def test_the_epoch_stays_without_a_reset(start: Callable[..., Maze]) -> None:
    maze = start(on_source_disconnect="keep")
    client = maze.client(b"7|\n")
    _, before = read_position(client)
    source = maze.source()
    source.send(b"1|B\n")
    source.half_close()
    source.expect_closed()
    client.expect(b"1|B\n")
    assert maze.server.router.position == Position(before.epoch, 2)


def test_no_position_is_sent_to_a_client_that_has_left(start: Callable[..., Maze]) -> None:
    maze = start(position_interval=0.01)
    client = maze.client(b"7|\n")
    read_position(client)
    client.close()
    maze.await_sessions(0)
    again = maze.client(b"7|\n")
    for _ in range(3):
        read_position(again)


@pytest.mark.parametrize("line", [b"7|x\n", b"7|1\n", b"7|1-\n", b"7||\n", b"7|1-2-3\n"])
def test_a_malformed_position_is_a_bad_id(maze: Maze, line: bytes) -> None:
    client = maze.stranger()
    client.send(line)
    client.expect_closed()
    assert dict(maze.server.clients.access.rejects.counts) == {"bad_user": 1}
