"""One process that the parent keeps running: the ingest or an edge."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic

import gevent
import structlog
from gevent import subprocess
from gevent.event import Event
from gevent.socket import socket, socketpair

from maze.roles.child import DRAIN, VARIABLE, Child

log = structlog.get_logger()

RESTART_SECONDS = 0.1
"""Delay before a process that has ended is started again."""

MAX_RESTART_SECONDS = 5.0
"""Longest such delay: it doubles each time a process ends before it is ready."""


class ChildProcess:
    """A process that is started again whenever it ends, until the parent stops.

    ``on_refusal`` is called with the status of a process that ends before it was ever ready: its
    options are wrong, or what it needs cannot be used.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        listeners: dict[str, socket],
        on_refusal: Callable[[int], None],
    ) -> None:
        self.name = name
        self._command = [sys.executable, "-m", "maze.serve", *arguments]
        self._listeners = listeners
        self._on_refusal = on_refusal
        self._control: socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopping = False
        self._was_ready = False
        self.ready = Event()
        """Set while the process serves."""
        self.ended = Event()
        """Set once the process has ended and is not started again."""
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """The id of the process; None if there is none."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process, and keep it running."""
        gevent.spawn(self._run)

    def drain(self) -> None:
        """Have the process drain; it is not started again."""
        self._is_stopping = True
        if self._control:
            with suppress(OSError):
                self._control.sendall(DRAIN)

    def send_signal(self, number: int) -> None:
        """Send a signal to the process, if there is one."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """End the process at once; it is not started again."""
        self._is_stopping = True
        self.send_signal(signal.SIGKILL)

    def _run(self) -> None:
        delay = RESTART_SECONDS
        while not self._is_stopping:
            began = monotonic()
            status = self._run_once()
            if self._is_stopping:
                break
            if not self._was_ready:
                self._on_refusal(status)
                break
            self.restarts += 1
            log.error(
                "process_ended",
                process=self.name,
                status=status,
                seconds=round(monotonic() - began, 3),
                restarts_after_seconds=delay,
            )
            gevent.sleep(delay)
            is_ready = self.ready.is_set()
            self.ready.clear()
            delay = RESTART_SECONDS if is_ready else min(2 * delay, MAX_RESTART_SECONDS)
        self.ended.set()

    def _run_once(self) -> int:
        """Start the process, and wait until it ends; return its status."""
        ours, theirs = socketpair()
        passed = {name: listener.fileno() for name, listener in self._listeners.items()}
        child = Child(self.name, theirs.fileno(), passed)
        environment = {
            name: value for name, value in os.environ.items() if name not in _NOT_FOR_CHILDREN
        }
        with ours, theirs:
            self._control = ours
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), *passed.values()),
                env=environment | {VARIABLE: child.encode()},
            )
            theirs.close()
            if self._is_stopping:
                self._process.kill()
            waiting = gevent.spawn(self._wait_until_ready, ours)
            status = int(self._process.wait())
            waiting.kill()
            self._control = None
        return status

    def _wait_until_ready(self, control: socket) -> None:
        with suppress(OSError):
            if control.recv(1):
                self._was_ready = True
                self.ready.set()


_NOT_FOR_CHILDREN = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}
"""The supervisor is told by the parent alone."""
