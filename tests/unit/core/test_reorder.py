"""The reorder buffer; its invariants are checked after every step."""

import itertools
from collections.abc import Iterable

import pytest

from maze.core import Decoder, Reason, Reject, ReorderBuffer, ReorderBufferFullError, Run
from maze.core.reorder import RUN_BYTES

LARGEST = 2**63 - 1


class Buffer(ReorderBuffer):
    """A reorder buffer that states its invariants after every step."""

    def add(self, run: Run) -> list[Reject]:
        rejects = super().add(run)
        self._check()
        return rejects

    def enforce_limit(self) -> list[Reject]:
        try:
            return super().enforce_limit()
        finally:
            self._check()

    def give_up_gaps(self) -> list[Reject]:
        rejects = super().give_up_gaps()
        self._check()
        return rejects

    def take_ready(self, limit: int = 1_000_000) -> list[Run]:
        runs = super().take_ready(limit)
        self._check()
        return runs

    def put_back(self, runs: list[Run]) -> None:
        super().put_back(runs)
        self._check()

    def reset(self) -> None:
        super().reset()
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


# Order.


def test_what_comes_in_order_is_ready_at_once() -> None:
    buffer = filled(run(1), run(2, 5))
    assert (buffer.ready, buffer.waiting) == (4, 0)
    assert (buffer.next_sequence, buffer.missing_sequence) == (1, 5)
    assert buffer.take_numbers() == [1, 2, 3, 4]
    assert (buffer.next_sequence, buffer.missing_sequence, buffer.ready) == (5, 5, 0)


def test_what_comes_ahead_waits_for_what_is_missing() -> None:
    buffer = filled(run(3), run(2))
    assert (buffer.ready, buffer.waiting, buffer.missing_sequence) == (0, 2, 1)
    assert buffer.take_ready() == []
    buffer.add(run(1))
    assert (buffer.ready, buffer.waiting, buffer.missing_sequence) == (3, 0, 4)
    assert buffer.take_numbers() == [1, 2, 3]


@pytest.mark.parametrize("order", list(itertools.permutations(range(1, 6))))
def test_any_order_of_arrival_gives_the_one_order(order: tuple[int, ...]) -> None:
    buffer = filled(*map(run, order))
    assert buffer.take_numbers() == [1, 2, 3, 4, 5]


def test_the_first_number_is_1_unless_told() -> None:
    assert Buffer().next_sequence == 1
    assert filled(run(7), first_sequence=7).take_numbers() == [7]
    assert filled(run(0, 2), first_sequence=0).take_numbers() == [0, 1]


def test_a_number_below_the_first_is_stale() -> None:
    buffer = Buffer(5)
    assert buffer.add(run(3, 7)) == numbered(Reason.STALE, [3, 4])
    assert buffer.take_numbers() == [5, 6]


def test_the_largest_number_can_be_waited_for_and_routed() -> None:
    buffer = filled(run(LARGEST), run(LARGEST - 2, LARGEST), first_sequence=LARGEST - 3)
    assert buffer.waiting == 3
    buffer.add(run(LARGEST - 3))
    assert buffer.take_numbers() == [LARGEST - 3, LARGEST - 2, LARGEST - 1, LARGEST]
    assert buffer.next_sequence == 2**63


# Numbers seen before.


def test_a_number_seen_before_and_still_waiting_is_a_duplicate() -> None:
    buffer = filled(run(2, 4))
    assert buffer.add(run(3)) == numbered(Reason.DUPLICATE, [3])
    assert buffer.waiting == 2


def test_a_number_seen_before_with_other_bytes_is_a_conflict_and_the_first_one_wins() -> None:
    buffer = filled(run(2, 4))
    assert buffer.add(run(1, 4, "!")) == numbered(Reason.CONFLICT, [2, 3], "!")
    assert buffer.take_lines() == [line(1, "!"), line(2), line(3)]


def test_another_terminator_is_other_bytes() -> None:
    buffer = filled(run(2))
    (other,) = Decoder().feed(b"2|B\r\n")[0]
    assert buffer.add(other) == [Reject(Reason.CONFLICT, b"2|B\r\n", 2)]


