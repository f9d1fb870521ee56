"""Fuzz one target, guided by coverage: ``PYTHONPATH=tests python -m fuzz decoder --time 60s``.

New inputs are collected in ``.fuzz/TARGET``; what fails is written to ``.fuzz/TARGET-crash-*``
and run again by ``python -m fuzz TARGET FILE``. ``--keep`` merges what was collected into the
kept corpus, without what adds no coverage.
"""

import argparse
import hashlib
import subprocess
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["maze"]):
    from maze.units import duration

    from . import corpus
    from .targets import TARGETS

FOLDER = Path(".fuzz")
LONGEST_INPUT = 160


def main() -> int:
    """Run libFuzzer, or one input."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("file", type=Path, nargs="?", help="run this input only")
    parser.add_argument("--time", type=duration("1s", "24h"), default=60.0, help="for how long")
    parser.add_argument("--runs", type=int, default=-1, help="how many inputs at most")
    parser.add_argument("--seed", type=int, default=0, help="0 is another one in each run")
    parser.add_argument("--keep", action="store_true", help="merge into the kept corpus")
    options = parser.parse_args()
    target = TARGETS[options.target]
    if options.file:
        target(options.file.read_bytes())
        return 0
    collected = FOLDER / options.target
    collected.mkdir(parents=True, exist_ok=True)
    unpacked = _unpack(options.target)
    if options.keep:
        return _keep(options.target, collected, unpacked)
    flags = [f"-max_total_time={int(options.time)}", f"-runs={options.runs}"]
    flags += [f"-seed={options.seed}", f"-max_len={LONGEST_INPUT}", "-print_final_stats=1"]
    flags += [f"-artifact_prefix={FOLDER}/{options.target}-", "-timeout=10"]
    _fuzz(options.target, [*flags, str(collected), str(unpacked)])
    return 0  # not reached: libFuzzer ends the process


def _fuzz(target: str, flags: list[str]) -> None:
    atheris.Setup([sys.argv[0], *flags], TARGETS[target])
    atheris.Fuzz()


def _unpack(target: str) -> Path:
    """The kept corpus as libFuzzer wants it: a file for each input."""
    folder = FOLDER / f"{target}-kept"
    folder.mkdir(parents=True, exist_ok=True)
    for data in corpus.load(target):
        (folder / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)
    return folder


def _keep(target: str, *folders: Path) -> int:
    """Have libFuzzer choose what adds coverage, in a process of its own, and keep that."""
    merged = FOLDER / f"{target}-merged"
    merged.mkdir(exist_ok=True)
    for old in merged.iterdir():
        old.unlink()
    flags = ["-merge=1", *map(str, (merged, *folders))]
    code = f"from fuzz.__main__ import _fuzz; _fuzz({target!r}, {flags!r})"
    subprocess.run([sys.executable, "-c", code], check=True)
    count = corpus.save(target, (file.read_bytes() for file in merged.iterdir()))
    print(f"{count} inputs are kept for {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
