"""Turns: who is served, how much, and who waits."""

from __future__ import annotations

from typing import Any, cast

import pytest
from end_to_end.peers import until
from gevent.event import Event

from maze.net.time_slice import yield_to_event_loop
from maze.pipeline.implementation import QueuedMemory
from maze.pipeline.session import Session
from maze.pipeline.turns import Turns
from maze.settings.options import Settings

SETTINGS = Settings(client_buffer=2_000, total_buffer=10_000)


class FakeSession:
    """A session with so many bytes queued."""

    def __init__(self) -> None:
        self.held_bytes = 0
        self.error: Exception | None = None

    def on_error(self, error: Exception) -> None:
        self.error = error


class Served:
    """Turns whose sessions are served until they have had ``goal`` servings."""

    def __init__(self, goal: int = 3) -> None:
        self.memory = QueuedMemory()
        self.may_serve = Event()
        self.may_serve.set()
        self.turns = Turns(SETTINGS, self.memory, self.serve, self.may_serve.wait)
        self.goal = goal
        self.servings: list[tuple[Any, int]] = []
        self.bytes = 0
        """Bytes queued by each serving."""
        self.error: Exception | None = None

    def serve(self, session: Session, room: int) -> bool:
        self.servings.append((session, room))
        if self.error:
            raise self.error
        session.held_bytes += self.bytes
        self.memory.bytes += self.bytes
        return sum(served is session for served, _ in self.servings) < self.goal

    def add(self) -> Session:
        session = cast("Session", FakeSession())
        self.turns.add(session)
        return session

    def await_servings(self, count: int) -> None:
        until(lambda: len(self.servings) >= count, f"{count} servings")


def test_sessions_are_served_to_the_end_in_the_order_in_which_they_came() -> None:
    served = Served()
    sessions = [served.add() for _ in range(3)]
    served.await_servings(9)
    assert [session for session, _ in served.servings] == [
        session for session in sessions for _ in range(3)
    ]


def test_nothing_is_served_during_a_pause() -> None:
    served = Served()
    served.may_serve.clear()
    served.add()
    yield_to_event_loop()
    assert not served.servings
    served.may_serve.set()
    served.await_servings(3)


def test_a_session_whose_queue_is_half_full_lets_others_go_first() -> None:
    served = Served()
    served.bytes = 600
    first = served.add()
    second = served.add()
    served.await_servings(4)
    until(lambda: len(served.turns.full) == 2, "both to be full")
    assert [(session is first, room) for session, room in served.servings] == [
        (True, 1_000),
        (True, 400),
        (False, 1_000),
        (False, 400),
    ]
    first.held_bytes = 0
    served.turns.on_progress(first)
    served.await_servings(5)
    assert served.servings[4] == (first, 1_000)
    assert served.turns.full == {second}


def test_all_wait_while_all_queues_together_are_half_full() -> None:
    served = Served(goal=1)
    served.memory.bytes = 4_500
    other = served.add()
    served.await_servings(1)
    assert served.servings == [(other, 500)]
    served.memory.bytes = 5_000
    waiting = served.add()
    served.turns.on_progress(other)
    until(lambda: not served.turns._work._runs, "the turns to pause")
    assert len(served.servings) == 1
    served.memory.bytes = 4_999
    served.turns.on_progress(other)
    served.await_servings(2)
    assert served.servings[1] == (waiting, 1)


def test_an_error_ends_one_session_alone() -> None:
    served = Served(goal=1)
    served.error = RuntimeError("on purpose")
    failing = served.add()
    served.await_servings(1)
    served.error = None
    other = served.add()
    served.await_servings(2)
    assert [session for session, _ in served.servings] == [failing, other]
    assert isinstance(cast("Any", failing).error, RuntimeError)
    assert cast("Any", other).error is None


@pytest.mark.parametrize("times", [1, 2])
def test_progress_of_a_session_that_waits_for_nothing_changes_nothing(times: int) -> None:
    served = Served(goal=1)
    session = served.add()
    served.await_servings(1)
    for _ in range(times):
        served.turns.on_progress(session)
    until(lambda: not served.turns._work._runs, "the turns to pause")
    assert len(served.servings) == 1