def test_a_number_that_is_ready_but_not_yet_routed_is_a_duplicate_still() -> None:
    buffer = filled(run(1, 3))
    assert buffer.add(run(1)) == numbered(Reason.DUPLICATE, [1])
    assert buffer.add(run(2, None, "!")) == numbered(Reason.CONFLICT, [2], "!")


@pytest.mark.parametrize("mark", ["", "!"], ids=["same-bytes", "other-bytes"])
def test_a_number_already_routed_is_stale(mark: str) -> None:
    buffer = filled(run(1, 4))
    buffer.take_ready()
    assert buffer.add(run(2, 6, mark)) == numbered(Reason.STALE, [2, 3], mark)
    assert buffer.take_numbers() == [4, 5]
    assert buffer.add(run(1, None, mark)) == numbered(Reason.STALE, [1], mark)


ALLEN = {
    "before": ((2, 4), (6, 8)),
    "after": ((6, 8), (2, 4)),
    "meets": ((2, 4), (4, 6)),
    "met-by": ((4, 6), (2, 4)),
    "overlaps": ((2, 5), (4, 7)),
    "overlapped-by": ((4, 7), (2, 5)),
    "starts": ((2, 7), (2, 4)),
    "started-by": ((2, 4), (2, 7)),
    "during": ((2, 8), (4, 6)),
    "contains": ((4, 6), (2, 8)),
    "finishes": ((2, 7), (5, 7)),
    "finished-by": ((5, 7), (2, 7)),
    "equals": ((3, 6), (3, 6)),
}


@pytest.mark.parametrize("mark", ["", "!"], ids=["same-bytes", "other-bytes"])
@pytest.mark.parametrize(("held", "new"), ALLEN.values(), ids=ALLEN)
def test_of_two_runs_that_overlap_the_first_keeps_its_numbers(
    held: tuple[int, int], new: tuple[int, int], mark: str
) -> None:
    buffer = filled(run(*held))
    both = sorted({*range(*held)} & {*range(*new)})
    reason = Reason.CONFLICT if mark else Reason.DUPLICATE
    assert buffer.add(run(*new, mark)) == numbered(reason, both, mark)
    expected = {number: line(number, mark) for number in range(*new)}
    expected |= {number: line(number) for number in range(*held)}
    assert buffer.waiting == len(expected)
    buffer.give_up_gaps()
    assert buffer.take_lines() == [text for _, text in sorted(expected.items())]


def test_a_third_run_over_any_two_others_adds_what_is_new_and_nothing_else() -> None:
    intervals = list(itertools.combinations(range(1, 8), 2))
    for one, two, three in itertools.product(intervals, repeat=3):
        buffer, expected, rejected = Buffer(3), dict[int, bytes](), list[Reject]()
        for mark, interval in zip("abc", (one, two, three), strict=True):
            rejected += buffer.add(run(*interval, mark))
            for number in range(*interval):
                if number >= 3:
                    expected.setdefault(number, line(number, mark))
        seen = sum(end - first for first, end in (one, two, three))
        assert len(rejected) == seen - len(expected)
        buffer.give_up_gaps()
        assert buffer.take_lines() == [text for _, text in sorted(expected.items())]


def test_a_run_over_routed_ready_and_waiting_numbers_and_gaps() -> None:
    buffer = filled(run(1, 3))
    buffer.take_ready()
    buffer.add(run(3, 5))  # ready
    buffer.add(run(7, 9))  # waiting
    assert buffer.add(run(1, 11, "!")) == [
        *numbered(Reason.STALE, [1, 2], "!"),
        *numbered(Reason.CONFLICT, [3, 4, 7, 8], "!"),
    ]
    assert buffer.take_lines() == [
        *(line(number) for number in (3, 4)),
        *(line(number, "!") for number in (5, 6)),
        *(line(number) for number in (7, 8)),
        *(line(number, "!") for number in (9, 10)),
    ]


