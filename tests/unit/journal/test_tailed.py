"""A journal with a tail that is full."""

from maze.journal.memory import MemoryJournal
from maze.journal.tail import Tail
from maze.journal.tailed import TailedJournal

from .files import START, events


def test_an_append_of_a_process_that_ends_does_not_wait_for_a_full_tail() -> None:
    hour = 3600.0
    tail = Tail(1, START, safe_seconds=hour)
    journal = TailedJournal(MemoryJournal(START), tail, report=lambda _: None)
    fence = journal.lease()
    journal.append(events(1, 2), fence)
    assert tail.is_full
    journal.hurry()
    assert journal.append(events(2, 3), fence) == journal.position()
    assert tail.is_full
