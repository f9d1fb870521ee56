"""The log's writer: a native thread that takes lines from a bounded queue.

The server therefore never waits for a stalled reader of stderr. A line is dropped if the
queue is full; drops are counted and logged.
"""

import os
import queue
import select
import threading
import time
from collections.abc import Callable
from typing import Protocol

QUEUE_LINES = 10_000
"""Maximum queued lines."""

FLUSH_SECONDS = 2.0
"""Time to write the queued lines when the process ends."""


class Stream(Protocol):
    """A stream to which lines are written."""

    def write(self, text: str, /) -> object:
        """Write all of the text at once; raise OSError or ValueError if that fails."""


class StderrStream:
    """An unbuffered stream on a file descriptor.

    ``sys.stderr`` keeps text that it could not write, and holds a lock while it waits for its
    reader. Either would make the interpreter hang or fail when it exits.
    """

    def __init__(self, number: int) -> None:
        self._number = number

    def write(self, text: str) -> None:
        """Write all of the text, however long the reader takes."""
        rest = memoryview(text.encode("utf-8", "backslashreplace"))
        while rest:
            try:
                rest = rest[os.write(self._number, rest) :]
            except BlockingIOError:  # another process that shares stderr made it non-blocking
                select.select([], [self._number], [])


class LineWriter:
    """A writer of log lines that never blocks its callers.

    At most ``limit`` lines are queued. ``dropped`` counts lines that found the queue full or could
    not be written; ``report_drops`` makes the line that reports how many were dropped.
    """

    def __init__(
        self,
        stream: Stream,
        limit: int = QUEUE_LINES,
        report_drops: Callable[[int], str] = "{} log lines were dropped".format,
    ) -> None:
        self._stream = stream
        self._report_drops = report_drops
        self._lines: queue.Queue[str | None] = queue.Queue(limit)
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        self._thread.start()
        self.dropped = 0

    def msg(self, line: str) -> None:
        """Queue one line, or drop it if the queue is full."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    log = debug = info = warning = error = critical = exception = msg

    def close(self, timeout: float = FLUSH_SECONDS) -> None:
        """Wait until the queued lines are written, for at most ``timeout`` seconds."""
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
                text = f"{self._report_drops(dropped - reported)}\n{text}"
            try:
                self._stream.write(text)
            except (OSError, ValueError):  # the reader has closed it, or the disk is full
                self.dropped += 1
            else:
                reported = dropped