# Numbers that are used with nothing to deliver.


def test_a_void_number_counts_as_used_and_the_stream_does_not_stall_behind_it() -> None:
    buffer = filled(run(1), run(3))
    assert buffer.add(void(2)) == []
    assert buffer.ready == 3
    assert buffer.take_numbers() == [1, 3]
    assert buffer.next_sequence == 4


def test_a_valid_event_takes_the_place_of_a_void_number_that_waits() -> None:
    buffer = filled(void(2), void(4))
    assert buffer.add(run(1, 6)) == []
    assert buffer.take_numbers() == [1, 2, 3, 4, 5]


def test_a_valid_event_takes_the_place_of_a_void_number_that_is_ready() -> None:
    buffer = filled(void(1))
    assert buffer.ready == 1
    assert buffer.add(run(1)) == []
    assert buffer.ready == 1
    assert buffer.take_numbers() == [1]


def test_a_valid_event_comes_too_late_for_a_void_number_whose_turn_was() -> None:
    buffer = filled(void(1))
    assert buffer.take_numbers() == []
    assert buffer.next_sequence == 2
    assert buffer.add(run(1)) == numbered(Reason.STALE, [1])


def test_of_two_valid_events_for_a_void_number_the_first_one_wins() -> None:
    buffer = filled(void(2), run(2, None, "a"))
    assert buffer.add(run(2, None, "b")) == numbered(Reason.CONFLICT, [2], "b")
    assert buffer.add(run(2, None, "a")) == numbered(Reason.DUPLICATE, [2], "a")
    buffer.add(run(1))
    assert buffer.take_lines() == [line(1), line(2, "a")]


@pytest.mark.parametrize(
    ("held", "delivered"),
    [(run(1, 4), [1, 2, 3]), (run(2), [1, 2]), (void(2), [1])],
    ids=["inside-a-run", "run", "void"],
)
def test_a_void_number_never_takes_a_place_and_is_not_rejected_twice(
    held: Run, delivered: list[int]
) -> None:
    buffer = filled(held)
    before = (buffer.ready, buffer.waiting)
    assert buffer.add(void(2)) == []
    assert (buffer.ready, buffer.waiting) == before
    buffer.add(run(1))
    assert buffer.take_numbers() == delivered


def test_a_void_number_already_routed_is_not_rejected_twice() -> None:
    buffer = filled(run(1, 3))
    buffer.take_ready()
    assert buffer.add(void(1)) == []
    assert (buffer.ready, buffer.waiting, buffer.next_sequence) == (0, 0, 3)


def test_void_numbers_wait_as_events_do() -> None:
    buffer = Buffer(limit=2)
    for number in (3, 5, 7):
        buffer.add(void(number))
    assert buffer.waiting == 3
    assert buffer.enforce_limit() == [Reject(Reason.SKIPPED, sequence=1, count=2)]
    assert (buffer.ready, buffer.waiting) == (1, 2)


# Taking.


def test_whole_runs_are_taken_until_they_hold_as_many_as_asked_for() -> None:
    buffer = filled(run(1, 4), run(4), run(5, 9))
    assert buffer.take_ready(0) == []
    assert [len(each) for each in buffer.take_ready(1)] == [3]
    assert (buffer.next_sequence, buffer.ready) == (4, 5)
    assert [len(each) for each in buffer.take_ready(2)] == [1, 4]
    assert buffer.take_ready(1) == []


def test_void_numbers_are_taken_as_events_are() -> None:
    buffer = filled(void(1), run(2), void(3), run(4, 6))
    taken = buffer.take_ready(2)
    assert [(each.first, each.void) for each in taken] == [(1, True), (2, False)]
    taken = buffer.take_ready(3)
    assert [(each.first, each.void) for each in taken] == [(3, True), (4, False)]


