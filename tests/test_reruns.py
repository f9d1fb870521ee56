"""Only tests about real time are run again, and only in CI."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

FAILING_ONCE = """
import pathlib, pytest

def fail_once(name):
    ran = pathlib.Path(__file__).with_name(name)
    if not ran.exists():
        ran.touch()
        pytest.fail("the first time")

@pytest.mark.realtime
def test_marked():
    fail_once("marked")

def test_unmarked():
    fail_once("unmarked")
"""


@pytest.mark.parametrize(
    ("environment", "counts"),
    [
        ({"CI": "true"}, {"failed": 1, "passed": 1, "rerun": 1}),
        ({}, {"failed": 2}),
        (
            {"CI": "true", "GEVENT_MONITOR_THREAD_ENABLE": "1"},
            {"passed": 2, "rerun": 2},
        ),
    ],
    ids=["in CI", "at home", "under the watch"],
)
def test_a_test_is_run_again_if_it_is_about_real_time(
    tmp_path: Path, environment: dict[str, str], counts: dict[str, int]
) -> None:
    (tmp_path / "test_once.py").write_text(FAILING_ONCE)
    ours = {"CI", "GEVENT_MONITOR_THREAD_ENABLE", "PYTEST_ADDOPTS"}
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    command = [sys.executable, "-m", "pytest", "-p", "reruns", "-p", "no:cacheprovider", "-rR"]
    run = subprocess.run(
        [*command, "--rootdir", str(tmp_path), str(tmp_path)],
        env=inherited | {"PYTHONPATH": str(TESTS)} | environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    found = re.findall(r"(\d+) (failed|passed|rerun)", run.stdout.splitlines()[-1])
    assert {kind: int(count) for count, kind in found} == counts, run.stdout
    assert run.stdout.count("\nRERUN ") == counts.get("rerun", 0)
