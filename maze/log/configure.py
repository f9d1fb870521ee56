"""Configures the log: one line per event, on stderr, as text or JSON.

structlog makes the lines, ``line_writer`` writes them.
"""

import logging
import os
import sys
from typing import Any

import structlog

from maze.log.line_writer import QUEUE_LINES, LineWriter, StderrStream, Stream
from maze.log.processors import RATE_LIMIT, RECENT, number_connection
from maze.log.text import render_text


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
        structlog.processors.JSONRenderer() if form == "json" else render_text,
    ]

    def report(count: int) -> str:
        line: Any = {"event": "log_lines_dropped", "count": count}
        for processor in processors[1:]:  # reports are not limited: each line may have one
            line = processor(None, "warning", line)
        return str(line)

    writer = LineWriter(stream or StderrStream(_standard_error()), limit, report)
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
