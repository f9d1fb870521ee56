"""Some runs with fixed seeds, and servers without a safeguard, which the runs must find.

``python -m chaos`` does the same for longer (``make chaos``).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from redis_server import program

from .plan import FAULTS, MOMENTS, makes_sense, plan_of
from .scenarios import SCENARIOS

ROOT = Path(__file__).parents[2]
TIMEOUT = 200
"""Maximum seconds of a run; it takes five to ten on an idle machine."""

SEEDS = {
    "parent": (1, 22),
    "feed": (4, 6, 12),
    "redis": (3, 20, 44),
    "sentinel": (38,),
}
"""Runs that together take about a minute, by form."""

pytestmark = pytest.mark.timeout(TIMEOUT + 20)


def chaos(folder: Path, *arguments: str) -> str:
    """Run ``python -m chaos``, which must succeed; return what it prints.

    A process of its own, because it makes the whole standard library cooperate with gevent.
    """
    run = subprocess.run(
        [sys.executable, "-m", "chaos", "--folder", str(folder), *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT / "tests")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    return run.stdout


@pytest.mark.parametrize(
    ("form", "seed"),
    [(form, seed) for form, seeds in SEEDS.items() for seed in seeds],
    ids=str,
)
def test_nobody_notices_a_fault(tmp_path: Path, form: str, seed: int) -> None:
    if form in ("redis", "sentinel"):
        program()
    told = chaos(tmp_path, "--seed", str(seed))
    assert told.startswith(f"seed {seed}: {form}, ")
    assert not list(tmp_path.iterdir())  # only a run that fails leaves something


@pytest.mark.parametrize("mutant", SCENARIOS)
def test_a_server_without_a_safeguard_is_found(tmp_path: Path, mutant: str) -> None:
    program()
    assert chaos(tmp_path, "--mutant", mutant).startswith(f"{mutant} was found: ")


def test_a_seed_determines_its_run() -> None:
    plans = [plan_of(seed) for seed in range(500)]
    assert plans == [plan_of(seed) for seed in range(500)]
    assert all(makes_sense(*plan[1:]) for plan in plans)
    targets = {(plan.form, plan.target) for plan in plans}
    assert targets == {(form, target) for form, each in FAULTS.items() for target in each}
    assert {plan.moment for plan in plans} == set(MOMENTS)


def test_without_redis_one_line_says_so(tmp_path: Path) -> None:
    path = tmp_path / "bin"
    path.mkdir()
    for name in ("setpriv", "env"):
        (path / name).symlink_to(str(shutil.which(name)))
    run = subprocess.run(
        [sys.executable, "-m", "chaos", "--folder", str(tmp_path / "runs"), "--form", "redis"],
        cwd=ROOT,
        env={"PATH": str(path), "PYTHONPATH": str(ROOT / "tests")},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.splitlines()[0] == "redis-server is not installed: its forms are skipped"
