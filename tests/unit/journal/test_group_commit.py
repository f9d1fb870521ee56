"""Group commit: grouping, order, what fails and is tried again, and what ends it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from queue import SimpleQueue
from typing import Any

import gevent
import pytest
from gevent.queue import Queue

from maze.core import Position
from maze.journal import group_commit
from maze.journal.group_commit import GroupCommit
from maze.journal.journal import (
    Batch,
    FencedError,
    GapError,
    GoneError,
    OtherEpochError,
    UnavailableError,
)
from maze.journal.memory import MemoryJournal

PATIENCE = 30.0
"""Seconds that nothing here takes."""
FULL = "cannot write journal: database or disk is full"
SLOW = f"a write has not ended for {group_commit.SLOW_SECONDS:g} s"


def batch(number: int, body: bytes = b"") -> Batch:
    return Batch(1, number, number + 1, body or b"%d|B\n" % number)


def committed(number: int) -> tuple[str, Position]:
    """What is told once the batch of that number is committed."""
    return ("committed", Position(1, number + 1))


class Disk(MemoryJournal):
    """A journal that can be stuck, and that fails as it is told."""

    def __init__(self) -> None:
        super().__init__(Position(1, 1))
        self.entered: SimpleQueue[list[int]] = SimpleQueue()
        """The numbers of the batches of each append, as soon as it begins."""
        self.errors: deque[Exception] = deque()
        """What the next appends raise."""
        self.threads: set[int] = set()
        self._may_pass = threading.Semaphore(0)
        self._is_stuck = False

    def stick(self) -> None:
        """Have each append wait for a ``release``."""
        self._is_stuck = True

    def release(self, count: int = 1) -> None:
        self._may_pass.release(count)

    def heal(self) -> None:
        self._is_stuck = False
        self.release(1_000)

    def append(self, batches: Sequence[Batch], fence: int) -> Position:
        self.threads.add(threading.get_ident())
        self.entered.put([each.first for each in batches])
        if self._is_stuck:
            assert self._may_pass.acquire(timeout=PATIENCE)
        if self.errors:
            raise self.errors.popleft()
        return super().append(batches, fence)

    def kept(self) -> list[int]:
        return [each.first for each in self.read(Position(1, 1), 1 << 30)]


class Shell:
    """What the server is to a group commit: it records the callbacks, in order."""

    def __init__(self) -> None:
        self.disk = Disk()
        self.told: Queue[tuple[str, Any]] = Queue()
        self.threads: set[int] = set()
        self.seconds: list[float] = []
        self.commit = GroupCommit(
            self.disk,
            self.disk.lease(),
            on_committed=lambda batches: self.tell("committed", batches[-1].position),
            on_trouble=lambda message: self.tell("trouble", message),
            on_lost=lambda error: self.tell("lost", error),
            observe=self.seconds.append,
        )

    def tell(self, what: str, detail: Any) -> None:
        self.threads.add(threading.get_ident())
        self.told.put((what, detail))

    def put(self, *numbers: int) -> None:
        for number in numbers:
            self.commit.put(batch(number))

    def submit(self, work: Any = lambda: None) -> None:
        self.commit.submit(work, lambda error: self.tell("done", error))

    def next_told(self) -> tuple[str, Any]:
        told: tuple[str, Any] = self.told.get(timeout=PATIENCE)
        return told

    def next_append(self) -> list[int]:
        """The numbers of the next append; it has begun."""
        return self.disk.entered.get(timeout=PATIENCE)

    def stuck_with(self, number: int) -> None:
        """Put a batch whose append has begun and does not return."""
        self.disk.stick()
        self.put(number)
        assert self.next_append() == [number]


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    monkeypatch.setattr(group_commit, "MIN_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(group_commit, "MAX_RETRY_SECONDS", 0.004)
    made = Shell()
    yield made
    made.disk.heal()
    if not made.commit._is_closed:
        made.commit.close(PATIENCE)
    made.commit._thread.join(PATIENCE)
    assert made.commit.has_ended


@pytest.fixture
def quick_to_complain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "SLOW_SECONDS", 0.01)
    monkeypatch.setitem(globals(), "SLOW", "a write has not ended for 0.01 s")


# Groups.


def test_a_batch_is_committed_in_another_thread_and_told_in_this_one(shell: Shell) -> None:
    shell.put(1)
    assert (shell.commit.pending_batches, shell.commit.pending_bytes) == (1, 4)
    assert shell.next_told() == committed(1)
    assert (shell.commit.pending_batches, shell.commit.pending_bytes) == (0, 0)
    assert shell.disk.kept() == [1]
    assert shell.threads == {threading.get_ident()}
    assert len(shell.disk.threads) == 1
    assert shell.disk.threads != shell.threads


def test_what_was_put_during_an_append_is_the_next_append(shell: Shell) -> None:
    shell.stuck_with(1)
    shell.put(2, 3, 4)
    shell.disk.release(2)
    assert [shell.next_told(), shell.next_told()] == [committed(1), committed(4)]
    assert shell.next_append() == [2, 3, 4]
    assert shell.disk.kept() == [1, 2, 3, 4]
    commit = shell.commit
    assert (commit.commits, commit.committed_batches, commit.committed_bytes) == (2, 4, 16)
    assert len(shell.seconds) == 2
    assert min(shell.seconds) >= 0


def test_an_append_is_bounded_in_bytes(shell: Shell) -> None:
    shell.commit._group_bytes = 8
    shell.stuck_with(1)
    shell.put(2, 3, 4)
    shell.commit.put(batch(5, b"x" * 100))
    shell.put(6)
    shell.disk.heal()
    assert [shell.next_append() for _ in range(3)] == [[2, 3], [4, 5], [6]]


def test_an_empty_batch_begins_an_epoch(shell: Shell) -> None:
    shell.put(1)
    shell.commit.put(Batch(9, 1, 1, b""))
    shell.commit.put(Batch(9, 1, 2, b"1|S|1\n"))
    told = [shell.next_told()]
    while told[-1][1] != Position(9, 2):
        told.append(shell.next_told())
    assert shell.disk.position() == Position(9, 2)
    assert [position for _, position in told] == sorted(position for _, position in told)


# Other work.


def test_other_work_is_done_between_two_appends_in_the_same_thread(shell: Shell) -> None:
    seen: list[tuple[int, list[int]]] = []
    shell.stuck_with(1)
    shell.put(2)
    shell.submit(lambda: seen.append((threading.get_ident(), shell.disk.kept())))
    shell.put(3)
    shell.disk.heal()
    told = [shell.next_told() for _ in range(4)]
    assert told == [committed(1), committed(2), ("done", None), committed(3)]
    assert seen == [(*shell.disk.threads, [1, 2])]


def test_an_error_of_other_work_goes_to_who_submitted_it(shell: Shell) -> None:
    error = ValueError("no such chunk")

    def fail() -> None:
        raise error

    shell.submit(fail)
    assert shell.next_told() == ("done", error)
    shell.put(1)
    assert shell.next_told() == committed(1)


def test_other_work_may_come_from_another_thread(shell: Shell) -> None:
    thread = threading.Thread(target=shell.submit)
    thread.start()
    assert shell.next_told() == ("done", None)
    thread.join(PATIENCE)
    assert shell.threads == {threading.get_ident()}


# Trouble.


def test_an_append_is_repeated_until_it_succeeds(shell: Shell) -> None:
    shell.disk.errors.extend([UnavailableError(FULL)] * 5)
    shell.stuck_with(1)
    shell.put(2)
    shell.disk.heal()
    told = [shell.next_told() for _ in range(4)]
    assert told == [("trouble", FULL), ("trouble", None), committed(1), committed(2)]
    assert [shell.next_append() for _ in range(6)] == [[1]] * 5 + [[2]]
    assert shell.disk.kept() == [1, 2]
    assert shell.commit.trouble is None
    assert shell.commit.commits == 2
    assert len(shell.seconds) == 2


def test_the_delays_grow_and_are_bounded(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    delays: list[float] = []
    monkeypatch.setattr(shell.commit._closing, "wait", delays.append)
    shell.disk.errors.extend([UnavailableError(FULL)] * 5)
    shell.put(1)
    while shell.next_told() != committed(1):
        pass
    assert delays == [0.001, 0.002, 0.004, 0.004, 0.004]


def test_trouble_is_told_again_when_its_reason_changes(shell: Shell) -> None:
    reasons = [FULL, FULL, "disk I/O error", FULL]
    shell.disk.errors.extend(map(UnavailableError, reasons))
    shell.put(1)
    told = [shell.next_told() for _ in range(5)]
    assert told == [
        ("trouble", FULL),
        ("trouble", "disk I/O error"),
        ("trouble", FULL),
        ("trouble", None),
        committed(1),
    ]


@pytest.mark.usefixtures("quick_to_complain")
def test_an_append_that_does_not_return_is_trouble() -> None:
    shell = Shell()
    shell.stuck_with(1)
    assert shell.next_told() == ("trouble", SLOW)
    assert shell.commit.busy_seconds >= group_commit.SLOW_SECONDS
    for _ in range(3 * group_commit.SLOW_CHECKS):  # it is told once, however often it is looked at
        shell.commit._check_slow()
    shell.put(2)
    shell.disk.heal()
    told = [shell.next_told() for _ in range(3)]
    assert told == [("trouble", None), committed(1), committed(2)]
    assert shell.commit.close(PATIENCE)


@pytest.mark.usefixtures("quick_to_complain")
def test_other_work_that_holds_up_a_batch_is_trouble_too() -> None:
    shell, let_go = Shell(), threading.Event()
    shell.submit(lambda: let_go.wait(PATIENCE))
    shell.put(1)
    assert shell.next_told() == ("trouble", SLOW)
    let_go.set()
    assert [shell.next_told() for _ in range(2)] == [("done", None), ("trouble", None)]
    assert shell.commit.close(PATIENCE)


@pytest.mark.usefixtures("quick_to_complain")
def test_a_slow_append_does_not_hide_why_it_was_repeated() -> None:
    shell = Shell()
    shell.disk.errors.append(UnavailableError(FULL))
    shell.stuck_with(1)
    assert shell.next_told() == ("trouble", SLOW)
    shell.disk.release()
    assert shell.next_told() == ("trouble", FULL)
    assert shell.next_append() == [1]
    while shell.commit.busy_seconds < group_commit.SLOW_SECONDS:
        gevent.sleep(group_commit.SLOW_SECONDS)
    shell.commit._check_slow()
    shell.disk.heal()
    assert [shell.next_told() for _ in range(2)] == [("trouble", None), committed(1)]
    assert shell.commit.close(PATIENCE)


def test_the_timer_runs_only_while_batches_are_pending(shell: Shell) -> None:
    timer = shell.commit._slow_timer
    assert not timer.active
    shell.stuck_with(1)
    shell.commit._check_slow()
    assert timer.active
    shell.disk.heal()
    assert shell.next_told() == committed(1)
    shell.commit._check_slow()
    assert not timer.active
    shell.put(2)
    assert timer.active


# The end.


@pytest.mark.parametrize(
    "error",
    [
        FencedError(),
        GapError(Position(1, 7)),
        OtherEpochError("epoch 1 has not begun"),
        GoneError("journal was removed while the journal was open"),
        ZeroDivisionError("a bug"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_any_other_error_ends_it(shell: Shell, error: Exception) -> None:
    shell.put(1)
    assert shell.next_told() == committed(1)
    shell.disk.errors.append(error)
    shell.put(2, 3)
    assert shell.next_told() == ("lost", error)
    shell.submit(lambda: pytest.fail("the journal was used"))
    shell.put(4)
    assert shell.next_told() == ("done", error)
    assert not shell.commit.close(PATIENCE)
    assert shell.commit.has_ended
    assert shell.disk.kept() == [1]
    assert shell.commit.lost is error
    assert shell.commit.pending_batches == 3
    assert shell.told.empty()


def test_trouble_may_end_in_the_loss(shell: Shell) -> None:
    shell.disk.errors.extend([UnavailableError(FULL), FencedError()])
    shell.put(1)
    assert shell.next_told() == ("trouble", FULL)
    what, error = shell.next_told()
    assert (what, type(error)) == ("lost", FencedError)
    shell.commit._check_slow()
    assert not shell.commit._slow_timer.active


def test_close_commits_what_was_put(shell: Shell) -> None:
    shell.put(*range(1, 100))
    shell.submit()
    assert shell.commit.close(PATIENCE)
    assert shell.disk.kept() == list(range(1, 100))
    told = [shell.told.get_nowait() for _ in range(shell.told.qsize())]
    assert told[-2:] == [committed(99), ("done", None)]


def test_close_gives_up_a_stuck_append_and_nothing_is_told_afterwards(shell: Shell) -> None:
    shell.stuck_with(1)
    shell.put(2)
    assert not shell.commit.close(0.01)
    assert not shell.commit.has_ended
    shell.disk.heal()
    shell.commit._thread.join(PATIENCE)
    assert shell.commit.has_ended
    assert shell.disk.kept() == [1]
    gevent.sleep(0)
    assert shell.told.empty()


def test_the_event_loop_runs_while_close_waits(shell: Shell) -> None:
    shell.stuck_with(1)
    gevent.spawn(shell.disk.heal)
    assert shell.commit.close(PATIENCE)
    assert shell.next_told() == committed(1)


def test_close_does_not_wait_for_an_unavailable_journal(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "MIN_RETRY_SECONDS", 10 * PATIENCE)
    shell.disk.errors.extend([UnavailableError(FULL)] * 100)
    shell.put(1)
    assert shell.next_told() == ("trouble", FULL)
    shell.put(2)
    assert not shell.commit.close(PATIENCE)
    assert shell.commit.has_ended
    assert [shell.next_append() for _ in range(2)] == [[1], [1]]
    assert shell.disk.entered.empty()


def test_close_tries_once_more(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "MIN_RETRY_SECONDS", 10 * PATIENCE)
    shell.disk.errors.append(UnavailableError(FULL))
    shell.put(1)
    assert shell.next_told() == ("trouble", FULL)
    shell.put(2)
    assert shell.commit.close(PATIENCE)
    assert shell.disk.kept() == [1, 2]
