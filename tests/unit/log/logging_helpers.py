"""Helpers of the log's tests."""

import io
import threading
from typing import Any

import structlog

from maze.log.configure import configure

PATIENCE = 30.0
"""Maximum seconds that a test waits for anything."""

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z"
"""Regular expression of a line's time."""


class Gate(io.StringIO):
    """A stream whose reader does not read: a write waits until the gate is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.opened = threading.Event()

    def write(self, text: str) -> int:
        self.entered.set()
        assert self.opened.wait(PATIENCE)
        return super().write(text)


def logged(form: str, level: str = "debug", event: str = "event", **values: Any) -> str:
    """Log one line at info; return its text."""
    stream = io.StringIO()
    writer = configure(level, form, stream)
    structlog.get_logger().info(event, **values)
    writer.close(PATIENCE)
    return stream.getvalue()
