"""Commands that write a journal's file; they are refused while a server has it open."""

import os
import time
from contextlib import closing

from maze.core import FollowGraph, Position, next_epoch, parse_number
from maze.journal.journal import Batch, JournalError, JournalFileError
from maze.journal.sqlite import SQLiteJournal
from maze.journal.state import UNBOUNDED, graph_chunks

HEADER = b"follower,followed"
"""Optional first line of a file of follows."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""What some programs begin a text file with."""


def import_follows(path: str, csv: str, first_sequence: int) -> str:
    """Begin a journal with the follows of a CSV file; describe what was done."""
    graph = read_follows(csv)
    start = Position(next_epoch(0, _milliseconds()), first_sequence)
    with closing(SQLiteJournal(path, start)) as journal:
        kept_from, position, *_ = journal.statistics()
        if kept_from != position:
            raise JournalError(f"{path} has batches already: import into a new journal")
        journal.put_snapshot(position, UNBOUNDED, graph_chunks(graph), journal.lease())
    return f"{graph.follows:,} follows of {graph.users:,} users at {_shown(position)}\n"


def read_follows(csv: str) -> FollowGraph:
    """Return the graph of a CSV file. Raise JournalError for a wrong line, or OSError."""
    graph = FollowGraph()
    with open(csv, "rb") as file:
        for number, line in enumerate(file, 1):
            content = line.rstrip(b"\r\n")
            if number == 1:
                content = content.removeprefix(BYTE_ORDER_MARK)
                if content == HEADER:
                    continue
            fields = [parse_number(field) for field in content.split(b",")]
            if len(fields) != 2 or fields[0] is None or fields[1] is None:
                shown = content[:60].decode("utf-8", "backslashreplace")
                raise JournalError(
                    f'{csv}, line {number}: expected "follower,followed", two user ids, '
                    f"not {shown!r}"
                )
            graph.follow(fields[0], fields[1])
    return graph


def compact(path: str) -> str:
    """Make a journal's file as small as what it holds; describe what was done."""
    before = _existing_size(path)
    with closing(SQLiteJournal(path, Position(0, 0))) as journal:
        journal.compact(journal.lease())
    return f"{before:,} bytes before, {os.path.getsize(path):,} bytes now\n"


def reset(path: str, first_sequence: int) -> str:
    """Begin a new epoch; describe what was done."""
    _existing_size(path)
    with closing(SQLiteJournal(path, Position(0, 0))) as journal:
        epoch = next_epoch(journal.position().epoch, _milliseconds())
        batch = Batch(epoch, first_sequence, first_sequence, b"")
        position = journal.append([batch], journal.lease())
    return f"a new epoch begins at {_shown(position)}\n"


def _existing_size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError as error:
        raise JournalFileError(f"{path}: {error.strerror}") from None


def _milliseconds() -> int:
    return time.time_ns() // 10**6


def _shown(position: Position) -> str:
    return f"{position.epoch}-{position.next}"
