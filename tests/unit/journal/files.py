"""Files of journals, whole and damaged."""

import sqlite3
from contextlib import closing

from maze.core import Position
from maze.journal.journal import Batch, Journal
from maze.journal.sqlite import SQLiteJournal

START = Position(1, 1)


def events(first: int, end: int) -> list[Batch]:
    """Return batches of one event."""
    return [Batch(1, number, number + 1, b"%d|B\n" % number) for number in range(first, end)]


def filled(path: str, count: int = 3) -> None:
    """Write a file with some batches of one event."""
    with closing(SQLiteJournal(path, START)) as journal:
        journal.append(events(1, count + 1), journal.lease())


def change(path: str, *statements: str) -> None:
    """Change a file behind the journal's back."""
    with closing(sqlite3.connect(path)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


def append_apart(journal: Journal, batches: list[Batch], fence: int) -> None:
    """Append each batch by a call of its own."""
    for batch in batches:
        journal.append([batch], fence)
