"""A server that is killed, or loses power, in mid-run: each client gets its exact bytes.

``python -m tests.faults.crashes`` does the same for longer (``make crashes``).
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from .crashes import ROOT, Crashes, planned
from .power_cut import LOG_HEADER, SECTOR, changed_sectors, power_cut

EVENTS = 30_000
SECONDS = (1.0, 1.5)
"""So long does the source send: long enough for the kills to come in mid-run."""


@pytest.mark.parametrize(
    "crashes",
    [
        pytest.param(Crashes(5, 2, EVENTS, False, SECONDS, [0]), id="2 kills"),
        pytest.param(Crashes(1, 3, EVENTS, False, SECONDS, [0]), id="3 kills"),
        pytest.param(Crashes(2, 2, EVENTS, False, SECONDS, [2]), id="2 kills of all processes"),
        pytest.param(Crashes(6, 2, EVENTS, True, SECONDS), id="2 power cuts"),
    ],
)
def test_every_client_gets_exactly_its_bytes(
    tmp_path: Path, crashes: Crashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    crashes.run(tmp_path)


def test_the_runs_together_have_as_many_kills_as_asked_for() -> None:
    runs = planned(100, False, 1, 1_000)
    assert sum(run.kills for run in runs) == 100
    assert len({run.seed for run in runs}) == len(runs)


# What a power cut leaves.

LOG = b"h" * LOG_HEADER + b"a" * 10 * SECTOR


def cuts(safe: list[bytes], written: list[bytes]) -> list[list[bytes]]:
    return [power_cut(safe, written, Random(seed)) for seed in range(100)]


def test_a_power_cut_leaves_some_of_the_sectors_that_were_not_synced() -> None:
    written = LOG + b"b" * 5 * SECTOR
    left = cuts([b"d", LOG], [b"d", written])
    assert all(database == b"d" and log.startswith(LOG) for database, log in left)
    sizes = {changed_sectors(written, log[: len(written)]) for _, log in left}
    assert {0, 6} < sizes  # 5 sectors and parts of two others
    assert any(len(log) > len(written) for _, log in left)  # garbage


def test_a_log_that_begins_anew_has_its_header_before_all_else() -> None:
    written = b"H" * LOG_HEADER + b"b" * 10 * SECTOR
    logs = {log[: len(LOG)] for _, log in cuts([b"d", LOG], [b"d", written])}
    assert LOG in logs
    assert all(log.startswith(b"H") for log in logs - {LOG})
    assert len(logs) > 10


def test_a_database_is_written_only_after_its_log_is_synced() -> None:
    before, after = b"c" * 8 * SECTOR, b"d" * 8 * SECTOR
    left = cuts([before, LOG], [after, LOG + b"b"])
    assert {log for _, log in left} == {LOG + b"b"}
    assert {changed_sectors(before, database) for database, _ in left} >= {0, 8}
