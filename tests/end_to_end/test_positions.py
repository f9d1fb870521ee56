"""Clients that ask for positions, and those that do not."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from maze.core import Position

from .peers import Client, until
from .running import Maze

pytestmark = pytest.mark.parametrize("wire", ["plain", "tls"], indirect=True)


def read_position(client: Client) -> tuple[str, Position]:
    """The position line that comes next: its mark and its position."""
    line = client.read_line().decode()
    match = re.fullmatch(r"([=!])\|([0-9]+)-([0-9]+)\n", line)
    assert match, f"{line!r} is no position line"
    return match[1], Position(int(match[2]), int(match[3]))


def test_who_asks_is_told_its_position_before_the_first_event(maze: Maze) -> None:
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


def test_who_does_not_ask_never_sees_a_position(start: Callable[..., Maze]) -> None:
    maze = start(position_interval=0.01)
    plain, asking = maze.client(7), maze.client(b"8|\r\n")
    for _ in range(3):
        read_position(asking)
    maze.source().send(b"1|B\n")
    plain.expect(b"1|B\n")


@pytest.mark.parametrize("ahead", [-1, 0, 1])
def test_a_position_that_a_client_sends_was_not_kept(maze: Maze, ahead: int) -> None:
    maze.source().send(b"1|B\n2|B\n")
    maze.await_routed(2)
    epoch, number = maze.server.router.position
    client = maze.client(b"7|%d-%d\n" % (epoch, number + ahead))
    assert read_position(client) == ("!", Position(epoch, number))


def test_who_is_silent_is_told_again(start: Callable[..., Maze]) -> None:
    maze = start(position_interval=0.02)
    source = maze.source()
    client = maze.client(b"7|\n")
    first = read_position(client)
    assert read_position(client) == first
    source.send(b"1|P|7|9\n")  # another user's: the position moves on all the same
    maze.await_routed(1)
    while (told := read_position(client)) == first:
        pass
    assert told == ("=", Position(first[1].epoch, 2))


def test_an_event_breaks_the_silence(start: Callable[..., Maze]) -> None:
    maze = start(position_interval=3600)
    source = maze.source()
    client = maze.client(b"7|\n")
    read_position(client)
    positions = maze.server.router._positions
    (session,) = maze.sessions
    now = positions._silent[session][1]
    source.send(b"1|B\n")
    client.expect(b"1|B\n")
    assert positions._have_been_silent(now + 3600) == []
    assert positions._have_been_silent(now + 7199) == []
    assert positions._have_been_silent(now + 7201) == [session]


def test_a_reset_begins_an_epoch_and_tells_it_before_its_first_event(maze: Maze) -> None:
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


def test_without_a_reset_the_epoch_stays(start: Callable[..., Maze]) -> None:
    maze = start(on_source_disconnect="keep")
    client = maze.client(b"7|\n")
    _, before = read_position(client)
    source = maze.source()
    source.send(b"1|B\n")
    source.half_close()
    source.expect_closed()
    client.expect(b"1|B\n")
    assert maze.server.router.position == Position(before.epoch, 2)


def test_who_has_left_is_told_nothing_more(start: Callable[..., Maze]) -> None:
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
    assert dict(maze.server.clients.handshake_rejects) == {"bad_user": 1}
