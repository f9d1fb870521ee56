"""Samples over time, of a play that is made up and a process table that is, too."""

import os
from pathlib import Path

import pytest

from simulator.play.timeline import FIRST_INTERVAL, MAX_SAMPLES, Timeline


def process(
    table: Path, ticks: tuple[int, int], pages: int, pid: str = "7", ended: tuple[int, int] = (0, 0)
) -> None:
    (table / pid).mkdir(exist_ok=True)
    numbers = ["S", *map(str, range(10)), *map(str, ticks), *map(str, ended), "0"]
    (table / pid / "stat").write_text(f"{pid} (an (odd) name) {' '.join(numbers)}\n")
    (table / pid / "statm").write_text(f"999 {pages} 3 1 0 2 0\n")


def test_samples_are_taken_when_due() -> None:
    timeline = Timeline()
    for now, events in ((100.0, 0), (100.001, 5), (100.03, 9), (100.031, 10)):
        timeline.observe(now, events, events * 10)
    assert [(round(s.seconds, 3), s.events, s.bytes) for s in timeline.samples] == [
        (0.0, 0, 0),
        (0.03, 9, 90),
    ]
    timeline.take(100.032, 11, 110)
    assert timeline.samples[-1].events == 11
    assert timeline.samples[-1].cpu_seconds is None


def test_a_long_run_has_no_more_samples_than_a_short_one() -> None:
    timeline = Timeline()
    for number in range(3 * MAX_SAMPLES):
        timeline.observe(number * FIRST_INTERVAL * 1.001, number, 0)
    assert MAX_SAMPLES / 2 <= len(timeline.samples) <= MAX_SAMPLES
    seconds = [sample.seconds for sample in timeline.samples]
    assert seconds == sorted(seconds)
    assert seconds[0] == 0.0


def test_what_the_server_took_is_that_of_the_play_alone(tmp_path: Path) -> None:
    timeline = Timeline(7, tmp_path)
    assert timeline.cpu_seconds is None
    for seconds, ticks in enumerate((300, 350, 420)):
        process(tmp_path, (ticks, 0), 512)
        timeline.take(float(seconds), 0, 0)
    assert timeline.cpu_seconds == pytest.approx(120 / os.sysconf("SC_CLK_TCK"))


def test_the_server_is_seen(tmp_path: Path) -> None:
    timeline = Timeline(7, tmp_path)
    process(tmp_path, (30, 20), 512)
    timeline.take(1.0, 0, 0)
    (tmp_path / "7" / "stat").unlink()
    timeline.take(2.0, 0, 0)
    first, second = timeline.samples
    assert first.cpu_seconds == 50 / os.sysconf("SC_CLK_TCK")
    assert first.memory == 512 * os.sysconf("SC_PAGE_SIZE")
    assert (second.cpu_seconds, second.memory) == (None, None)


def test_the_children_of_the_server_count(tmp_path: Path) -> None:
    timeline = Timeline(7, tmp_path)
    process(tmp_path, (10, 0), 1, ended=(3, 4))
    process(tmp_path, (100, 0), 20, pid="8")
    (tmp_path / "7" / "task" / "7").mkdir(parents=True)
    (tmp_path / "7" / "task" / "7" / "children").write_text("8 9 ")  # the latter has just ended
    timeline.take(1.0, 0, 0)
    (sample,) = timeline.samples
    assert sample.cpu_seconds == 117 / os.sysconf("SC_CLK_TCK")
    assert sample.memory == 21 * os.sysconf("SC_PAGE_SIZE")
