"""The watch of gaps: when it warns and gives up, by a clock that the test moves."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from maze.core import Decoder, Reason
from maze.log.reject_log import RejectLog
from maze.pipeline.gap_watch import MARKS, GapWatch
from maze.pipeline.ordering import Ordering
from maze.pipeline.stats import Stats
from maze.settings.options import Settings


class Watched:
    """An ordering that is watched; ``pass_seconds`` moves the clock and checks."""

    def __init__(self, **options: Any) -> None:
        settings = Settings(**options)
        self.now = 1000.0
        self.rejects = RejectLog()
        self.times_given_up = 0
        self.ordering = Ordering(settings, self.rejects, Stats(), lambda: None)
        self.reorder = self.ordering.reorder
        self.watch = GapWatch(settings, self.ordering, self._on_given_up, clock=lambda: self.now)
        self.interval = min(self.watch._interval, 1.0)
        self.watch.check()  # as at the beginning of a watch: time counts from here
        self.watch.forget()

    def _on_given_up(self) -> None:
        self.times_given_up += 1

    def feed(self, *numbers: int) -> None:
        self.ordering.add(Decoder().feed(b"".join(b"%d|B\n" % each for each in numbers))[0], "peer")

    def pass_seconds(self, seconds: float) -> None:
        """Let time pass, with the checks that are made meanwhile."""
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.now = min(end, self.now + self.interval)
            self.watch.check()

    def take(self) -> list[int]:
        runs = self.reorder.take_ready(1_000_000)
        return [number for run in runs for number in range(run.first, run.end)]


def gaps(entries: list[Any]) -> list[Any]:
    return [line for line in entries if line["event"] == "gap"]


# Warnings.


def test_a_gap_is_logged_once_after_the_time_of_the_warning() -> None:
    watched = Watched(gap_warning=2.0)
    watched.feed(1, 3, 4)
    with capture_logs() as entries:
        watched.pass_seconds(1.75)
        assert entries == []
        watched.pass_seconds(60)
    (line,) = entries
    waited = line.pop("waited_seconds")
    assert 2.0 <= waited <= 2.5
    assert line == {"event": "gap", "log_level": "warning", "missing": 2, "waiting_events": 2}


def test_each_missing_number_is_logged() -> None:
    watched = Watched(gap_warning=2.0)
    watched.feed(1, 3, 5)
    with capture_logs() as entries:
        watched.pass_seconds(3)
        watched.feed(2)
        watched.pass_seconds(3)
    assert [(line["missing"], line["waiting_events"]) for line in entries] == [(2, 2), (4, 1)]


def test_a_gap_that_fills_in_time_is_not_logged() -> None:
    watched = Watched(gap_warning=2.0)
    with capture_logs() as entries:
        for first in range(1, 100, 2):
            watched.feed(first + 1)
            watched.pass_seconds(1.5)
            watched.feed(first)
            watched.pass_seconds(1)
    assert entries == []


def test_a_warning_can_be_turned_off() -> None:
    watched = Watched(gap_warning=None, gap_timeout=100.0)
    watched.feed(2)
    with capture_logs() as entries:
        watched.pass_seconds(90)
    assert entries == []


@pytest.mark.parametrize(
    ("options", "begin"),
    [
        ({}, "start the server with --first-sequence 542532"),
        (
            {"journal": "/var/j"},
            "stop the server, run python -m maze.journal reset /var/j --first-sequence 542532, and "
            "start the server with --first-sequence 542532",
        ),
        (
            {"journal": "redis://localhost"},
            "start the server with --first-sequence 542532 and another --journal-name",
        ),
    ],
)
def test_a_stream_that_begins_at_another_number_is_hinted_at(
    options: dict[str, str], begin: str
) -> None:
    watched = Watched(**options)
    watched.feed(542_533, 542_532)
    with capture_logs() as entries:
        watched.pass_seconds(3)
    assert gaps(entries)[0]["missing"] == 1
    assert gaps(entries)[0]["hint"] == (
        f"nothing has been routed yet; if the stream begins at 542532, {begin}"
    )


# The timeout.


def test_missing_numbers_are_given_up_after_the_timeout() -> None:
    watched = Watched(gap_timeout=8.0, gap_warning=None)
    watched.feed(1, 4, 5, 8)
    with capture_logs() as entries:
        watched.pass_seconds(8)
        assert watched.reorder.waiting == 3
        watched.pass_seconds(1)
    assert watched.take() == [1, 4, 5, 8]
    assert watched.rejects.counts.total() == 4
    assert watched.times_given_up == 1
    (line,) = entries
    assert (line["event"], line["log_level"]) == ("numbers_skipped", "warning")
    assert (line["first"], line["last"], line["numbers"]) == (2, 7, 4)


def test_only_what_events_have_waited_behind_for_the_timeout_is_given_up() -> None:
    watched = Watched(gap_timeout=8.0)
    watched.feed(3)
    watched.pass_seconds(5)
    watched.feed(6)
    watched.pass_seconds(4)
    assert watched.take() == [3]
    assert watched.reorder.gap == (4, 6)
    watched.pass_seconds(5)
    assert watched.take() == [6]


def test_a_number_given_up_that_comes_late_is_stale() -> None:
    watched = Watched(gap_timeout=8.0)
    watched.feed(3)
    watched.pass_seconds(10)
    watched.feed(2)
    assert watched.rejects.counts == {"skipped": 2, "stale": 1}


def test_nothing_is_given_up_without_a_timeout() -> None:
    watched = Watched()
    watched.feed(3)
    watched.pass_seconds(600)
    assert (watched.reorder.waiting, watched.rejects.counts) == (1, {})


def test_time_during_which_the_server_holds_up_the_sources_does_not_count() -> None:
    watched = Watched(gap_timeout=8.0, gap_warning=2.0)
    watched.feed(3)
    watched.pass_seconds(1)
    watched.watch.hold()
    with capture_logs() as entries:
        watched.pass_seconds(100)
    watched.watch.release()
    assert entries == []
    watched.pass_seconds(6)
    assert watched.reorder.waiting == 1
    watched.pass_seconds(3)
    assert watched.reorder.waiting == 0


def test_time_counts_again_once_the_last_of_overlapping_holds_has_ended() -> None:
    watched = Watched(gap_timeout=8.0, gap_warning=None)
    watched.feed(3)
    watched.watch.hold()
    watched.pass_seconds(20)
    watched.watch.hold()
    watched.pass_seconds(20)
    watched.watch.release()
    watched.pass_seconds(20)
    watched.watch.release()
    watched.pass_seconds(7)
    assert watched.reorder.waiting == 1
    watched.pass_seconds(2)
    assert watched.reorder.waiting == 0


def test_short_holds_between_two_checks_do_not_count() -> None:
    watched = Watched(gap_timeout=8.0, gap_warning=None)
    watched.feed(3)
    for _ in range(12):
        watched.watch.hold()
        watched.now += 0.5
        watched.watch.release()
        watched.now += 0.5
        watched.watch.check()
    assert watched.reorder.waiting == 1
    watched.pass_seconds(4)
    assert watched.reorder.waiting == 0


def test_time_during_which_the_process_did_not_run_does_not_count() -> None:
    watched = Watched(gap_timeout=8.0)
    watched.feed(3)
    watched.pass_seconds(1)
    watched.now += 600
    watched.watch.check()
    assert watched.reorder.waiting == 1


def test_the_fail_policy_does_not_keep_the_timeout_from_giving_up() -> None:
    watched = Watched(gap_timeout=8.0, gap_policy="fail", reorder_limit=2)
    watched.feed(3, 4)
    watched.pass_seconds(10)
    assert watched.take() == [3, 4]


def test_marks_of_a_former_stream_give_up_nothing_of_the_next() -> None:
    watched = Watched(gap_timeout=8.0)
    watched.feed(1000)
    watched.pass_seconds(7)
    watched.ordering.reset()
    watched.watch.forget()
    watched.feed(10)
    watched.pass_seconds(7)
    assert watched.rejects.counts == {}


def test_few_marks_are_kept_however_often_it_checks() -> None:
    watched = Watched(gap_timeout=100.0, gap_warning=0.1)
    watched.feed(3)
    watched.pass_seconds(90)
    assert len(watched.watch._marks) <= MARKS + 1


@pytest.mark.parametrize("warning", [None, 0.1, 1.0, 1.05, 1.9, 2.0, 2.1, 10.0])
@pytest.mark.parametrize("part", range(0, 20, 3))
def test_a_number_is_given_up_an_eighth_late_at_most(warning: float | None, part: int) -> None:
    """Whatever the times of the warning, of the checks, and of the event's arrival."""
    watched = Watched(gap_timeout=2.1, gap_warning=warning)
    watched.feed(3)
    watched.pass_seconds(0.5 + part * watched.interval / 20)
    watched.feed(1, 2, 5)
    arrived_at = watched.now
    while watched.reorder.waiting:
        watched.pass_seconds(watched.interval)
    assert 2.1 <= watched.now - arrived_at <= 2.1 * 9 / 8 + 1e-6


