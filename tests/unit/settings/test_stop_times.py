"""How the time for a stop is divided."""

import pytest

from maze.settings.stop_times import MIN_SECONDS, StopTimes


@pytest.mark.parametrize("seconds", [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 60.0, 3600.0])
@pytest.mark.parametrize("now", [0.0, 1e6])
def test_each_part_ends_before_the_next_and_all_within_the_drain_timeout(
    now: float, seconds: float
) -> None:
    times = StopTimes.of(now, seconds)
    assert now <= times.clients < times.journal < times.rejects < times.log < times.end
    assert times.end == now + max(seconds, MIN_SECONDS)
    assert times.clients <= now + seconds


def test_clients_have_most_of_the_time() -> None:
    assert StopTimes.of(0.0, 8.0).clients == 6.0
    assert StopTimes.of(0.0, 60.0).clients == 58.0


def test_a_part_of_a_stop_has_less_time_in_all() -> None:
    times = StopTimes.of(10.0, 8.0, total=1.0)
    assert (times.clients, times.end) == (10.75, 11.0)
    assert StopTimes.of(10.0, 0.0, total=1.0).clients == 10.0
