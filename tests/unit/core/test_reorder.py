"""The reorder buffer: order, numbers seen before, taking."""

import itertools

import pytest

from maze.core import Decoder, Reason, Reject, Run

from .reordering import LARGEST, Buffer, filled, line, numbered, run, void

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


# The end of the stream.


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
