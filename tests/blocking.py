"""Whether the server blocks its hub; gevent's monitor thread asks, this module judges.

With ``GEVENT_MONITOR_THREAD_ENABLE=1`` gevent's monitor counts the switches between greenlets.
Its own report, EventLoopBlocked, is any ``GEVENT_MAX_BLOCKING_TIME`` without one. That would
blame the server for a busy machine, and for the tests in the same hub; and it misses C code
that holds the interpreter's lock, as meanwhile the monitor does not run either. So the monitor
calls a function of this module, five times within the limit, which counts

  - the time in which the hub's thread computed or slept in a system call, and not that in
    which it waited for a processor: the kernel tells one from the other;
  - where there was no switch, or where the monitor itself was kept from running;
  - if the stack has a frame of ``maze`` in it.

A virtual machine that stands still may still look like one that computes; so under the watch
all tests are marked ``realtime``, and only a hub that is blocked each time is an error in CI.

``python -m blocking [the server's arguments]`` is a server that logs ``hub_blocked``.
"""

from __future__ import annotations

import faulthandler
import json
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gevent
from gevent import config

MAZE = str(Path(__file__).parents[1] / "maze")
TICKS = 5
"""within the limit"""
SWITCH_SECONDS = 0.0005
"""how long the monitor waits for the interpreter's lock before it asks for it. A hub that lets it
go and takes it again more often, as it does when it polls, never notices who waits for it."""
TOLERANCE = 0.95
"""a sleep is never of exactly the length that was asked for"""
ENABLED: bool = config.monitor_thread
config.print_blocking_reports = False  # they are long, and many

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
        monitor = _monitor(hub)
        self._report = report
        self._limit: float = config.max_blocking_time
        self._period = self._limit / TICKS
        self._thread = hub.thread_ident
        self._statistics = Path("/proc/thread-self").resolve() / "schedstat"
        self._tracer = monitor._greenlet_tracer
        self._switches = self._tracer.greenlet_switch_counter
        self._before: Times | None = None
        self._blocked_seconds = 0.0
        self._stacks = tempfile.TemporaryFile()  # noqa: SIM115 (until the process ends)
        sys.setswitchinterval(SWITCH_SECONDS)
        monitor.add_monitoring_function(self._tick, self._period)

    def _tick(self, _: object) -> None:
        """Called in the monitor's thread."""
        frames = _frames_of_maze(self._thread, self._stacks.fileno())
        now, switches = self._now(), self._tracer.greenlet_switch_counter
        spent, switched = now.since(self._before or now), switches != self._switches
        self._before, self._switches = now, switches
        late = max(0.0, spent.clock - self._period - spent.monitor_queued)
        if switched or not frames:
            # Only what kept the monitor from running can have lasted long.
            self._blocked_seconds = min(late, spent.computed)
        else:
            # What the monitor overslept, nobody knows the reason of.
            awake = spent.clock - late
            slept = max(0.0, awake - spent.computed - spent.queued)
            self._blocked_seconds += spent.computed + slept
        if frames and self._blocked_seconds >= TOLERANCE * self._limit:
            self._report(f"for {self._blocked_seconds:.3f} s in {' < '.join(frames)}")
            self._blocked_seconds = 0.0

    def _now(self) -> Times:
        computed, queued, _ = self._statistics.read_text().split()
        own = Path("/proc/thread-self/schedstat").read_text().split()[1]
        return Times(time.monotonic(), *(int(each) / 1e9 for each in (computed, queued, own)))


def _monitor(hub: Any) -> Any:
    """The monitor of the hub. One that first looked before the hub has run has given up."""
    gevent.sleep(0)
    if not hub.start_periodic_monitoring_thread().should_run:
        hub.periodic_monitoring_thread = None
    return hub.start_periodic_monitoring_thread()


def _frames_of_maze(thread: int, descriptor: int) -> list[str]:
    """Where the server is in a thread, the innermost first.

    faulthandler writes all stacks in one go. To follow ``f_back`` in the monitor's thread would
    let the other one run in between and leave the frames that are followed: that crashed once.
    """
    faulthandler.dump_traceback(descriptor)  # first: whatever waits lets the other thread run
    stacks = os.pread(descriptor, 1 << 20, 0).decode(errors="replace").split("\n\n")
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    # A thread that has just ended may still be listed with the same id; the newest comes first.
    stack = next((each for each in stacks if f"hread 0x{thread:016x} " in each), "")
    places = re.findall(r'File "(.+)", line (\d+) in (.+)', stack)
    return [
        f"{function} ({Path(path).name} line {line})"
        for path, line, function in places
        if path.startswith(MAZE)
    ]


def _log(what: str) -> None:
    line = json.dumps({"event": "hub_blocked", "level": "error", "what": what})
    os.write(2, f"{line}\n".encode())


if __name__ == "__main__":
    from maze.serve import main

    if ENABLED:
        Watch(_log)
    sys.exit(main())
