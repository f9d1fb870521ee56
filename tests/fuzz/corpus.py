"""The inputs that are kept: a file for each target, one input a line, as Python writes bytes."""

import ast
from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).parent / "corpus"


def load(target: str) -> list[bytes]:
    """The kept inputs of a target."""
    lines = (FOLDER / f"{target}.txt").read_text("ascii").splitlines()
    return [ast.literal_eval(line) for line in lines]


def save(target: str, inputs: Iterable[bytes]) -> int:
    """Keep these, shortest first; returns how many they are."""
    lines = [repr(data) for data in sorted(set(inputs), key=lambda data: (len(data), data))]
    (FOLDER / f"{target}.txt").write_text("".join(f"{line}\n" for line in lines), "ascii")
    return len(lines)
