"""Background work, a time slice at a time; what a turn of the event loop does is counted."""

import gevent
import pytest

from maze.net import time_slice
from maze.net.background import BackgroundWork


class Work:
    """Work of so many steps; ``done`` counts those made in each turn of the event loop."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.done: list[int] = []
        self.background = BackgroundWork(self.step)

    def step(self) -> bool:
        self.steps -= 1
        self.done[-1] += 1
        return self.steps > 0

    def turns(self, count: int) -> list[int]:
        for _ in range(count):
            self.done.append(0)
            gevent.sleep(1e-6)
        return self.done


def test_others_run_once_a_slice_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_slice, "TIME_SLICE_SECONDS", 0.0)
    work = Work(50)
    work.background.begin()
    assert max(work.turns(200)) <= 3, "one a turn, but for the grain of the clock"
    assert sum(work.done) == 50


def test_a_slice_has_as_many_steps_as_there_is_time_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_slice, "TIME_SLICE_SECONDS", 3600.0)
    work = Work(1_000)
    work.background.begin()
    assert max(work.turns(3)) == 1_000


def test_work_that_is_done_can_be_begun_again_and_is_not_done_twice_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time_slice, "TIME_SLICE_SECONDS", 0.0)
    work = Work(50)
    for _ in range(20):
        work.background.begin()
    assert max(work.turns(200)) <= 3, "one a turn, but for the grain of the clock"
    work.steps = 2
    work.background.begin()
    work.turns(20)
    assert (work.steps, sum(work.done)) == (0, 52)


def test_work_that_failed_can_be_begun_again() -> None:
    work = Work(0)
    failing = BackgroundWork(lambda: 1 / 0 > 0)
    failing.begin()
    gevent.sleep(0.001)
    failing.step = work.step
    failing.begin()
    assert sum(work.turns(5)) == 1
