"""The router's stats: histograms, sampled latency, and how long an event has been missing."""

from __future__ import annotations

from bisect import bisect_left
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maze.admin.monitor import SHARES, percentile
from maze.core import Decoder, ReorderBuffer
from maze.pipeline import stats
from maze.pipeline.stats import LATENCY_SECONDS, Histogram, Latency, Stats


class Session:
    """The part of a session that is used."""

    def __init__(self, pushed: int, sent: int, queued: int | None = None) -> None:
        self.pushed_bytes = pushed
        self.sent_bytes = sent
        self.queued_bytes = pushed - sent if queued is None else queued


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(stats, "monotonic", clock)
    return clock


def test_a_value_counts_at_the_first_bound_that_is_not_below_it() -> None:
    histogram = Histogram((1.0, 10.0))
    for value in (0.5, 1.0, 1.5, 10.0, 11.0):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 1]
    assert histogram.total == 24.0


def test_a_value_with_a_weight_counts_that_many_times() -> None:
    weighted, one_by_one = Histogram((1.0, 10.0)), Histogram((1.0, 10.0))
    for value, weight in ((0.5, 3), (5.0, 0), (11.0, 2)):
        weighted.observe(value, weight)
        for _ in range(weight):
            one_by_one.observe(value)
    assert weighted.counts == one_by_one.counts == [3, 0, 2]
    assert weighted.total == one_by_one.total


def observed(latency: Latency) -> tuple[int, float]:
    return sum(latency.histogram.counts), latency.histogram.total


def any_session(*numbers: int) -> Any:
    return Session(*numbers)


def test_a_session_that_has_sent_everything_counts_at_once(clock: Clock) -> None:
    latency = Latency()
    latency.ready(7, clock.now)
    clock.now += 2
    since = latency.due(8)
    assert since == 1000.0
    latency.flushed([any_session(50, 50)], since)
    assert observed(latency) == (1, 2.0)
    assert not latency.catching_up


def test_a_session_counts_once_when_it_has_caught_up(clock: Clock) -> None:
    latency, session = Latency(), any_session(100, 40)
    latency.flushed([session], clock.now)
    clock.now += 1
    session.pushed_bytes = 200
    latency.flushed([session], clock.now)  # a later batch changes nothing
    session.sent_bytes = 99
    latency.progressed(session)
    assert observed(latency) == (0, 0)
    clock.now += 4
    session.sent_bytes = 100
    latency.progressed(session)
    latency.progressed(session)
    assert observed(latency) == (1, 5.0)


def test_sessions_flushed_together_count_one_by_one(clock: Clock) -> None:
    latency, behind = Latency(), any_session(100, 40)
    since = clock.now
    clock.now += 2
    latency.flushed([any_session(50, 50), behind, any_session(7, 7)], since)
    assert observed(latency) == (2, 4.0)
    assert latency.catching_up == {behind: (100, since)}


def bucket(value: float) -> tuple[float, float]:
    """Return the bounds of the bucket that a latency falls into."""
    index = bisect_left(LATENCY_SECONDS, value)
    return (0.0, *LATENCY_SECONDS)[index], LATENCY_SECONDS[index]


@given(st.lists(st.tuples(st.floats(1e-6, 20), st.integers(1, 50)), min_size=1, max_size=30))
def test_percentiles_agree_with_those_of_a_list_of_all_deliveries(
    pieces: list[tuple[float, int]],
) -> None:
    latency, clock = Latency(), Clock()
    delivered = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stats, "monotonic", clock)
        for seconds, sessions in pieces:
            since = clock.now
            clock.now += seconds
            latency.flushed([any_session(5, 5)] * sessions, since)
            delivered += [clock.now - since] * sessions
    delivered.sort()
    assert latency.histogram.total == pytest.approx(sum(delivered))
    for share in SHARES.values():
        low, high = bucket(delivered[ceil(share * len(delivered)) - 1])
        found = percentile(latency.histogram.counts, share)
        assert found is not None
        assert low <= found <= high * (1 + 1e-9)


def test_a_session_that_ends_does_not_count(clock: Clock) -> None:
    latency, session = Latency(), any_session(100, 40)
    latency.flushed([session], clock.now)
    latency.remove(session)
    latency.remove(any_session(1, 0))
    session.sent_bytes = 100
    latency.progressed(session)
    latency.flushed([any_session(100, 40, 0)], clock.now)  # closed during the flush
    assert observed(latency) == (0, 0)
    assert not latency.catching_up


def test_a_sample_is_due_once_its_batch_is_routed(clock: Clock) -> None:
    latency = Latency()
    assert latency.due(100) == 0
    latency.ready(7, clock.now)
    assert latency.due(7) == 0  # number 7 is the next
    clock.now += 1
    latency.ready(9, clock.now)  # an event is sampled already
    assert latency.due(9) == 1000.0
    assert latency.due(9) == 0


def test_samples_have_a_minimum_distance(clock: Clock) -> None:
    latency = Latency()
    latency.ready(1, clock.now)
    latency.due(2)
    clock.now += stats.SAMPLE_SECONDS / 2
    latency.ready(2, clock.now)
    assert latency.due(3) == 0
    clock.now += stats.SAMPLE_SECONDS
    latency.ready(3, clock.now)
    assert latency.due(4) == clock.now


def test_how_long_an_event_has_been_missing(clock: Clock) -> None:
    measured, reorder, decoder = Stats(), ReorderBuffer(), Decoder()

    def arrive(data: bytes) -> None:
        runs = decoder.feed(data)[0]
        for run in runs:
            reorder.add(run)
        measured.arrived(sum(map(len, runs)), reorder)

    arrive(b"1|B\n")
    assert measured.missing_seconds(reorder) == 0
    arrive(b"3|B\n")
    clock.now += 5
    arrive(b"5|B\n")
    assert measured.missing_seconds(reorder) == 5
    arrive(b"2|B\n")  # now 4 is missing
    assert measured.missing_seconds(reorder) == 0
    clock.now += 2
    assert measured.missing_seconds(reorder) == 2
    arrive(b"4|B\n")
    assert measured.missing_seconds(reorder) == 0
    assert measured.received_events == 5
    measured.on_reset()


def test_batches_are_counted_with_their_size_and_time() -> None:
    measured = Stats()
    measured.routed(5, 0.002)
    measured.routed(1, 0.001)
    assert measured.batches == 2
    assert measured.batch_sizes.total == 6
    assert measured.routing_seconds.total == pytest.approx(0.003)