def test_what_is_put_back_is_ready_again() -> None:
    buffer = filled(run(1, 5), void(5), run(6, 8), run(20))
    first, *others = buffer.take_ready()
    buffer.put_back([first.clip(3, 5), *others])
    assert (buffer.next_sequence, buffer.missing_sequence, buffer.ready) == (3, 8, 5)
    # They wait their turn as before.
    assert buffer.add(run(1, 5)) == [
        *numbered(Reason.STALE, [1, 2]),
        *numbered(Reason.DUPLICATE, [3, 4]),
    ]
    assert buffer.add(run(5)) == []
    assert buffer.take_numbers() == [3, 4, 5, 6, 7]


def test_nothing_put_back_changes_nothing() -> None:
    buffer = filled(run(1, 5))
    buffer.take_ready()
    buffer.put_back([])
    assert (buffer.next_sequence, buffer.ready) == (5, 0)


def test_what_waits_behind_a_gap_is_not_taken() -> None:
    buffer = filled(run(1), run(3))
    assert [each.first for each in buffer.take_ready()] == [1]
    assert (buffer.next_sequence, buffer.waiting) == (2, 1)


# Gaps.


def test_the_buffer_holds_exactly_its_limit_behind_a_gap() -> None:
    buffer = Buffer(limit=3)
    buffer.add(run(2, 5))
    assert buffer.enforce_limit() == []
    assert (buffer.ready, buffer.waiting) == (0, 3)
    buffer.add(run(5))
    assert buffer.enforce_limit() == [Reject(Reason.SKIPPED, sequence=1, count=1)]
    assert (buffer.ready, buffer.waiting) == (4, 0)
    assert buffer.take_numbers() == [2, 3, 4, 5]


def test_what_is_ready_does_not_count_against_the_limit() -> None:
    buffer = Buffer(limit=1)
    buffer.add(run(1, 100))
    buffer.add(run(101))
    assert buffer.enforce_limit() == []


def test_the_limit_is_applied_to_what_a_chunk_leaves_waiting() -> None:
    buffer = Buffer(limit=1)
    buffer.add(run(2, 5))
    buffer.add(run(1))
    assert buffer.enforce_limit() == []
    assert buffer.take_numbers() == [1, 2, 3, 4]


def test_skip_gives_up_the_lowest_gaps_and_no_more_than_it_must() -> None:
    buffer = Buffer(limit=2)
    for first in (3, 6, 9, 12):
        buffer.add(run(first))
    assert buffer.enforce_limit() == [
        Reject(Reason.SKIPPED, sequence=1, count=2),
        Reject(Reason.SKIPPED, sequence=4, count=2),
    ]
    assert buffer.missing_sequence == 7
    assert buffer.take_numbers() == [3, 6]
    assert (buffer.next_sequence, buffer.waiting) == (7, 2)


def test_a_run_behind_a_gap_that_is_given_up_brings_along_what_follows_it() -> None:
    buffer = Buffer(limit=1)
    buffer.add(run(5, 7))
    buffer.add(run(2, 4))
    buffer.add(run(4))
    assert buffer.enforce_limit() == [Reject(Reason.SKIPPED, sequence=1, count=1)]
    assert buffer.take_numbers() == [2, 3, 4, 5, 6]


def test_a_gap_is_given_up_behind_what_is_ready_and_not_yet_taken() -> None:
    buffer = Buffer(limit=1)
    buffer.add(run(1, 3))
    buffer.add(run(5, 8))
    assert buffer.enforce_limit() == [Reject(Reason.SKIPPED, sequence=3, count=2)]
    assert buffer.next_sequence == 1
    assert buffer.take_numbers() == [1, 2, 5, 6, 7]


def test_numbers_given_up_that_come_late_are_stale() -> None:
    buffer = Buffer(limit=1)
    buffer.add(run(4, 6))
    buffer.enforce_limit()
    assert buffer.add(run(2)) == numbered(Reason.STALE, [2])  # before the rest is taken
    assert buffer.add(run(1, 8)) == [
        *numbered(Reason.STALE, [1, 2, 3]),
        *numbered(Reason.DUPLICATE, [4, 5]),
    ]
    assert buffer.take_numbers() == [4, 5, 6, 7]
    assert buffer.add(run(1, 4)) == numbered(Reason.STALE, [1, 2, 3])


