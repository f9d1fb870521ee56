"""The runs that were routed last: what is kept, and what is dropped."""

import pytest

from maze.core import Decoder, Recent, Run, lines_of
from maze.core.recent import RUN_BYTES

MANY = 10**9


def runs_of(*numbers: int) -> list[Run]:
    """Each number in a chunk of its own."""
    return [Decoder().feed(b"%d|B\n" % number)[0][0] for number in numbers]


def recent_from(number: int, max_events: int = MANY, max_bytes: int = MANY) -> Recent:
    recent = Recent(max_events, max_bytes)
    recent.begin(number)
    return recent


def kept(recent: Recent) -> list[tuple[int, int]]:
    return [(run.first, run.end) for run in recent.runs_from(0)]


def test_nothing_is_kept_at_first() -> None:
    recent = recent_from(7)
    assert (recent.kept_from, recent.end, recent.events, recent.bytes) == (7, 7, 0, 0)
    assert kept(recent) == []


def test_runs_are_kept_up_to_the_end_of_the_batch() -> None:
    """A batch may be cut in a run; the rest of the run comes with the next batch."""
    runs, _ = Decoder().feed(b"".join(b"%d|B\n" % number for number in (1, 2, 3, 4, 5, 8)))
    recent = recent_from(1)
    recent.add(runs, 3)
    assert (kept(recent), recent.end, recent.events) == ([(1, 3)], 3, 2)
    recent.add([runs[0].clip(3, 6), runs[1]], 6)
    assert (kept(recent), recent.end, recent.events) == ([(1, 3), (3, 6)], 6, 5)
    recent.add(runs[1:], 9)
    assert (kept(recent), recent.end, recent.events) == ([(1, 3), (3, 6), (8, 9)], 9, 6)
    assert lines_of(list(recent.runs_from(0))) == b"1|B\n2|B\n3|B\n4|B\n5|B\n8|B\n"
    assert recent.kept_from == 1


def test_numbers_without_an_event_are_not_kept_but_pass() -> None:
    runs, _ = Decoder().feed(b"2|X\n4|B\n")
    runs.sort(key=lambda run: run.first)
    recent = recent_from(1)
    recent.add(runs, 9)
    assert (kept(recent), recent.kept_from, recent.end, recent.events) == ([(4, 5)], 1, 9, 1)
    recent.add([], 10)
    assert recent.end == 10


def test_the_runs_around_a_number() -> None:
    recent = recent_from(1)
    runs, _ = Decoder().feed(b"1|B\n2|B\n3|B\n6|B\n8|B\n")
    recent.add(runs, 10)
    after = [[run.first for run in recent.runs_from(number)] for number in range(11)]
    assert after == [[1, 6, 8]] * 4 + [[6, 8]] * 3 + [[8]] * 2 + [[]] * 2
    before = [[run.first for run in recent.runs_before(number)] for number in range(11)]
    assert before == [[]] * 2 + [[1]] * 5 + [[6, 1]] * 2 + [[8, 6, 1]] * 2


def test_the_oldest_runs_are_dropped_beyond_the_bound_on_events() -> None:
    recent = recent_from(1, max_events=3)
    recent.add(runs_of(1, 2, 3), 4)
    assert (kept(recent), recent.kept_from) == ([(1, 2), (2, 3), (3, 4)], 1)
    recent.add(runs_of(9), 12)
    assert (kept(recent), recent.kept_from) == ([(2, 3), (3, 4), (9, 10)], 2)
    (run,), _ = Decoder().feed(b"12|B\n13|B\n14|B\n")
    recent.add([run], 15)
    assert (kept(recent), recent.kept_from, recent.events) == ([(12, 15)], 10, 3)
    recent.add(runs_of(15), 16)
    assert (kept(recent), recent.kept_from, recent.events) == ([(15, 16)], 15, 1)


def test_the_oldest_runs_are_dropped_beyond_the_bound_on_memory() -> None:
    runs = runs_of(1, 2, 3)
    bound = sum(run.memory[1] + RUN_BYTES for run in runs)
    recent = recent_from(1, max_bytes=bound)
    recent.add(runs, 4)
    assert (len(kept(recent)), recent.bytes) == (3, bound)
    recent.add(runs_of(4), 5)
    assert kept(recent) == [(2, 3), (3, 4), (4, 5)]
    assert recent.bytes == bound


def test_memory_that_runs_share_is_counted_once() -> None:
    chunk = b"".join(b"%d|B\n" % number for number in range(100) if number % 10)
    runs, _ = Decoder().feed(chunk)
    recent = recent_from(0, max_events=20)
    recent.add(runs, 100)
    assert kept(recent) == [(81, 90), (91, 100)]
    memory = dict(run.memory for run in recent.runs_from(0))
    assert recent.bytes == sum(memory.values()) + 2 * RUN_BYTES
    recent.begin(5)
    recent.add(runs[1:], 100)
    assert recent.bytes == sum(memory.values()) + 2 * RUN_BYTES, "begin releases what it forgets"


def test_without_room_nothing_is_kept() -> None:
    recent = recent_from(1, max_events=0)
    recent.add(runs_of(1, 2, 5), 7)
    assert (kept(recent), recent.kept_from, recent.end) == ([], 6, 7)
    assert (recent.events, recent.bytes) == (0, 0)


def test_to_begin_forgets_everything() -> None:
    recent = recent_from(1)
    begun = recent.times_begun
    recent.add(runs_of(1, 2), 3)
    recent.begin(1)
    assert (kept(recent), recent.kept_from, recent.end) == ([], 1, 1)
    assert (recent.events, recent.bytes, recent.times_begun) == (0, 0, begun + 1)
    recent.add(runs_of(1), 2)
    assert kept(recent) == [(1, 2)]


def test_many_runs_are_dropped_and_the_others_stay() -> None:
    recent = recent_from(0, max_events=100)
    for number in range(0, 2_000, 2):
        recent.add(runs_of(number), number + 1)
        first = max(0, number - 198)
        assert kept(recent)[0] == (first, first + 1)
        assert recent.events == min(number // 2 + 1, 100)
    assert kept(recent) == [(number, number + 1) for number in range(1_800, 2_000, 2)]


def test_numbers_that_were_added_are_refused() -> None:
    recent = recent_from(1)
    recent.add(runs_of(1, 2), 3)
    with pytest.raises(ValueError, match="end is below"):
        recent.add([], 2)
    with pytest.raises(ValueError, match="the run begins below"):
        recent.add(runs_of(2), 4)
