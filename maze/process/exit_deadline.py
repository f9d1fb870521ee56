"""Ends the process when the time for a stop is over, whatever has not ended.

A native thread waits for that time, because the event loop may be what is stuck: in a write to a
disk that hangs, for example. What only a thread waits for is left behind.
"""

import os
import threading
import time
from collections.abc import Callable

import structlog

from maze.log.line_writer import LineWriter
from maze.settings.stop_times import StopTimes

log = structlog.get_logger()


class ExitDeadline:
    """The latest end of the process; ``status`` returns its exit status then."""

    def __init__(self, writer: LineWriter, status: Callable[[], int]) -> None:
        self._writer = writer
        self._status = status

    def begin(self, times: StopTimes) -> None:
        """End the process at these times, unless it has ended. May be called again."""
        threading.Thread(target=self._run, args=(times,), name="exit", daemon=True).start()

    def _run(self, times: StopTimes) -> None:
        time.sleep(max(0.0, times.log - time.monotonic()))
        log.error("stop_timed_out")
        self._writer.close(max(0.0, times.end - time.monotonic()))
        os._exit(self._status())
