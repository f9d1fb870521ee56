"""A session that has ended is freed at once, without the garbage collector."""

import gc
from collections.abc import Callable, Iterator

import pytest

from maze.pipeline.session import CloseReason, Session

from .peers import Client, until
from .running import Maze

pytestmark = [
    pytest.mark.realtime,
    pytest.mark.parametrize("wire", ["plain", "tls"], indirect=True),
]


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def leave(client: Client) -> None:
    client.close()


def reset(client: Client) -> None:
    client.reset()


def half_close(client: Client) -> None:
    client.half_close()


@pytest.mark.parametrize("end", [leave, reset, half_close])
@pytest.mark.parametrize("served", [False, True])
@pytest.mark.usefixtures("no_collector")
def test_a_session_that_ended_leaves_no_cycle(
    maze: Maze, end: Callable[[Client], None], served: bool
) -> None:
    client = maze.client(1)
    assert sessions_in_memory() == 1
    if served:
        maze.source().send(b"1|B\n")
        client.expect(b"1|B\n")
    end(client)
    maze.await_sessions(0)
    until(lambda: not sessions_in_memory(), "the session to be freed")


@pytest.mark.usefixtures("no_collector")
def test_a_session_closed_by_another_greenlet_leaves_no_cycle(maze: Maze) -> None:
    client = maze.client(1)
    maze.session(1).close(CloseReason.SLOW)
    client.expect_closed()
    until(lambda: not sessions_in_memory(), "the session to be freed")


def sessions_in_memory() -> int:
    return sum(isinstance(each, Session) for each in gc.get_objects())
