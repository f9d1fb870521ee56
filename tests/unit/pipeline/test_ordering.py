"""Runs are added to the reorder buffer in steps; what each step records and when others run."""

from typing import Any

import pytest

from maze.core import Decoder, ReorderBufferFullError
from maze.log.reject_log import RejectLog
from maze.pipeline import ordering
from maze.pipeline.ordering import Ordering, count_events
from maze.pipeline.stats import Stats
from maze.settings.options import Settings


class Steps:
    """An ordering whose yields are counted."""

    def __init__(self, **options: Any) -> None:
        self.yields = 0
        self.stats = Stats()
        self.rejects = RejectLog()
        self.ordering = Ordering(Settings(**options), self.rejects, self.stats, self._yield)

    def _yield(self) -> None:
        self.yields += 1

    def feed(self, *numbers: int) -> None:
        self.ordering.add(Decoder().feed(b"".join(b"%d|B\n" % each for each in numbers))[0], "peer")


def test_others_run_between_two_steps_of_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "STEP_RUNS", 2)
    steps = Steps()
    steps.feed(2, 4, 6, 8, 10)
    assert (steps.yields, steps.ordering.reorder.waiting) == (2, 5)


def test_others_run_while_a_long_run_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "STEP_EVENTS", 10)
    steps = Steps()
    steps.feed(*range(1, 31))
    assert steps.yields == 0, "a run of new events is one step"
    steps.feed(*range(1, 31))
    assert steps.yields == 3
    assert steps.rejects.counts.total() == 30


def test_what_was_received_counts_even_if_a_gap_does_not_fill() -> None:
    steps = Steps(gap_policy="fail", reorder_limit=2)
    with pytest.raises(ReorderBufferFullError):
        steps.feed(2, 3, 4)
    assert steps.stats.received_events == 3


def test_void_runs_hold_no_events() -> None:
    runs, _ = Decoder().feed(b"1|B\n2|X\n3|B\n")
    assert count_events(runs) == 2