def test_a_void_number_given_up_that_comes_late_is_not_rejected_twice() -> None:
    buffer = filled(run(3))
    buffer.give_up_gaps()
    assert buffer.add(void(1)) == []
    assert buffer.take_numbers() == [3]


def test_fail_holds_exactly_the_limit_and_raises_beyond_it() -> None:
    buffer = Buffer(limit=3, gap_policy="fail")
    buffer.add(run(1))
    buffer.add(run(3, 6))
    assert buffer.enforce_limit() == []
    buffer.add(run(7))
    with pytest.raises(ReorderBufferFullError, match="number 2 is missing, 4 events wait") as full:
        buffer.enforce_limit()
    assert (full.value.missing, full.value.waiting) == (2, 4)


def test_fail_changes_nothing_in_the_buffer() -> None:
    buffer = Buffer(limit=1, gap_policy="fail")
    buffer.add(run(1))
    buffer.add(run(3, 5))
    with pytest.raises(ReorderBufferFullError):
        buffer.enforce_limit()
    assert (buffer.ready, buffer.waiting, buffer.missing_sequence) == (1, 2, 2)
    assert buffer.give_up_gaps() == [Reject(Reason.SKIPPED, sequence=2, count=1)]
    assert buffer.take_numbers() == [1, 3, 4]


def test_the_limit_is_100_000_and_the_policy_skip_unless_told() -> None:
    buffer = ReorderBuffer()
    buffer.add(run(2, 100_002))
    assert (buffer.waiting, buffer.enforce_limit()) == (100_000, [])
    buffer.add(run(100_002))
    assert buffer.enforce_limit() == [Reject(Reason.SKIPPED, sequence=1, count=1)]
    buffer._check()


# The bound in bytes.


def long_run(first: int, end: int) -> Run:
    """A run whose lines take a thousand bytes each."""
    lines = b"".join(b"%0998d|B\n" % number for number in range(first, end))
    (run,), _ = Decoder().feed(lines)
    return run


def test_what_waits_and_what_is_ready_is_counted_in_bytes_apart() -> None:
    buffer = filled(long_run(1, 11), long_run(12, 32))
    assert 10_000 < buffer.ready_bytes < 20_000
    assert 20_000 < buffer.waiting_bytes < 40_000
    total = buffer.ready_bytes + buffer.waiting_bytes
    buffer.add(run(11))
    assert buffer.waiting_bytes == 0
    assert total < buffer.ready_bytes < total + 1_000


def test_what_was_taken_is_counted_no_longer_and_what_was_put_back_is_again() -> None:
    buffer = filled(long_run(1, 11))
    before = buffer.ready_bytes
    taken = buffer.take_ready()
    assert buffer.ready_bytes == 0
    buffer.put_back(taken)
    assert buffer.ready_bytes == before
    buffer.reset()
    assert (buffer.ready_bytes, buffer.waiting_bytes) == (0, 0)


def test_what_was_seen_before_is_not_counted() -> None:
    buffer = filled(long_run(2, 12), void(20))
    before = buffer.waiting_bytes
    buffer.add(long_run(2, 12))
    assert buffer.waiting_bytes == before
    buffer.add(run(20))
    buffer.add(long_run(1, 2))
    buffer.give_up_gaps()
    buffer.take_ready()
    assert (buffer.ready_bytes, buffer.waiting_bytes) == (0, 0)


@pytest.mark.parametrize(("first", "ready"), [(1, True), (2, False)])
def test_an_event_in_the_place_of_a_malformed_line_is_counted_instead_of_it(
    first: int, ready: bool
) -> None:
    buffer = filled(void(first))
    buffer.add(long_run(first, first + 1))
    assert (buffer.ready_bytes if ready else buffer.waiting_bytes) > 1_000