@given(
    st.lists(
        st.tuples(st.integers(1, 40), st.sampled_from([0.0, 0.5, 1.0, 3.0, 9.0])),
        min_size=1,
        max_size=30,
    )
)
def test_a_number_is_given_up_once_a_higher_one_has_waited(
    arrivals: list[tuple[int, float]],
) -> None:
    """The model: when each number came, or was seen to be missing, on the clock."""
    watched = Watched(gap_timeout=8.0, gap_warning=None)
    came: dict[int, float] = {}
    given_up: set[int] = set()
    for number, seconds in arrivals:
        watched.feed(number)
        if number not in given_up:
            came.setdefault(number, watched.now)
        watched.pass_seconds(seconds)
        front = watched.reorder.missing_sequence
        given_up = {each for each in range(1, front) if each not in came}
        for each in range(1, max(came) + 1):
            if each in came:
                continue
            waited = watched.now - min(when for other, when in came.items() if other > each)
            if each in given_up:
                assert waited >= 8.0
            elif waited > 8.0 + 8.0 / 8 + 1e-6:
                raise AssertionError(f"{each} is missing for {waited} s")
    assert watched.rejects.counts[Reason.SKIPPED] == len(given_up)


# The greenlet.


@pytest.fixture
def watched() -> Iterator[Watched]:
    running = Watched(gap_timeout=0.1)
    yield running
    running.watch.close()


def test_the_watch_ends_when_nothing_waits(watched: Watched) -> None:
    watched.feed(2)
    watched.watch.begin()
    greenlet = watched.watch._watching
    assert greenlet
    watched.watch.begin()
    assert watched.watch._watching is greenlet
    watched.feed(1)
    greenlet.join(10)
    assert greenlet.dead
    assert watched.watch._watching is None


def test_a_closed_watch_does_not_begin(watched: Watched) -> None:
    watched.feed(2)
    watched.watch.begin()
    greenlet = watched.watch._watching
    assert greenlet
    watched.watch.close()
    greenlet.join(10)
    assert greenlet.dead
    watched.watch.begin()
    assert watched.watch._watching is greenlet


def test_without_options_nothing_is_watched() -> None:
    watched = Watched(gap_warning=None)
    watched.feed(2)
    watched.watch.begin()
    assert watched.watch._watching is None
