"""A short soak, and tests that the soak's checks find errors."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from end_to_end.peers import Client

from .clients import Checked
from .growth import Growth, Sample
from .stream import Stream

TESTS = Path(__file__).parents[1]
REST: Sample = {
    "seconds": 0,
    "resident_bytes": 40e6,
    "descriptors": 29,
    "greenlets": 24,
    "sessions": 20,
    "sources": 0,
    "held_bytes": 0,
}


@pytest.mark.timeout(200)
def test_short_soak(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "soak", "--time", "25s", "--folder", str(tmp_path)],
        cwd=TESTS.parent,
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "lines checked" in run.stdout
    assert (tmp_path / "soak.svg").stat().st_size > 10_000


class Lines(Client):
    """A client that receives the given lines."""

    def __init__(self, lines: list[bytes]) -> None:
        self.data = b"".join(lines)

    def _receive(self, size: int) -> bytes:
        data, self.data = self.data[:size], self.data[size:]
        return data


def _checked(lines: list[bytes], stream: Stream, index: int | None) -> Checked:
    client = Checked(Lines(lines), 3)
    client.begin(stream, index)
    client.read_on()
    return client


def test_client_accepts_the_expected_lines_from_any_line_on() -> None:
    stream = Stream(random.Random(1), 1_000, gaps=True)
    lines = stream.expected[3]
    assert _checked(lines, stream, 0).has_all()
    assert _checked(lines[100:], stream, None).has_all()
    assert not _checked(lines[:-1], stream, 0).has_all()
    assert not _checked([*lines, b"7"], stream, 0).has_all()


def test_client_finds_a_missing_doubled_changed_or_swapped_line() -> None:
    stream = Stream(random.Random(1), 1_000, gaps=True)
    lines = stream.expected[3]
    assert lines[5] != lines[6]
    wrong = {
        "missing": [*lines[:5], *lines[6:]],
        "doubled": [*lines[:5], *lines[4:]],
        "swapped": [*lines[:5], lines[6], lines[5], *lines[7:]],
        "changed": [*lines[:5], b"0" + lines[5], *lines[6:]],
        "one too many": [*lines, lines[0]],
    }
    for name, received in wrong.items():
        with pytest.raises(AssertionError, match="user 3 got"):
            pytest.fail(f"{name} was accepted: {_checked(received, stream, 0)}")
    with pytest.raises(AssertionError, match="not for them"):
        _checked([b"1|P|9|9\n"], stream, None)


@pytest.mark.parametrize("name", ["sessions", "sources", "descriptors", "greenlets", "held_bytes"])
def test_growth_of_a_count_by_one_is_found(name: str) -> None:
    growth = Growth()
    growth.resting.append(REST)
    growth.end_warm_up()
    assert growth.excess(REST, 20) == ""
    assert name in growth.excess(REST | {name: REST[name] + 1}, 20)


def test_growth_of_memory_is_found_and_its_peaks_are_not_growth() -> None:
    growth = Growth()
    growth.resting.append(REST)
    growth.end_warm_up()
    peak = REST | {"resident_bytes": 90e6}
    growth.resting += [peak] * 50 + [REST, peak]
    growth.check_memory()
    growth.resting += [peak] * 50
    with pytest.raises(AssertionError, match="resident memory grew"):
        growth.check_memory()
