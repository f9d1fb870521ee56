"""Configuration of the log: one line per event on stderr, as text or JSON.

structlog makes the lines and ``line_writer`` writes them.
"""

import logging
import os
import sys
from functools import partial
from typing import Any

import structlog

from maze.log.line_writer import QUEUE_LINES, LineWriter, StderrStream, Stream
from maze.log.processors import RATE_LIMIT, RECENT, name_process, number_connection
from maze.log.text import render_text


def configure(
    level: str,
    form: str,
    stream: Stream | None = None,
    limit: int = QUEUE_LINES,
    *,
    process: str | None = None,
) -> LineWriter:
    """Write log lines of ``level`` and above to stderr; ``form`` is ``text`` or ``json``.

    Each line has the name of the ``process``, if it is one of several.
    """
    processors: list[structlog.typing.Processor] = [
        RATE_LIMIT,
        *([partial(name_process, process)] if process else []),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        number_connection,
        RECENT,
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer() if form == "json" else render_text,
    ]

    def report_drops(count: int) -> str:
        line: Any = {"event": "log_lines_dropped", "count": count}
        for processor in processors[1:]:  # not rate-limited: each report has a count of its own
            line = processor(None, "warning", line)
        return str(line)

    writer = LineWriter(stream or StderrStream(_stderr_descriptor()), limit, report_drops)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=False,
    )
    return writer


def _stderr_descriptor() -> int:
    """Return the descriptor of stderr, or one of ``/dev/null`` if stderr was closed.

    Without ``/dev/null`` the next socket would get stderr's number and be sent the log.
    """
    return os.open(os.devnull, os.O_WRONLY) if sys.stderr is None else sys.stderr.fileno()


def set_level(level: str) -> None:
    """Log lines of ``level`` and above from now on."""
    structlog.configure(
        **structlog.get_config()
        | {
            "wrapper_class": structlog.make_filtering_bound_logger(
                logging.getLevelNamesMapping()[level.upper()]
            )
        }
    )
