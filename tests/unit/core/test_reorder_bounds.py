"""The reorder buffer: gaps, and the bounds on what waits behind them."""

import pytest

from maze.core import Decoder, Reason, Reject, ReorderBuffer, ReorderBufferFullError, Run
from maze.core.reorder import MAX_RUNS, RUN_BYTES, STEP_GAPS

from .reordering import LARGEST, Buffer, filled, numbered, run, void

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


def test_only_the_missing_numbers_below_a_number_are_given_up() -> None:
    buffer = filled(run(3), run(6), run(9))
    assert buffer.give_up_gaps(below=7) == [
        Reject(Reason.SKIPPED, sequence=1, count=2),
        Reject(Reason.SKIPPED, sequence=4, count=2),
    ]
    assert buffer.give_up_gaps(below=7) == []
    assert (buffer.missing_sequence, buffer.waiting) == (7, 1)
    assert buffer.take_numbers() == [3, 6]


def test_a_gap_can_be_given_up_in_part() -> None:
    buffer = filled(run(9))
    assert buffer.give_up_gaps(below=5) == [Reject(Reason.SKIPPED, sequence=1, count=4)]
    assert (buffer.missing_sequence, buffer.waiting, buffer.ready) == (5, 1, 0)
    assert buffer.add(run(4)) == numbered(Reason.STALE, [4])
    buffer.add(run(5, 9))
    assert buffer.take_numbers() == [5, 6, 7, 8, 9]


def test_the_end_is_behind_the_highest_number_held() -> None:
    buffer = Buffer(5)
    assert buffer.end == 5
    buffer.add(run(5, 7))
    assert buffer.end == 7
    buffer.add(run(20, 23))
    buffer.add(run(10))
    assert buffer.end == 23
    buffer.take_ready()
    assert buffer.end == 23
    buffer.give_up_gaps()
    buffer.take_ready()
    assert buffer.end == 23


def test_the_gap_is_from_the_missing_number_to_the_first_that_waits() -> None:
    buffer = Buffer(5)
    assert buffer.gap is None
    buffer.add(run(20))
    buffer.add(run(10))
    assert buffer.gap == (5, 10)
    buffer.add(run(5, 8))
    assert buffer.gap == (8, 10)
    buffer.add(run(8, 10))
    assert buffer.gap == (11, 20)
    buffer.give_up_gaps()
    assert buffer.gap is None


def test_there_is_no_gap_before_runs_that_only_have_to_be_made_ready() -> None:
    buffer = Buffer(step=1)
    buffer.add(run(2), run(3), run(4))
    buffer.add(run(1))
    assert buffer.waiting == 2
    assert buffer.gap is None


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


def test_gaps_are_given_up_in_steps() -> None:
    count = 2 * STEP_GAPS + STEP_GAPS // 2
    every_other = [run(2 * number) for number in range(1, count + 1)]
    for step in (ReorderBuffer.enforce_limit, ReorderBuffer.give_up_gaps):
        buffer = ReorderBuffer(limit=0)
        for each in every_other:
            buffer.add(each)
        steps = []
        while rejects := step(buffer):
            steps.append(len(rejects))
        assert steps == [STEP_GAPS, STEP_GAPS, STEP_GAPS // 2]
        assert (buffer.waiting, buffer.ready) == (0, count)


# What is ready is made so in steps.


def test_many_runs_behind_one_gap_are_made_ready_in_steps() -> None:
    buffer = ReorderBuffer(limit=100, step=3)
    buffer.add(*[run(number) for number in range(11, 1, -1)])
    buffer.add(run(1))
    seen = [(buffer.ready, buffer.waiting)]
    while buffer.advance():
        buffer._check()
        seen.append((buffer.ready, buffer.waiting))
    assert seen == [(4, 7), (7, 4), (10, 1), (11, 0)]
    assert buffer.next_sequence == 1
    assert [each.first for each in buffer.take_ready(100)] == list(range(1, 12))


def test_what_is_about_to_be_made_ready_is_behind_no_gap() -> None:
    buffer = ReorderBuffer(limit=2, gap_policy="fail", step=1)
    buffer.add(*[run(number) for number in range(6, 1, -1)], run(1))
    assert (buffer.ready, buffer.waiting) == (2, 4)
    assert buffer.enforce_limit() == []
    assert buffer.give_up_gaps() == []
    assert buffer.add(run(1, 8, "x")) == numbered(Reason.CONFLICT, range(1, 7), "x")
    while buffer.advance():
        buffer._check()
    assert (buffer.ready, buffer.waiting) == (7, 0)


def test_runs_behind_gaps_that_are_given_up_are_made_ready_in_steps() -> None:
    for give_up in (ReorderBuffer.enforce_limit, ReorderBuffer.give_up_gaps):
        buffer = ReorderBuffer(limit=0, step=2)
        numbers = [2, 3, 4, 5, 7, 8, 10]
        buffer.add(*map(run, numbers))
        skipped, ready = [], []
        while (rejects := give_up(buffer)) or buffer.advance():
            buffer._check()
            skipped += [reject.sequence for reject in rejects]
            ready.append(buffer.ready)
        assert skipped == [1, 6, 9]
        assert ready == [2, 4, 6, 7]
        assert [each.first for each in buffer.take_ready(100)] == numbers


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


def test_no_more_runs_are_taken_in_one_go_than_a_moment_allows() -> None:
    buffer = ReorderBuffer()
    for number in range(MAX_RUNS + 1, 0, -1):
        buffer.add(run(number))
    assert len(buffer.take_ready(1_000_000)) == MAX_RUNS
    assert (buffer.next_sequence, buffer.ready) == (MAX_RUNS + 1, 1)
    assert len(buffer.take_ready(1_000_000)) == 1
    buffer._check()
