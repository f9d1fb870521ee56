"""What systemd is told of the server's life: ready, stopping, alive.

The protocol is sd_notify(3), spoken by the sdnotify library. Without systemd, or
another supervisor that sets ``NOTIFY_SOCKET``, nothing is told and nothing costs.
"""

from __future__ import annotations

import os

import gevent
import structlog
from sdnotify import SystemdNotifier

log = structlog.get_logger()

PINGS = 2
"""in each watchdog interval; sd_watchdog_enabled(3) recommends so many"""


class Supervisor:
    """Whoever started the server and wants to know how it is."""

    def __init__(self) -> None:
        self._notifier: SystemdNotifier | None = None
        self.pinger: gevent.Greenlet[..., None] | None = None
        """says that the event loop lives, where that is watched"""
        if os.environ.get("NOTIFY_SOCKET"):
            try:
                self._notifier = SystemdNotifier(debug=True)
            except OSError as error:
                log.warning("supervisor_not_told", error=error.strerror)
            else:
                self._notifier.socket.setblocking(False)  # it may be slow, the server may not

    def ready(self, status: str) -> None:
        """Both ports listen. From now on the event loop says regularly that it lives."""
        self._tell(f"READY=1\nSTATUS={status}")
        if self._notifier is not None and (interval := _watchdog_seconds()):
            self.pinger = gevent.spawn(self._ping, interval / PINGS)

    def stopping(self) -> None:
        """The server drains, or has failed."""
        self._tell("STOPPING=1\nSTATUS=stopping")

    def _ping(self, pause: float) -> None:
        while True:
            self._tell("WATCHDOG=1")
            gevent.sleep(pause)

    def _tell(self, state: str) -> None:
        if self._notifier is None:
            return
        try:
            self._notifier.notify(state)
        except OSError as error:  # what it does without the news is its own affair
            log.warning("supervisor_not_told", error=error.strerror)


def _watchdog_seconds() -> float:
    """The time after which the supervisor takes a silent server for dead; 0 if it never does."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    for_us = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(microseconds) / 1_000_000 if microseconds.isdecimal() and for_us else 0.0
