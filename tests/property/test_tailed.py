"""What a journal loses before it is on the disk is appended again, whatever happened before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from maze.core import Position
from maze.journal.journal import Batch
from maze.journal.tail import Tail
from maze.journal.tailed import TailedJournal

from .losing import LosingJournal

START = Position(1, 1)

STEPS = st.one_of(
    st.tuples(st.just("append"), st.integers(0, 3)),
    st.tuples(st.just("append"), st.integers(0, 3)),
    st.tuples(st.just("pass"), st.sampled_from([0.5, 1.0, 1.5, 2.5])),
    st.tuples(st.just("lose"), st.integers(1, 5)),
    st.tuples(st.just("lose and reset"), st.integers(1, 5)),
    st.tuples(st.just("reset"), st.just(0)),
)


class Writer:
    """Appends batches to a journal that loses some, by a clock that it moves itself."""

    def __init__(self, tail_bytes: int) -> None:
        self.now = 0.0
        self.slept = 0.0
        self.losing = LosingJournal(START, lambda: self.now)
        self.tail = Tail(tail_bytes, START)
        self.reports: list[str] = []
        self.journal = TailedJournal(
            *(self.losing, self.tail),
            report=self.reports.append,
            group_bytes=10,  # two or three batches
            clock=lambda: self.now,
            sleep=self.sleep,
        )
        self.fence = self.journal.lease()
        self.batches: list[Batch] = []
        self.losses = 0

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds

    def append(self, count: int) -> None:
        new = []
        for _ in range(count):
            epoch, first = self.position
            new.append(Batch(epoch, first, first + 1, b"%d|B\n" % first))
            self.batches.append(new[-1])
        assert self.journal.append(new, self.fence) == self.position

    def reset(self) -> None:
        self.batches.append(Batch(self.position.epoch + 1, 1, 1, b""))
        assert self.journal.append(self.batches[-1:], self.fence) == self.position

    @property
    def position(self) -> Position:
        return self.batches[-1].position if self.batches else START

    def do(self, step: str, value: float) -> None:
        match step:
            case "append":
                self.append(int(value))
            case "pass":
                self.now += value
            case "lose" | "lose and reset":
                self.losses += self.losing.lose(int(value), START) > 0
                self.append(0) if step == "lose" else self.reset()
            case "reset":
                self.reset()


@given(steps=st.lists(STEPS, max_size=12), tail_bytes=st.sampled_from([1, 1_000, 10_000]))
def test_nothing_that_was_confirmed_is_missing(
    steps: list[tuple[str, float]], tail_bytes: int
) -> None:
    writer = Writer(tail_bytes)
    for step, value in steps:
        writer.do(step, value)
        assert writer.losing._batches == writer.batches
        assert writer.tail.position == writer.position
        assert writer.tail.bytes < tail_bytes + 3 * 500
    assert len(writer.reports) == writer.journal.gaps == writer.losses


@given(steps=st.lists(STEPS, max_size=12))
def test_no_append_waits_unless_the_tail_is_full(steps: list[tuple[str, float]]) -> None:
    writer = Writer(10**6)
    for step, value in steps:
        writer.do(step, value)
    assert not writer.slept
