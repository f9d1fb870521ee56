"""The inputs that are kept: a file for each target, one input a line, as Python writes bytes."""

import ast
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any

FOLDER = Path(__file__).parent / "corpus"
MAZE = str(Path(__file__).parents[2] / "maze")

Step = tuple[str, int, int]
"""(file, the line before, the line)"""


def load(target: str) -> list[bytes]:
    """The kept inputs of a target."""
    lines = (FOLDER / f"{target}.txt").read_text("ascii").splitlines()
    return [ast.literal_eval(line) for line in lines]


def save(target: str, inputs: Iterable[bytes]) -> None:
    """Keep these."""
    lines = [repr(data) for data in inputs]
    (FOLDER / f"{target}.txt").write_text("".join(f"{line}\n" for line in lines), "ascii")


def grown(run: Callable[[bytes], None], kept: list[bytes], more: Iterable[bytes]) -> list[bytes]:
    """What is kept, and those that take steps through ``maze`` which no shorter one takes."""
    seen: set[tuple[Step, int]] = set()
    for data in kept:
        seen |= _steps(run, data)
    result = list(kept)
    for data in sorted(set(more), key=lambda data: (len(data), data)):
        steps = _steps(run, data)
        if not steps <= seen:
            seen |= steps
            result.append(data)
    return result


def _steps(run: Callable[[bytes], None], data: bytes) -> set[tuple[Step, int]]:
    """Which lines follow on which, each with how often, as a power of two."""
    counts: dict[Step, int] = {}

    def trace(frame: FrameType, _: str, __: Any) -> Any:
        if not frame.f_code.co_filename.startswith(MAZE):
            return None
        before = 0

        def step(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal before
            if event == "line":
                key = (frame.f_code.co_filename, before, frame.f_lineno)
                counts[key] = counts.get(key, 0) + 1
                before = frame.f_lineno
            return step

        return step

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run(data)
    finally:
        sys.settrace(before)
    return {(key, count.bit_length()) for key, count in counts.items()}
