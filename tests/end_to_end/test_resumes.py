"""Clients that come back with a position get what they have missed, and nothing twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from maze.core import Position
from maze.pipeline.session import CloseReason, Session

from .peers import Client, Source, until
from .running import Maze, shrink_buffers
from .test_positions import read_position

pytestmark = pytest.mark.parametrize("wire", ["plain", "tls"], indirect=True)

BOTH_BUFFERS = 128 * 1024


def resume(maze: Maze, user: int, position: Position) -> Client:
    """Come back with a position, and expect it to be accepted."""
    client = maze.client(b"%d|%d-%d\n" % (user, *position))
    assert read_position(client) == ("=", position)
    return client


def outcomes(maze: Maze) -> dict[str, int]:
    """Return how many resumes ended in each way."""
    return {outcome.value: count for outcome, count in maze.server.router.resumes.outcomes.items()}


MISSED = [b"%d|P|%d|7\n" % (number, 10**17) for number in range(1, 40_001)]
"""More than the kernel's small buffers and half of a small client buffer take."""


def stop_reading(maze: Maze, source: Source) -> tuple[Client, Session]:
    """Let user 7 come back to many events, and wait until the replay waits for it to read."""
    source.send(b"".join(MISSED))
    maze.await_routed(len(MISSED))
    epoch = maze.server.router.position.epoch
    client = maze.client(b"7|%d-1\n" % epoch, small_buffers=True)
    session = maze.session(7)
    until(lambda: session in maze.server.router.resumes.turns.full, "the replay to wait")
    return client, session


def test_a_client_gets_exactly_what_was_its_own_while_it_was_away(maze: Maze) -> None:
    source = maze.source()
    source.send(b"1|F|7|3\n2|S|3\n3|B\n")
    maze.await_routed(3)
    start = Position(maze.server.router.position.epoch, 2)
    source.send(
        b"4|P|1|7\n5|P|7|1\n6|F|1|7\n7|U|7|3\n8|S|3\n9|F|7|4\r\n10|S|4\r\n11|F|7|3\n12|S|3\n"
    )
    maze.await_routed(12)
    client = resume(maze, 7, start)
    missed = b"2|S|3\n3|B\n4|P|1|7\n6|F|1|7\n10|S|4\r\n12|S|3\n"
    client.expect(missed)
    source.send(b"13|S|3\n14|S|9\n15|B\n")
    client.expect(b"13|S|3\n15|B\n")
    assert outcomes(maze) == {"resumed": 1}


def test_a_follow_that_changed_nothing_is_not_undone(maze: Maze) -> None:
    source = maze.source()
    source.send(b"1|F|1|2\n2|F|1|2\n3|S|2\n4|U|1|9\n5|S|9\n")
    maze.await_routed(5)
    epoch = maze.server.router.position.epoch
    client = resume(maze, 1, Position(epoch, 2))
    source.send(b"6|B\n")
    client.expect(b"3|S|2\n6|B\n")


def test_a_client_that_has_the_event_with_the_largest_number_comes_back(
    start: Callable[..., Maze],
) -> None:
    maze = start(first_sequence=2**63 - 1)
    maze.source().send(b"%d|B\n" % (2**63 - 1))
    maze.await_routed(1)
    resume(maze, 7, Position(maze.server.router.position.epoch, 2**63))


def test_who_has_missed_nothing_goes_on(maze: Maze) -> None:
    source = maze.source()
    source.send(b"1|B\n2|B\n")
    maze.await_routed(2)
    client = resume(maze, 7, maze.server.router.position)
    source.send(b"3|B\n")
    client.expect(b"3|B\n")


@pytest.mark.parametrize(("epochs", "number"), [(-1, 3), (1, 3), (0, 6), (0, 2)])
def test_a_position_that_fits_nothing_is_answered_with_the_present_one(
    start: Callable[..., Maze], epochs: int, number: int
) -> None:
    maze = start(resume_events=2)
    source = maze.source()
    for sequence in range(1, 5):
        source.send(b"%d|B\n" % sequence)
        maze.await_routed(sequence)
    present = maze.server.router.position
    client = maze.client(b"7|%d-%d\n" % (present.epoch + epochs, number))
    assert read_position(client) == ("!", present)
    source.send(b"5|B\n")
    client.expect(b"5|B\n")
    assert outcomes(maze) == {"missed": 1}


