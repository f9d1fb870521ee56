"""One process that the parent keeps running: the ingest or an edge."""

import json
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

import gevent
import structlog
from gevent import subprocess
from gevent.event import AsyncResult, Event
from gevent.socket import socket, socketpair

from maze.admin.relay import METRICS, QUESTION
from maze.net.frames import Frame, FrameError, encode_frame, read_frames
from maze.roles.child import VARIABLE, Child

log = structlog.get_logger()

RESTART_SECONDS = 0.1
"""Delay before a process that has ended is started again."""

MAX_RESTART_SECONDS = 5.0
"""Longest such delay: it doubles each time a process ends before it is ready."""


MAX_UNANSWERED = 5
"""Questions without an answer at which no more are asked."""


class NoAnswerError(Exception):
    """A process does not answer."""


class ChildProcess:
    """A process that is started again whenever it ends, until the parent stops.

    ``folder`` is removed by the process if it outlives the parent; it is empty for none.
    ``on_refusal`` is called with the status of a process that ends with an error before it was ever
    ready: its options are wrong, or what it needs cannot be used.
    """

    def __init__(
        self,
        name: str,
        number: int,
        arguments: Sequence[str],
        listeners: dict[str, socket],
        *,
        folder: str,
        on_refusal: Callable[[int], None],
    ) -> None:
        self.name = name
        self.number = number
        """0 for the ingest; edges are numbered from 1."""
        self._command = [sys.executable, "-m", "maze.serve", *arguments]
        self._listeners = listeners
        self._folder = folder
        self._on_refusal = on_refusal
        self._control: socket | None = None
        self._questions: socket | None = None
        self._unanswered: deque[AsyncResult[Frame]] = deque()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopping = False
        self._was_ready = False
        self._must_reload = False
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

    def drain(self, seconds: float) -> None:
        """Have the process drain and end within that time; it is not started again."""
        self._is_stopping = True
        if self._control:
            with suppress(OSError):
                self._control.sendall(b"%.3f" % max(0.0, seconds))

    def ask(self, timeout: float, *question: object) -> Any:
        """Return the answer to a question, see ``admin.relay``; wait at most ``timeout`` seconds.

        A process answers before it is ready, too. Raise NoAnswerError.
        """
        questions = self._questions
        if questions is None:
            raise NoAnswerError
        if len(self._unanswered) >= MAX_UNANSWERED:
            raise NoAnswerError
        answer: AsyncResult[Frame] = AsyncResult()
        self._unanswered.append(answer)
        try:
            questions.sendall(encode_frame(QUESTION, json.dumps(question).encode()))
            frame = answer.get(timeout=timeout)
            assert frame
        except (OSError, gevent.Timeout):
            raise NoAnswerError from None
        content: Any = frame.content
        return content if frame.kind == METRICS else json.loads(content)

    def _take_answers(self, questions: socket) -> None:
        with suppress(OSError, FrameError), questions.makefile("rb") as answers:
            for frame in read_frames(answers):
                self._unanswered.popleft().set(frame)

    def reload(self) -> None:
        """Have the process reload its certificates and log level, once it is ready."""
        self._must_reload = not self.ready.is_set()
        if not self._must_reload:
            self.send_signal(signal.SIGHUP)

    def send_signal(self, number: int) -> None:
        """Send a signal to the process, if there is one."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """End the process at once; it is not started again."""
        self._is_stopping = True
        self.send_signal(signal.SIGKILL)

    def _run(self) -> None:
        try:
            self._keep_running()
        finally:
            self.ended.set()

    def _keep_running(self) -> None:
        delay = RESTART_SECONDS
        while not self._is_stopping:
            began = monotonic()
            status = self._run_once()
            if self.ready.is_set():
                delay = RESTART_SECONDS
            self.ready.clear()
            if self._is_stopping:
                return
            if status is not None and status > 0 and not self._was_ready:
                self._on_refusal(status)
                return
            self.restarts += 1
            log.error(
                "process_ended",
                process=self.name,
                status=status,
                seconds=round(monotonic() - began, 3),
                restarts_after_seconds=delay,
            )
            gevent.sleep(delay)
            delay = min(2 * delay, MAX_RESTART_SECONDS)

    def _run_once(self) -> int | None:
        """Start the process, and wait until it ends; return its status, or None without one."""
        try:
            (ours, theirs), (asking, answering) = socketpair(), socketpair()
        except OSError as error:
            self._log_not_started(error)
            return None
        passed = {name: listener.fileno() for name, listener in self._listeners.items()}
        child = Child(self.name, theirs.fileno(), answering.fileno(), passed, self._folder)
        environment = {
            name: value for name, value in os.environ.items() if name not in _NOT_FOR_CHILDREN
        }
        with ours, theirs, asking, answering:
            self._control, self._questions = ours, asking
            self._unanswered.clear()
            try:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), answering.fileno(), *passed.values()),
                    env=environment | {VARIABLE: child.encode()},
                )
            except OSError as error:
                self._log_not_started(error)
                return None
            theirs.close()
            answering.close()
            if self._is_stopping:
                self._process.kill()
            reading: list[gevent.Greenlet[..., None]] = [
                gevent.spawn(self._wait_until_ready, ours),
                gevent.spawn(self._take_answers, asking),
            ]
            status = int(self._process.wait())
            for greenlet in reading:
                greenlet.kill()
            self._control = self._questions = None
        return status

    def _log_not_started(self, error: OSError) -> None:
        """Log that the system could not start the process; it is tried again."""
        log.error("process_not_started", process=self.name, error=str(error.strerror or error))

    def _wait_until_ready(self, control: socket) -> None:
        with suppress(OSError):
            if control.recv(1):
                self._was_ready = True
                self.ready.set()
                if self._must_reload:
                    self.reload()


_NOT_FOR_CHILDREN = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}
"""The supervisor is told by the parent alone."""
