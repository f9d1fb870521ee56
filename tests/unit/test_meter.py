"""What the router measures: histograms, sampled latency, the time a missing event is waited for."""

from __future__ import annotations

from typing import Any

import pytest

from maze import meter
from maze.core import Decoder, ReorderBuffer
from maze.meter import Histogram, Latency, Meter


class Session:
    """As much of a session as is looked at."""

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
    monkeypatch.setattr(meter, "monotonic", clock)
    return clock


def test_a_value_counts_at_the_first_bound_that_is_not_below_it() -> None:
    histogram = Histogram((1.0, 10.0))
    for value in (0.5, 1.0, 1.5, 10.0, 11.0):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 1]
    assert histogram.total == 24.0


def observed(latency: Latency) -> tuple[int, float]:
    return sum(latency.histogram.counts), latency.histogram.total


def any_session(*numbers: int) -> Any:
    return Session(*numbers)


def test_who_has_got_everything_counts_at_once(clock: Clock) -> None:
    latency = Latency()
    latency.ready(7, clock.now)
    clock.now += 2
    since = latency.due(8)
    assert since == 1000.0
    latency.flushed(any_session(50, 50), since)
    assert observed(latency) == (1, 2.0)
    assert not latency.behind


def test_who_is_behind_counts_once_when_it_has_caught_up(clock: Clock) -> None:
    latency, session = Latency(), any_session(100, 40)
    latency.flushed(session, clock.now)
    clock.now += 1
    session.pushed_bytes = 200
    latency.flushed(session, clock.now)  # of a later batch, which changes nothing
    session.sent_bytes = 99
    latency.progressed(session)
    assert observed(latency) == (0, 0)
    clock.now += 4
    session.sent_bytes = 100
    latency.progressed(session)
    latency.progressed(session)
    assert observed(latency) == (1, 5.0)


def test_who_leaves_does_not_count(clock: Clock) -> None:
    latency, session = Latency(), any_session(100, 40)
    latency.flushed(session, clock.now)
    latency.left(session)
    latency.left(any_session(1, 0))
    session.sent_bytes = 100
    latency.progressed(session)
    latency.flushed(any_session(100, 40, 0), clock.now)  # it was closed while it sent
    assert observed(latency) == (0, 0)
    assert not latency.behind


def test_an_event_is_due_once_its_batch_was_routed(clock: Clock) -> None:
    latency = Latency()
    assert latency.due(100) == 0
    latency.ready(7, clock.now)
    assert latency.due(7) == 0  # number 7 is the next
    clock.now += 1
    latency.ready(9, clock.now)  # one is followed already
    assert latency.due(9) == 1000.0
    assert latency.due(9) == 0


def test_samples_are_some_time_apart(clock: Clock) -> None:
    latency = Latency()
    latency.ready(1, clock.now)
    latency.due(2)
    clock.now += meter.SAMPLE_SECONDS / 2
    latency.ready(2, clock.now)
    assert latency.due(3) == 0
    clock.now += meter.SAMPLE_SECONDS
    latency.ready(3, clock.now)
    assert latency.due(4) == clock.now


def test_how_long_an_event_has_been_missing(clock: Clock) -> None:
    measured, reorder, decoder = Meter(), ReorderBuffer(), Decoder()

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
    arrive(b"2|B\n")  # now it is 4 that is missing
    assert measured.missing_seconds(reorder) == 0
    clock.now += 2
    assert measured.missing_seconds(reorder) == 2
    arrive(b"4|B\n")
    assert measured.missing_seconds(reorder) == 0
    assert measured.received_events == 5
    measured.forgot()


def test_batches_are_counted_with_their_size_and_time() -> None:
    measured = Meter()
    measured.routed(5, 0.002)
    measured.routed(1, 0.001)
    assert measured.batches == 2
    assert measured.batch_sizes.total == 6
    assert measured.routing_seconds.total == pytest.approx(0.003)
