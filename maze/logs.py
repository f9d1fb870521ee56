"""The log: one line an event, on stderr, as text or JSON.

Lines are made by structlog and written by a native thread behind a bounded
queue, so that a reader of stderr who stops reading never stops the server:
what does not fit in the queue is dropped, and the drop is counted and logged.
"""

import logging
import queue
import sys
import threading
import time
from typing import IO

import structlog

QUEUE_LINES = 10_000
FLUSH_SECONDS = 2.0
SHOWN_BYTES = 80
"""how much of a line that was not understood is shown"""


class LineWriter:
    """A file for log lines that never blocks who writes to it.

    Lines wait in a queue of ``QUEUE_LINES``; ``dropped`` counts those that
    found it full.
    """

    def __init__(self, stream: IO[str], limit: int = QUEUE_LINES) -> None:
        self._stream = stream
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
        try:
            self._lines.put(None, timeout=timeout)
        except queue.Full:
            return
        self._thread.join(timeout)

    def _run(self) -> None:
        reported = 0
        while (line := self._lines.get()) is not None:
            dropped = self.dropped
            if dropped != reported:
                lost = dropped - reported
                line = f"{lost} log lines were dropped: stderr is read too slowly\n{line}"
                reported = dropped
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):  # nobody reads stderr any more, or the disk is full
                self.dropped += 1


def configure(level: str, form: str, stream: IO[str] | None = None) -> LineWriter:
    """Send every log line of at least ``level`` to stderr, as ``text`` or ``json``."""
    writer = LineWriter(stream or sys.stderr)
    renderer: structlog.typing.Processor
    renderer = structlog.processors.JSONRenderer() if form == "json" else _render_text
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=False,
    )
    return writer


def _render_text(_: object, __: str, event: structlog.typing.EventDict) -> str:
    """``time level event key=value ...``; a traceback follows on lines of its own."""
    head = f"{event.pop('timestamp')} {event.pop('level'):<7} {event.pop('event')}"
    exception = event.pop("exception", None)
    pairs = "".join(f" {key}={_quoted(value)}" for key, value in event.items())
    return head + pairs + (f"\n{exception}" if exception else "")


def _quoted(value: object) -> str:
    text = str(value)
    return repr(text) if not text or any(c.isspace() or c in "\"'=" for c in text) else text


def shown(line: bytes) -> str:
    """Bytes from outside, escaped and shortened, fit for a log line."""
    text = line[:SHOWN_BYTES].decode("ascii", "backslashreplace")
    text = text.encode("unicode_escape").decode("ascii")
    return text if len(line) <= SHOWN_BYTES else f"{text}... ({len(line)} bytes)"


class Throttle:
    """Lets one line a second through for each name, and counts the others."""

    def __init__(self, interval: float = 1.0) -> None:
        self._interval = interval
        self._next: dict[str, float] = {}
        self._suppressed: dict[str, int] = {}

    def admit(self, name: str) -> int | None:
        """How many lines of that name were held back since the last, or None to hold this one."""
        now = time.monotonic()
        if now < self._next.get(name, 0.0):
            self._suppressed[name] = self._suppressed.get(name, 0) + 1
            return None
        self._next[name] = now + self._interval
        return self._suppressed.pop(name, 0)
