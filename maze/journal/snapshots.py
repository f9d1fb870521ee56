"""Takes snapshots of a journal: starts the child that makes one, and stores what it writes."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

from maze.core import Position
from maze.journal.journal import Journal, JournalError
from maze.journal.places import PLACE_VARIABLE, RedisPlace
from maze.journal.snapshot_frames import BEGIN, CHUNK, END, REPORT, end_content, parse_begin
from maze.net.frames import FrameError, read_frames

COMMAND = (sys.executable, "-m", "maze.journal.snapshot")
"""Command of the child; the journal's file is its last argument, if it is kept in a file."""

STOPPED = "it was stopped"
"""Reason of the failure if ``stop`` ended a snapshot."""

Work = Callable[[], Any]
Submit = Callable[[Work, Callable[[Exception | None], None]], None]
"""Runs work in the thread that writes the journal, then calls the other function with the exception
that was raised, or None: ``GroupCommit.submit``."""


class SnapshotTaker:
    """Takes one snapshot of the journal in a file or in Redis; ``run`` belongs in a native thread.

    Each chunk is written by ``submit``, between two appends, and the next one is read only then.
    ``report`` gets lines for the log, in the thread of ``run``.
    """

    def __init__(
        self,
        place: str | RedisPlace,
        journal: Journal,
        fence: int,
        *,
        submit: Submit,
        report: Callable[[str], None],
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._command = [*command, *([place] if isinstance(place, str) else [])]
        self._environment = {} if isinstance(place, str) else {PLACE_VARIABLE: place.encode()}
        self._journal = journal
        self._fence = fence
        self._submit = submit
        self._report = report
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._is_stopped = False
        self._answers: SimpleQueue[Exception | None] = SimpleQueue()
        self.position: Position | None = None
        """Position of the snapshot, once it is stored."""

    def run(self) -> str | None:
        """Take the snapshot; return why it failed, or None."""
        try:
            with self._lock:
                if self._is_stopped:
                    return STOPPED
                self._child = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,  # Ctrl-C stops the server, which stops the child
                    env=_environment() | self._environment,
                )
            with self._child as child:
                try:
                    assert child.stdout
                    self.position = self._store(child.stdout)
                    reason = None if self.position else _failure(child)
                finally:
                    child.kill()
        except (FrameError, JournalError, OSError) as error:
            reason = str(error)
        return STOPPED if reason and self._is_stopped else reason

    def stop(self) -> None:
        """End the child, and ``run`` soon after. May be called in any thread."""
        with self._lock:
            self._is_stopped = True
            if self._child:
                self._child.kill()
        self._answers.put(JournalError(STOPPED))

    def _store(self, pipe: IO[bytes]) -> Position | None:
        """Store the snapshot in the pipe; return its position, or None if it is not whole."""
        writer = position = None
        chunks = 0
        for kind, content in read_frames(pipe):
            if kind == REPORT:
                self._report(content.decode("utf-8", "replace"))
            elif kind == BEGIN and writer is None:
                position, bounds = parse_begin(content)
                begin = self._journal.begin_snapshot
                writer = self._write(partial(begin, position, bounds, self._fence))
            elif kind == CHUNK and writer is not None:
                self._write(partial(writer.add, content))
                chunks += 1
            elif kind == END and writer is not None and content == end_content(chunks):
                self._write(writer.finish)
                return position
            else:
                raise FrameError("it wrote an unexpected frame")
        return None

    def _write(self, work: Work) -> Any:
        """Run work in the thread that writes the journal; return its result, or raise its error."""
        results: list[Any] = []
        self._submit(lambda: results.append(work()), self._answers.put)
        error = self._answers.get()
        if error:
            raise error if isinstance(error, JournalError) else JournalError(repr(error))
        return results[0]


def _environment() -> dict[str, str]:
    """Return an environment in which the child finds this package, wherever the server runs."""
    root = str(Path(__file__).parents[2])
    paths = [root, os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _failure(child: "subprocess.Popen[bytes]") -> str:
    """Return why a child ended before its snapshot was whole."""
    assert child.stderr
    lines = child.stderr.read().decode("utf-8", "replace").splitlines()
    status = child.wait()
    ending = f"it ended with status {status}"
    if status < 0:
        ending = f"it was killed by {signal.Signals(-status).name}"
    return f"{ending}: {lines[-1]}" if lines else ending
