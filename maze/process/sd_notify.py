"""Notify systemd of the server's state: ready, stopping, alive.

The sdnotify library implements the protocol, sd_notify(3). Without ``NOTIFY_SOCKET``,
which systemd or another supervisor sets, nothing is sent.
"""

from __future__ import annotations

import os

import gevent
import structlog
from sdnotify import SystemdNotifier

log = structlog.get_logger()

PINGS_PER_INTERVAL = 2
"""Watchdog notifications per watchdog interval, as sd_watchdog_enabled(3) recommends."""

EXTENSION_USEC = 10_000_000
"""Time by which each report of progress extends the time allowed for the start, in microseconds."""


class Supervisor:
    """The process supervisor that started the server, if it asked for notifications."""

    def __init__(self) -> None:
        self._notifier: SystemdNotifier | None = None
        self.pinger: gevent.Greenlet[..., None] | None = None
        """Sends the watchdog notifications, if the supervisor expects them."""
        if os.environ.get("NOTIFY_SOCKET"):
            try:
                self._notifier = SystemdNotifier(debug=True)
            except OSError as error:
                log.warning("supervisor_not_told", error=error.strerror)
            else:
                # A slow supervisor must not block the server.
                self._notifier.socket.setblocking(False)

    def report(self, status: str) -> None:
        """Report what the server does before it is ready; allow ten seconds until the next report.

        Without this, a long start would exceed the supervisor's timeout.
        """
        self._notify(f"EXTEND_TIMEOUT_USEC={EXTENSION_USEC}\nSTATUS={status}")

    def ready(self, status: str) -> None:
        """Report that both ports listen, and start the watchdog notifications."""
        self._notify(f"READY=1\nSTATUS={status}")
        if self._notifier is not None and (interval := _watchdog_seconds()):
            self.pinger = gevent.spawn(self._ping, interval / PINGS_PER_INTERVAL)

    def stopping(self) -> None:
        """Report that the server drains or has failed."""
        self._notify("STOPPING=1\nSTATUS=stopping")

    def _ping(self, period: float) -> None:
        while True:
            self._notify("WATCHDOG=1")
            gevent.sleep(period)

    def _notify(self, state: str) -> None:
        if self._notifier is None:
            return
        try:
            self._notifier.notify(state)
        except OSError as error:  # the supervisor decides how to react
            log.warning("supervisor_not_told", error=error.strerror)


def _watchdog_seconds() -> float:
    """Return the time without notification after which the server counts as dead; 0 if never."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    for_us = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(microseconds) / 1_000_000 if microseconds.isdecimal() and for_us else 0.0
