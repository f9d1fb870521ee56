"""The log's writer: a native thread behind a bounded queue.

A reader of stderr that stops reading therefore never stops the server. A line that finds the
queue full is dropped; drops are counted and logged.
"""

import os
import queue
import select
import threading
import time
from collections.abc import Callable
from typing import Protocol

QUEUE_LINES = 10_000
"""Maximum lines that wait to be written."""

FLUSH_SECONDS = 2.0
"""Time to write what is queued when the process ends."""


class Stream(Protocol):
    """Where lines go."""

    def write(self, text: str, /) -> object:
        """Write all of the text, now; raises OSError or ValueError if that cannot be."""


class StderrStream:
    """A file descriptor as a stream without a buffer.

    ``sys.stderr`` keeps what it could not write, and a lock while it waits for
    its reader; either would spoil the interpreter's end.
    """

    def __init__(self, number: int) -> None:
        self._number = number

    def write(self, text: str) -> None:
        """Write all of the text, however long the reader takes."""
        left = memoryview(text.encode("utf-8", "backslashreplace"))
        while left:
            try:
                left = left[os.write(self._number, left) :]
            except BlockingIOError:  # whoever shares it made it non-blocking
                select.select([], [self._number], [])


class LineWriter:
    """A file for log lines that never blocks who writes to it.

    Lines wait in a queue of ``limit`` lines; ``dropped`` counts those that
    found it full or could not be written, and ``report`` makes the line that
    tells how many they were.
    """

    def __init__(
        self,
        stream: Stream,
        limit: int = QUEUE_LINES,
        report: Callable[[int], str] = "{} log lines were dropped".format,
    ) -> None:
        self._stream = stream
        self._report = report
        self._lines: queue.Queue[str | None] = queue.Queue(limit)
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        self._thread.start()
        self.dropped = 0

    def msg(self, line: str) -> None:
        """Queue one line; it is dropped if the queue is full."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    log = debug = info = warning = error = critical = exception = msg

    def close(self, timeout: float = FLUSH_SECONDS) -> None:
        """Write what is queued, for at most ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        try:
            self._lines.put(None, timeout=timeout)
        except queue.Full:
            return
        self._thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        reported = 0
        while (line := self._lines.get()) is not None:
            text = line + "\n"
            dropped = self.dropped
            if dropped != reported:
                text = f"{self._report(dropped - reported)}\n{text}"
            try:
                self._stream.write(text)
            except (OSError, ValueError):  # nobody reads it any more, or the disk is full
                self.dropped += 1
            else:
                reported = dropped
