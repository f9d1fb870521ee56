"""Fuzz one target, guided by coverage: ``PYTHONPATH=tests python -m fuzz decoder --time 60s``.

New inputs are collected in ``.fuzz/TARGET``; what fails is written to ``.fuzz/TARGET-crash-*``
and run again by ``python -m fuzz TARGET FILE``. ``--keep`` adds to the kept corpus what
was collected and takes new ways through ``maze``.
"""

import argparse
import hashlib
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["maze"]):
    from maze.settings.option_types import duration

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
    parser.add_argument("--keep", action="store_true", help="add to the kept corpus")
    options = parser.parse_args()
    target = TARGETS[options.target]
    if options.file:
        target(options.file.read_bytes())
        return 0
    collected = FOLDER / options.target
    collected.mkdir(parents=True, exist_ok=True)
    unpacked = _unpack(options.target)
    if options.keep:
        return _keep(options.target, collected)
    flags = [f"-max_total_time={int(options.time)}", f"-runs={options.runs}"]
    flags += [f"-seed={options.seed}", f"-max_len={LONGEST_INPUT}", "-print_final_stats=1"]
    flags += [f"-artifact_prefix={FOLDER}/{options.target}-", "-timeout=10"]
    atheris.Setup([sys.argv[0], *flags, str(collected), str(unpacked)], target)
    atheris.Fuzz()
    return 0  # not reached: libFuzzer ends the process


def _unpack(target: str) -> Path:
    """The kept corpus as libFuzzer wants it: a file for each input."""
    folder = FOLDER / f"{target}-kept"
    folder.mkdir(parents=True, exist_ok=True)
    for data in corpus.load(target):
        (folder / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)
    return folder


def _keep(target: str, collected: Path) -> int:
    kept = corpus.load(target)
    more = [file.read_bytes() for file in collected.iterdir()]
    result = corpus.grown(TARGETS[target], kept, more)
    corpus.save(target, result)
    print(f"{len(result) - len(kept)} of {len(more)} inputs were added to {len(kept)} kept")
    return 0


if __name__ == "__main__":
    sys.exit(main())
