"""Makes a snapshot of a journal: ``python -m maze.journal.snapshot FILE``, started by the server.

A journal in Redis comes in the variable ``MAZE_SNAPSHOT_OF`` instead, because other users can see a
command line, and its address may have a password.

This child process reads the newest snapshot and the batches after it, while the server goes on
writing the journal. The child never changes it. It writes the new snapshot to stdout as frames,
and the server stores it. So a large graph is written without stopping the server, and without a
copy of its memory.
"""

import os
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import IO

from maze.core import FollowGraph, Position
from maze.journal.journal import Batch, JournalError
from maze.journal.marks import Marks
from maze.journal.places import PLACE_VARIABLE, FilePlace, Reader, RedisPlace
from maze.journal.snapshot_frames import BEGIN, CHUNK, END, REPORT, begin_content, end_content
from maze.journal.state import GraphState, graph_chunks, merged
from maze.net.frames import write_frame

NICENESS = 10
"""Niceness added for the child, so that the server gets the processor when it needs it."""

READ_BYTES = 4 * 2**20
"""Bytes of batches read at a time, about."""


def write_snapshot(journal: str | RedisPlace, out: IO[bytes]) -> None:
    """Write the frames of a snapshot at a recent position.

    It is the last position below which all marks are in the journal: a start from this snapshot
    could not determine the marks of earlier events again.
    """
    graph = FollowGraph()
    place = FilePlace(journal) if isinstance(journal, str) else journal
    with closing(place.reader()) as reader:
        snapshot = reader.get_snapshot(lambda text: write_frame(out, REPORT, text.encode()))
        state = GraphState(graph, reader.kept_from())
        if snapshot:
            state.load(snapshot)
            del snapshot
        for batch in merged(_marked_batches(reader, state.position)):
            state.apply(batch)
    write_frame(out, BEGIN, begin_content(state.position, state.bounds))
    chunks = 0
    for chunk in graph_chunks(graph):
        write_frame(out, CHUNK, chunk)
        chunks += 1
    write_frame(out, END, end_content(chunks))
    out.flush()


def _marked_batches(reader: Reader, position: Position) -> Iterator[Batch]:
    """Yield the batches after a position whose marks are in the journal."""
    newest = reader.position()
    covered = position
    waiting: deque[Batch] = deque()
    while position < newest:
        for batch in reader.read(position, READ_BYTES):
            position = batch.position
            waiting.append(batch)
            if batch.first == batch.end:  # it begins an epoch, and has no events to mark
                covered = position
            elif marks := Marks.decode(batch.unchanged):
                covered = Position(batch.epoch, marks.end)
            while waiting and waiting[0].position <= covered:
                yield waiting.popleft()


def main() -> int:
    """Write the snapshot of a journal; return the exit status."""
    with suppress(OSError):
        os.nice(NICENESS)
    try:
        encoded = os.environ.get(PLACE_VARIABLE)
        write_snapshot(RedisPlace.decode(encoded) if encoded else sys.argv[1], sys.stdout.buffer)
    except JournalError as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:  # the server is gone, or wants no snapshot any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


if __name__ == "__main__":
    status = main()
    # Freeing a million users takes half a second and has no use.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
