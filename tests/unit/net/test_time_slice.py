"""Time slices: when a yield is due, and what it lets run."""

import gevent
import pytest

from maze.net import time_slice
from maze.net.time_slice import TIME_SLICE_SECONDS, TimeSlice


def test_a_slice_begins_anew_with_each_yield(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time_slice, "monotonic", lambda: now[0])
    working = TimeSlice()
    assert not working.is_over()
    for _ in range(2):
        now[0] += TIME_SLICE_SECONDS
        assert working.is_over()
        working.begin_next()
        assert not working.is_over()


def test_others_run_in_a_yield() -> None:
    ran: list[int] = []
    gevent.spawn(ran.append, 1)
    TimeSlice().begin_next()
    assert ran == [1]
