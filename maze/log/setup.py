"""The log: one line an event, on stderr, as text or JSON.

Lines are made by structlog and written by a native thread behind a bounded
queue, so that a reader of stderr who stops reading never stops the server:
what does not fit in the queue is dropped, and the drop is counted and logged.
"""

import logging
import os
import queue
import select
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import structlog

from maze.log.processors import RATE_LIMIT, RECENT, number_connection

QUEUE_LINES = 10_000
FLUSH_SECONDS = 2.0
SHOWN_BYTES = 80
"""how much of a line that was not understood is shown"""


class Stream(Protocol):
    """Where lines go."""

    def write(self, text: str, /) -> object:
        """Write all of the text, now; raises OSError or ValueError if that cannot be."""


class Descriptor:
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


def configure(
    level: str, form: str, stream: Stream | None = None, limit: int = QUEUE_LINES
) -> LineWriter:
    """Send every log line of at least ``level`` to stderr, as ``text`` or ``json``."""
    processors: list[structlog.typing.Processor] = [
        RATE_LIMIT,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        number_connection,
        RECENT,
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer() if form == "json" else _render_text,
    ]

    def report(count: int) -> str:
        line: Any = {"event": "log_lines_dropped", "count": count}
        for processor in processors[1:]:  # reports are not limited: each line may have one
            line = processor(None, "warning", line)
        return str(line)

    writer = LineWriter(stream or Descriptor(_standard_error()), limit, report)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=False,
    )
    return writer


def _standard_error() -> int:
    """The descriptor of stderr; if it was closed, one that swallows what is written.

    Without it the next socket would take that number, and be sent the log.
    """
    return os.open(os.devnull, os.O_WRONLY) if sys.stderr is None else sys.stderr.fileno()


def set_level(level: str) -> None:
    """From here on log every line of at least ``level``."""
    structlog.configure(
        **structlog.get_config()
        | {
            "wrapper_class": structlog.make_filtering_bound_logger(
                logging.getLevelNamesMapping()[level.upper()]
            )
        }
    )


def _render_text(_: object, __: str, event: structlog.typing.EventDict) -> str:
    """``time level event key=value ...``; tracebacks and stacks follow on lines of their own."""
    head = f"{event.pop('timestamp')} {event.pop('level'):<7} {event.pop('event')}"
    blocks = [event.pop(key) for key in ("stack", "exception") if key in event]
    pairs = "".join(f" {key}={_quoted(value)}" for key, value in event.items())
    return "\n".join([head + pairs, *blocks])


def _quoted(value: object) -> str:
    text = str(value)
    if not text.isprintable():
        return repr(text)
    if text and not any(character in " \"'=" for character in text):
        return text
    return repr(text).replace("\\\\", "\\")  # what is printable may be escaped already


def shown(line: bytes) -> str:
    """Bytes from outside, escaped and shortened, fit for a log line."""
    text = line[:SHOWN_BYTES].decode("latin-1").encode("unicode_escape").decode("ascii")
    return text if len(line) <= SHOWN_BYTES else f"{text}... ({len(line)} bytes)"
