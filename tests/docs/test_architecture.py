"""The walks of docs/architecture.md are those that the server takes, and they are short."""

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

ROOT = Path(__file__).parents[2]
WALKS = ("chunk", "journal", "client", "returning", "request", "shutdown")


def told(walk: str) -> list[tuple[str, str]]:
    """Return the functions that the document names for a walk, with their files."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.partition(f"<!-- walk: {walk} -->")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `(\S+\.py)` \| (.+?) \|", table, re.MULTILINE)
    return [(file, name) for file, names in rows for name in re.findall(r"`(\S+)`", names)]


@cache
def taken() -> dict[str, set[tuple[str, str]]]:
    """Return the functions that the server calls in each walk."""
    walks = traced()
    with TemporaryDirectory() as folder:
        walks["journal"] = traced(f"{folder}/journal")["chunk"]
    return walks


def traced(*arguments: str) -> dict[str, set[tuple[str, str]]]:
    """Return what ``docs.walks`` prints."""
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    output = subprocess.run(
        [sys.executable, "-m", "docs.walks", *arguments],
        env=os.environ | {"PYTHONPATH": path, "MAZE_PURE": "1"},
        check=True,
        capture_output=True,
        timeout=100,
    ).stdout
    return {name: set(map(tuple, calls)) for name, calls in json.loads(output).items()}


@pytest.mark.parametrize("walk", WALKS)
def test_every_function_of_a_walk_is_called(walk: str) -> None:
    running = set().union(*taken().values())  # loops that began in an earlier walk go on
    loops = {(file, name) for file, name in told(walk) if name.endswith((".run", "._receive"))}
    assert set(told(walk)) - loops <= taken()[walk]
    assert loops <= running


@pytest.mark.parametrize("walk", WALKS)
def test_a_walk_names_few_files_and_functions(walk: str) -> None:
    functions = set(told(walk))
    assert functions
    assert len({file for file, _ in functions}) <= 10
    assert len(functions) <= 30
