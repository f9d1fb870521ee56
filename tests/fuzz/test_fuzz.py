"""The kept corpus, a short run of the fuzzer, and that both would find a defect."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from maze.core import events, id_syntax
from maze.core import proxy_header as core_proxy_header

from . import corpus
from .targets import TARGETS

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("target", TARGETS)
def test_kept_inputs(target: str) -> None:
    for data in corpus.load(target):
        TARGETS[target](data)


@pytest.mark.parametrize("target", TARGETS)
def test_short_run_finds_nothing(target: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="there is no fuzzer for this interpreter")
    run = _fuzz(tmp_path, target, "--runs", "10000", "--time", "60s", "--seed", "1")
    assert run.returncode == 0, run.stderr[-5_000:]
    assert "Done " in run.stderr


def test_run_writes_down_what_it_finds(tmp_path: Path) -> None:
    """The input that failed is in a file, and run alone it fails again."""
    pytest.importorskip("atheris", reason="there is no fuzzer for this interpreter")
    broken = "from maze.core import events; events.NUMBER_LIMIT = 2**63 + 1"
    (tmp_path / "sitecustomize.py").write_text(broken)
    assert _fuzz(tmp_path, "decoder", "--time", "60s").returncode != 0
    (crash,) = (tmp_path / ".fuzz").glob("decoder-crash-*")
    again = _fuzz(tmp_path, "decoder", str(crash))
    assert "AssertionError" in again.stderr


def _fuzz(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(map(str, (folder, TESTS, TESTS.parent)))
    return subprocess.run(
        [sys.executable, "-m", "fuzz", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


DEFECTS = {
    "proxy_header": (core_proxy_header, "MAX_V1_BYTES", 200),
    "decoder": (events, "NUMBER_LIMIT", 2**63 + 1),
    "handshake": (id_syntax, "parse_number", lambda field: int(field) if field.isdigit() else None),
}


@pytest.mark.parametrize("target", TARGETS)
def test_kept_inputs_find_a_defect(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*DEFECTS[target])
    with pytest.raises(AssertionError):
        test_kept_inputs(target)


def test_corpus_grows_by_what_takes_a_new_way() -> None:
    one, two, bad = b"\0\x001|B\n", b"\0\x002|B\n", b"\0\x001|X\n"
    kept = corpus.grown(TARGETS["decoder"], [one, two], [one, two, bad])
    assert kept == [one, two, bad]
    assert corpus.grown(TARGETS["decoder"], kept, [one, two, bad]) == kept
