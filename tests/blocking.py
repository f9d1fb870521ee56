"""Whether the server blocks its hub: gevent's monitor thread asks, this module judges.

With ``GEVENT_MONITOR_THREAD_ENABLE=1`` gevent publishes EventLoopBlocked whenever no greenlet
was switched for ``GEVENT_MAX_BLOCKING_TIME``. Where C code holds the interpreter's lock it
cannot see that, as its thread does not run either; that it comes late shows it.

No fault of the server's, and not counted, is the time in which

  - the machine is busy and the thread waits for a processor. What counts is the time it
    computed and the time it slept in a system call; the kernel tells both from waiting;
  - the test in the same hub computes. What counts is a stack with a frame of ``maze`` in it.

A virtual machine that stands still may still look like one that computes; so CI repeats a
test that fails of this, and only a hub that is blocked each time is an error.

``python -m blocking [the server's arguments]`` is a server that logs ``hub_blocked``.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import gevent
from gevent import config
from gevent.events import EventLoopBlocked, subscribers

MAZE = str(Path(__file__).parents[1] / "maze")
TICKS = 5
"""within the limit"""
TOLERANCE = 0.95
"""a sleep is never of exactly the length that was asked for"""
ENABLED: bool = config.monitor_thread

warnings.filterwarnings("ignore", "Unable to monitor memory usage")  # nobody has asked for it


class HubBlockedError(AssertionError):
    """The server let nothing else run for too long."""


class Times(NamedTuple):
    """Seconds: the clock's, those the hub's thread has computed and queued for a processor, and
    those the monitor's thread has queued."""

    clock: float
    computed: float
    queued: float
    monitor_queued: float

    def since(self, before: Times) -> Times:
        return Times(*(now - then for now, then in zip(self, before, strict=True)))


class Watch:
    """Watches the hub of the thread that makes it, and reports where the server blocked it."""

    def __init__(self, report: Callable[[str], None]) -> None:
        hub = gevent.get_hub()
        self._report = report
        self._limit: float = config.max_blocking_time
        self._period = self._limit / TICKS
        self._thread = hub.thread_ident
        self._statistics = Path("/proc/thread-self").resolve() / "schedstat"
        self._history = deque([self._now()], maxlen=TICKS + 1)
        self._last_event = self._blocked_seconds = 0.0
        subscribers.append(self._on_event)
        hub.start_periodic_monitoring_thread().add_monitoring_function(self._tick, self._period)

    def _on_event(self, event: Any) -> None:
        """Called in the monitor's thread: no switch within the limit."""
        if not isinstance(event, EventLoopBlocked):
            return
        now = self._now()
        spent = now.since(self._history[0])
        slept = max(0.0, min(spent.clock, self._limit) - spent.computed - spent.queued)
        if now.clock - self._last_event > 1.5 * self._limit:
            self._blocked_seconds = 0.0  # there was a switch since the last one
        self._last_event = now.clock
        self._blocked_seconds += min(self._limit, spent.computed + slept)
        self._judge(self._blocked_seconds)

    def _tick(self, _: object) -> None:
        """Called in the monitor's thread, many times within the limit."""
        now = self._now()
        spent = now.since(self._history[-1])
        self._history.append(now)
        late = spent.clock - self._period - spent.monitor_queued
        self._judge(min(late, spent.computed))

    def _judge(self, seconds: float) -> None:
        if seconds < TOLERANCE * self._limit:
            return
        self._blocked_seconds = 0.0
        frames = _frames_of_maze(sys._current_frames().get(self._thread))
        if frames:
            self._report(f"for {seconds:.3f} s in {' < '.join(frames)}")

    def _now(self) -> Times:
        computed, queued, _ = self._statistics.read_text().split()
        own = Path("/proc/thread-self/schedstat").read_text().split()[1]
        return Times(time.monotonic(), *(int(each) / 1e9 for each in (computed, queued, own)))


def _frames_of_maze(frame: FrameType | None) -> list[str]:
    """Where the server is, the innermost first."""
    places = []
    while frame:
        if frame.f_code.co_filename.startswith(MAZE):
            name = Path(frame.f_code.co_filename).name
            places.append(f"{frame.f_code.co_qualname} ({name} line {frame.f_lineno})")
        frame = frame.f_back
    return places


def _log(what: str) -> None:
    line = json.dumps({"event": "hub_blocked", "level": "error", "what": what})
    os.write(2, f"{line}\n".encode())


if __name__ == "__main__":
    from maze.serve import main

    if ENABLED:
        Watch(_log)
    sys.exit(main())
