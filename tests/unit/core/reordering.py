"""A reorder buffer that checks its invariants, and the runs to fill it with."""

import sys
from collections.abc import Iterable

from maze.core import Decoder, Reason, Reject, ReorderBuffer, Run

LARGEST = 2**63 - 1


class Buffer(ReorderBuffer):
    """A reorder buffer that states its invariants after every step."""

    def add(self, *runs: Run) -> list[Reject]:
        rejects = super().add(*runs)
        self._check()
        return rejects

    def enforce_limit(self) -> list[Reject]:
        try:
            return super().enforce_limit()
        finally:
            self._check()

    def give_up_gaps(self, below: int = sys.maxsize) -> list[Reject]:
        rejects = super().give_up_gaps(below)
        self._check()
        return rejects

    def advance(self) -> bool:
        moved = super().advance()
        self._check()
        return moved

    def take_ready(self, limit: int = 1_000_000) -> list[Run]:
        runs = super().take_ready(limit)
        self._check()
        return runs

    def put_back(self, runs: list[Run]) -> None:
        super().put_back(runs)
        self._check()

    def reset(self, first: int | None = None) -> None:
        super().reset(first)
        self._check()

    def take_lines(self) -> list[bytes]:
        """Take all that is ready."""
        return [run.line(number) for run, number in self._take()]

    def take_numbers(self) -> list[int]:
        return [number for _, number in self._take()]

    def _take(self) -> list[tuple[Run, int]]:
        runs = [run for run in self.take_ready() if not run.void]
        return [(run, number) for run in runs for number in range(run.first, run.end)]


def line(number: int, mark: str = "") -> bytes:
    """An event; with another mark it is another event with the same number."""
    return (f"{number}|S|{ord(mark)}\n" if mark else f"{number}|B\n").encode()


def run(first: int, end: int | None = None, mark: str = "") -> Run:
    """The run of the numbers first to end - 1, of one number without end."""
    numbers = range(first, first + 1 if end is None else end)
    (run,), _ = Decoder().feed(b"".join(line(number, mark) for number in numbers))
    return run


def void(number: int) -> Run:
    (run,), _ = Decoder().feed(b"%d|X\n" % number)
    return run


def filled(*runs: Run, first_sequence: int = 1) -> Buffer:
    buffer = Buffer(first_sequence)
    for each in runs:
        buffer.add(each)
    return buffer


def numbered(reason: Reason, numbers: Iterable[int], mark: str = "") -> list[Reject]:
    return [Reject(reason, line(number, mark), number) for number in numbers]