def test_nothing_is_kept_if_no_events_are_to_be_kept(start: Callable[..., Maze]) -> None:
    maze = start(resume_events=0)
    source = maze.source()
    source.send(b"1|B\n")
    maze.await_routed(1)
    present = maze.server.router.position
    client = maze.client(b"7|%d-1\n" % present.epoch)
    assert read_position(client) == ("!", present)
    resume(maze, 8, present)


def test_a_replay_fills_at_most_half_of_the_client_s_buffer(
    start: Callable[..., Maze], monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_buffers(monkeypatch)
    maze = start(client_buffer=64 * 1024, resume_bytes=1 << 30)
    source = maze.source()
    client, session = stop_reading(maze, source)
    epoch = maze.server.router.position.epoch
    assert session.held_bytes <= 32 * 1024 + 300
    source.send(b"40001|B\n")
    assert read_position(client) == ("=", Position(epoch, 1))
    client.expect(b"".join(MISSED) + b"40001|B\n")
    assert outcomes(maze) == {"resumed": 1}


def test_a_client_that_falls_behind_is_disconnected_and_the_others_go_on(
    start: Callable[..., Maze], monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_buffers(monkeypatch)
    maze = start(client_buffer=64 * 1024, resume_events=40_000, resume_bytes=1 << 30)
    source, other = maze.source(), maze.client(8)
    client, _ = stop_reading(maze, source)
    later = [b"%d|P|%d|9\n" % (number, 10**17) for number in range(40_001, 80_001)]
    source.send(b"".join(later))
    source.send(b"80001|B\n")
    other.expect(b"80001|B\n")
    client.read_until_closed()
    assert maze.server.sessions.closed[CloseReason.BEHIND] == 1
    assert outcomes(maze) == {"behind": 1}


def test_many_resume_at_once_and_all_buffers_stay_half_empty(start: Callable[..., Maze]) -> None:
    maze = start(total_buffer=256 * 1024, resume_bytes=1 << 30)
    source = maze.source()
    lines = b"".join(b"%d|B\n" % number for number in range(1, 30_001))
    source.send(lines)
    maze.await_routed(30_000)
    start_line = b"%d-1" % maze.server.router.position.epoch
    clients = []
    for user in range(20):
        client = maze.stranger()
        client.send(b"%d|%s\n" % (user, start_line))
        clients.append(client)
    until(lambda: len(maze.sessions) == 20, "20 sessions")
    source.send(b"30001|B\n")
    for client in clients:
        assert read_position(client)[0] == "="
        client.expect(lines + b"30001|B\n")
        assert maze.server.router.queued_memory.bytes <= 256 * 1024
    assert outcomes(maze) == {"resumed": 20}


def test_a_reset_ends_a_replay_with_the_new_position(
    start: Callable[..., Maze], monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_buffers(monkeypatch)
    maze = start(client_buffer=64 * 1024, resume_bytes=1 << 30)
    source = maze.source()
    client, _ = stop_reading(maze, source)
    epoch = maze.server.router.position.epoch
    source.half_close()
    source.expect_closed()
    assert outcomes(maze) == {"missed": 1}
    assert read_position(client) == ("=", Position(epoch, 1))
    told = b"!|%d-%d\n" % maze.server.router.position
    got = b""
    while not got.endswith(told):
        got += client.sock.recv(1 << 16)
    assert b"".join(MISSED).startswith(got.removesuffix(told))
    maze.source().send(b"1|B\n")
    client.expect(b"1|B\n")


def test_a_client_that_leaves_while_it_resumes_is_forgotten(
    start: Callable[..., Maze], monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_buffers(monkeypatch)
    maze = start(client_buffer=64 * 1024, resume_bytes=1 << 30)
    source = maze.source()
    client, _ = stop_reading(maze, source)
    client.reset()
    maze.await_sessions(0)
    assert outcomes(maze) == {"left": 1}
    assert not len(maze.server.router.resumes)
