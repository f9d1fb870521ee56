"""Between the reorder buffer and the router: what is in flight, what is ready, and the bounds."""

from __future__ import annotations

import pytest

from maze.core import Decoder, Position, ReorderBuffer
from maze.journal.journal import Batch
from maze.pipeline import ready_queue
from maze.pipeline.batch import BATCH_EVENTS
from maze.pipeline.committed import MAX_EVENTS, Committed

START = Position(5, 1)


class Path:
    """The reorder buffer, the buffer behind it, and the batches that were put."""

    def __init__(self, start: Position = START, **bounds: int) -> None:
        self.reorder = ReorderBuffer(start.next)
        self.batches: list[Batch] = []
        self.committed = Committed(self.batches.append, start, **bounds)

    def add(self, stream: bytes) -> None:
        self.reorder.add(*Decoder().feed(stream)[0])

    def put(self, stream: bytes) -> Batch:
        """Add a stream and put it as one batch."""
        self.add(stream)
        assert self.committed.take_from(self.reorder)
        return self.batches[-1]

    def commit(self) -> None:
        """Commit everything that was put."""
        self.committed.on_committed(self.batches[-1].position)

    def take(self, limit: int = BATCH_EVENTS) -> list[tuple[int, int]]:
        return [(run.first, run.end) for run in self.committed.take_ready(limit)]


def broadcasts(first: int, end: int) -> bytes:
    return b"".join(b"%d|B\n" % number for number in range(first, end))


def test_nothing_is_ready_before_it_is_committed() -> None:
    path = Path()
    assert path.put(b"2|S|7\r\n1|B\n") == Batch(5, 1, 3, b"1|B\n2|S|7\r\n")
    assert (path.committed.ready, path.committed.in_flight) == (0, 2)
    assert path.take() == []
    path.committed.on_committed(Position(5, 2))  # within the batch
    assert path.committed.ready == 0
    path.commit()
    assert (path.committed.ready, path.committed.in_flight) == (2, 0)
    assert path.committed.position == START
    assert path.take() == [(1, 3)]
    assert path.committed.position == Position(5, 3)


def test_without_ready_runs_no_batch_is_put() -> None:
    path = Path()
    assert not path.committed.take_from(path.reorder)
    path.add(b"2|B\n")
    assert not path.committed.take_from(path.reorder)
    assert path.batches == []


def test_numbers_without_an_event_are_inside_a_batch() -> None:
    path = Path()
    path.add(b"4|B\n5|X\n7|B\n")
    path.reorder.give_up_gaps()
    path.committed.take_from(path.reorder)
    path.put(b"8|B\n9|F|1\n")
    assert path.batches == [Batch(5, 1, 8, b"4|B\n7|B\n"), Batch(5, 8, 10, b"8|B\n")]
    path.commit()
    assert path.take() == [(4, 5), (5, 6), (7, 8), (8, 9), (9, 10)]


def test_commits_may_cover_several_batches() -> None:
    path = Path()
    for number in (1, 2, 3):
        path.put(b"%d|B\n" % number)
    path.committed.on_committed(path.batches[1].position)
    assert path.take() == [(1, 2), (2, 3)]
    path.commit()
    assert path.take() == [(3, 4)]


def test_what_was_put_back_is_taken_again() -> None:
    path = Path()
    path.put(broadcasts(1, 4))
    path.put(broadcasts(4, 6))
    path.put(broadcasts(6, 7))
    path.commit()
    before = path.committed.ready_bytes
    runs = path.committed.take_ready(4)
    assert [(run.first, run.end) for run in runs] == [(1, 4), (4, 6)]
    path.committed.put_back([runs[0].clip(2, 4), runs[1]])
    assert (path.committed.ready, path.committed.next_sequence) == (5, 2)
    assert path.committed.ready_bytes <= before
    assert path.take() == [(2, 4), (4, 6), (6, 7)]
    assert path.committed.ready_bytes == 0
    path.committed.put_back([])
    assert path.committed.next_sequence == 7


