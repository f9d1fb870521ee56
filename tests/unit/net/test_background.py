"""Background work in time slices; the tests count the steps in each turn of the event loop."""

import gevent
import pytest

from maze.net import time_slice
from maze.net.background import BackgroundWork


class Work:
    """Work of ``steps`` steps; ``done`` counts those in each turn of the event loop."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.done: list[int] = []
        self.background = BackgroundWork(self.step)

    def step(self) -> bool:
        self.steps -= 1
        self.done[-1] += 1
        return self.steps > 0

    def turns(self, count: int) -> list[int]:
        """Let the event loop take ``count`` turns; return the number of steps in each."""
        for _ in range(count):
            self.done.append(0)
            gevent.sleep(1e-6)
        return self.done


def test_other_greenlets_run_when_a_slice_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_slice, "TIME_SLICE_SECONDS", 0.0)
    work = Work(50)
    work.background.begin()
    assert max(work.turns(200)) <= 3, "one a turn, except for the clock's resolution"
    assert sum(work.done) == 50


def test_a_slice_has_as_many_steps_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_slice, "TIME_SLICE_SECONDS", 3600.0)
    work = Work(1_000)
    work.background.begin()
    assert max(work.turns(3)) == 1_000


def test_finished_work_can_begin_again_and_runs_once_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time_slice, "TIME_SLICE_SECONDS", 0.0)
    work = Work(50)
    for _ in range(20):
        work.background.begin()
    assert max(work.turns(200)) <= 3, "one a turn, except for the clock's resolution"
    work.steps = 2
    work.background.begin()
    work.turns(20)
    assert (work.steps, sum(work.done)) == (0, 52)


def test_failed_work_can_begin_again() -> None:
    work = Work(0)
    failing = BackgroundWork(lambda: 1 / 0 > 0)
    failing.begin()
    gevent.sleep(0.001)
    failing.step = work.step
    failing.begin()
    assert sum(work.turns(5)) == 1