def test_gaps_are_given_up_while_more_bytes_wait_than_may() -> None:
    buffer = Buffer(byte_limit=30_000)
    for first in (2, 13, 24):
        buffer.add(long_run(first, first + 10))
        rejects = buffer.enforce_limit()
    assert rejects == [Reject(Reason.SKIPPED, sequence=1, count=1)]
    assert buffer.waiting_bytes < 30_000
    assert (buffer.ready, buffer.waiting) == (10, 20)


def test_bytes_that_are_ready_are_no_reason_to_give_a_gap_up() -> None:
    buffer = Buffer(byte_limit=30_000)
    buffer.add(long_run(1, 101))
    buffer.add(run(102))
    assert buffer.enforce_limit() == []


def test_fail_raises_beyond_the_bytes_and_says_how_many() -> None:
    buffer = Buffer(byte_limit=10_000, gap_policy="fail")
    buffer.add(long_run(2, 12))
    with pytest.raises(ReorderBufferFullError) as full:
        buffer.enforce_limit()
    assert str(full.value) == (
        "sequence number 1 is missing, 10 events wait behind it "
        f"in {buffer.waiting_bytes} bytes of memory"
    )


def test_a_chunk_that_several_runs_keep_counts_once_and_until_the_last_has_gone() -> None:
    """How much a run keeps differs: in the compiled twin half of a chunk keeps all of it."""
    lines = [b"%0998d|B\n" % number for number in (*range(2, 12), *range(22, 32))]
    one, other = Decoder().feed(b"".join(lines))[0]
    chunks = dict(each.memory for each in (one, other))
    buffer = filled(one, other)
    assert buffer.waiting_bytes == sum(chunks.values()) + 2 * RUN_BYTES
    buffer.add(run(1))
    assert buffer.waiting_bytes == other.memory[1] + RUN_BYTES
    buffer.take_ready()
    assert buffer.waiting_bytes == other.memory[1] + RUN_BYTES
    buffer.give_up_gaps()
    assert buffer.ready_bytes == other.memory[1] + RUN_BYTES


def test_a_run_of_which_the_buffer_was_reset_can_be_held_again() -> None:
    runs = run(1), run(3, 5)
    buffer = filled(*runs)
    buffer.reset()
    for each in runs:
        buffer.add(each)
    assert buffer.ready_bytes + buffer.waiting_bytes > 0


def test_when_the_source_has_left_every_gap_is_given_up_in_order() -> None:
    buffer = filled(run(2), void(4), run(7, 9), run(1))
    assert buffer.give_up_gaps() == [
        Reject(Reason.SKIPPED, sequence=3, count=1),
        Reject(Reason.SKIPPED, sequence=5, count=2),
    ]
    assert (buffer.waiting, buffer.ready) == (0, 5)
    assert buffer.take_numbers() == [1, 2, 7, 8]
    assert buffer.next_sequence == 9


def test_without_gaps_there_is_nothing_to_give_up() -> None:
    assert Buffer().give_up_gaps() == []
    assert filled(run(1, 4)).give_up_gaps() == []


def test_a_jump_to_the_largest_number_costs_nothing_and_is_counted_whole() -> None:
    buffer = Buffer(limit=1)
    buffer.add(run(LARGEST))
    assert buffer.enforce_limit() == []
    buffer.add(run(LARGEST - 1))
    assert buffer.enforce_limit() == [Reject(Reason.SKIPPED, sequence=1, count=LARGEST - 2)]
    assert buffer.take_numbers() == [LARGEST - 1, LARGEST]
    assert buffer.next_sequence == 2**63
    assert buffer.add(run(1)) == numbered(Reason.STALE, [1])


def test_reset_forgets_everything_and_starts_again_from_the_first_number() -> None:
    buffer = filled(run(5, 7), void(9), first_sequence=5)
    buffer.take_ready(1)
    buffer.add(run(7))
    buffer.reset()
    assert (buffer.ready, buffer.waiting) == (0, 0)
    assert (buffer.next_sequence, buffer.missing_sequence) == (5, 5)
    assert buffer.take_ready() == []
    assert buffer.add(run(5, 10)) == []
    assert buffer.take_numbers() == [5, 6, 7, 8, 9]