def test_a_call_takes_a_bounded_number_of_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready_queue, "MAX_RUNS", 2)
    path = Path()
    for number in (1, 2, 3):
        path.put(b"%d|B\n" % number)
    path.commit()
    assert path.take() == [(1, 2), (2, 3)]


def test_what_is_held_is_bounded_in_events() -> None:
    path = Path()
    for first in range(1, MAX_EVENTS + 2, BATCH_EVENTS):
        path.add(broadcasts(first, first + BATCH_EVENTS))
    while path.committed.take_from(path.reorder):
        pass
    assert path.committed.in_flight == MAX_EVENTS
    assert path.reorder.ready == BATCH_EVENTS
    path.commit()
    assert not path.committed.take_from(path.reorder)  # not before some of it is routed
    path.take(1)
    assert path.committed.take_from(path.reorder)


def test_what_is_held_is_bounded_in_bytes() -> None:
    path = Path(max_bytes=100_000)
    line = b"%d|B" + 3_000 * b"\r" + b"\n"
    for number in range(1, 101):
        path.add(line % number)
    path.committed.take_from(path.reorder)
    for number in range(101, 201):
        path.add(line % number)
    assert path.committed.in_flight_bytes > 300_000
    assert not path.committed.take_from(path.reorder)
    path.commit()
    assert path.committed.ready_bytes > 300_000
    assert path.committed.in_flight_bytes == 0
    assert not path.committed.take_from(path.reorder)
    path.take(90)
    assert path.committed.take_from(path.reorder)


def test_runs_of_one_chunk_share_its_memory() -> None:
    path = Path()
    path.put(broadcasts(1, 1_000))
    alone = path.committed.in_flight_bytes
    path = Path()
    (run,) = Decoder().feed(broadcasts(1, 1_000))[0]
    for first in (1, 500):
        path.reorder.add(run.clip(first, 500 if first == 1 else 1_000))
        path.committed.take_from(path.reorder)
    assert path.committed.in_flight == 999
    assert path.committed.in_flight_bytes < 1.1 * alone
    path.commit()
    path.take()
    assert (path.committed.ready_bytes, path.committed.in_flight_bytes) == (0, 0)


# Epochs.


def test_an_epoch_begins_with_an_empty_batch() -> None:
    path = Path()
    path.put(b"1|B\n2|B\n")
    path.committed.begin_epoch(Position(9, 1))
    assert path.batches[-1] == Batch(9, 1, 1, b"")
    assert not path.committed.epoch_is_due
    path.commit()
    assert path.committed.epoch_is_due is False
    assert path.take() == [(1, 3)]
    assert path.committed.epoch_is_due
    assert path.committed.position == Position(5, 3)
    path.committed.enter_epoch()
    assert path.committed.position == Position(9, 1)
    assert not path.committed.epoch_is_due
    path.reorder.reset()
    assert path.put(b"1|S|1\n") == Batch(9, 1, 2, b"1|S|1\n")
    path.commit()
    assert path.take() == [(1, 2)]


def test_runs_of_two_epochs_are_never_taken_together() -> None:
    path = Path()
    path.put(b"1|B\n")
    for epoch in (9, 10):
        path.committed.begin_epoch(Position(epoch, 1))
        path.reorder.reset()
        path.put(b"1|B\n2|B\n")
        path.put(b"3|B\n")
    path.commit()
    assert (path.committed.ready, path.committed.in_flight) == (1, 6)
    runs = path.committed.take_ready(100)
    assert [run.end for run in runs] == [2]
    path.committed.put_back(runs)
    assert not path.committed.epoch_is_due
    path.take()
    for epoch in (9, 10):
        assert path.committed.epoch_is_due
        assert path.take() == []
        path.committed.enter_epoch()
        assert path.committed.epoch == epoch
        assert path.take() == [(1, 3), (3, 4)]
    assert not path.committed.epoch_is_due
    assert path.committed.in_flight == 0
