"""Start the server as a child process, and always stop it.

The server is any command that writes JSON lines to stderr, one of them with ``"event": "ready"``,
``source_port`` and ``client_port``.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from simulator.errors import ServerProcessError

log = logging.getLogger("simulator")

COMMAND = (
    *(sys.executable, "-m", "maze.serve"),
    *("--source-port", "0", "--client-port", "0", "--admin-port", "0", "--log-format", "json"),
)
READY_TIMEOUT = 30.0
"""Maximum time to become ready; seconds."""

STOP_TIMEOUT = 15.0
"""Maximum time to stop; seconds. A server that drains may take ten."""

_END_SECONDS = 1.0
"""Maximum time that a process takes to end after closing its connections; seconds."""

_LAST_LINES = 10
"""Lines of stderr shown for a server that does not become ready."""

_LEVELS = {"warning": logging.WARNING, "error": logging.ERROR, "critical": logging.ERROR}
_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024
"""Unit of ``ru_maxrss``; bytes."""


@dataclass(frozen=True)
class Usage:
    """The resources that the server used from its start to its end."""

    cpu_seconds: float
    peak_bytes: int


class ServerProcess:
    """A server process; as a context manager, it starts and stops the process."""

    def __init__(
        self,
        command: Sequence[str] = COMMAND,
        ready_timeout: float = READY_TIMEOUT,
        stop_timeout: float = STOP_TIMEOUT,
    ) -> None:
        self.source_port = 0
        self.client_port = 0
        self.usage: Usage | None = None
        self._command = command
        self._ready_timeout = ready_timeout
        self._stop_timeout = stop_timeout
        self._last: deque[str] = deque(maxlen=_LAST_LINES)
        self._ready = False
        self._log_ended = False
        self._told = threading.Event()
        self._peak: int | None = None
        self._fault: str | None = None
        self._stopped = False

    def __enter__(self) -> Self:
        """Start the server and wait until it is ready, or raise ServerProcessError."""
        try:
            # A new session, so that Ctrl-C does not reach the server: stop() sends SIGTERM.
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            raise ServerProcessError(f"cannot start {self._command[0]}: {error}") from error
        self._drain = threading.Thread(target=self._read_stderr, daemon=True)
        self._drain.start()
        try:
            self._told.wait(self._ready_timeout)
            if not self._ready:
                raise ServerProcessError(self._why_not_ready())
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id, also after the end."""
        return self._process.pid

    @property
    def fault(self) -> str | None:
        """How the server ended, if that was a fault; otherwise None."""
        return self._fault

    def has_ended(self) -> bool:
        """Return whether the server has ended by itself; wait up to a second for its end."""
        return self.usage is not None or self._reap(_END_SECONDS)

    def stop(self) -> None:
        """Send SIGTERM, after a timeout SIGKILL; set ``usage`` and ``fault``."""
        if self._stopped:
            return
        self._stopped = True
        if self.usage is None:
            self._peak = self._high_water_mark()
        if self.usage is not None or self._reap(0.0):
            self._fault = self._fault_of_status() or "the server ended before it was stopped"
        else:
            self._terminate()
        self._end_reading()

    def kill(self) -> None:
        """Send SIGKILL; set ``usage``. Only an end before that is a fault."""
        if self._stopped:
            return
        self._stopped = True
        self._peak = self._high_water_mark()
        if self.usage is not None or self._reap(0.0):
            self._fault = self._fault_of_status() or "the server ended before it was killed"
        else:
            self._signal(signal.SIGKILL)
            self._reap(self._stop_timeout)
        self._end_reading()

    def _end_reading(self) -> None:
        self._drain.join(self._stop_timeout)
        if self._process.stderr is not None:
            self._process.stderr.close()

    def _terminate(self) -> None:
        self._signal(signal.SIGTERM)
        if self._reap(self._stop_timeout):
            self._fault = self._fault_of_status()
            return
        self._fault = f"the server did not stop within {self._stop_timeout:g} s, and was killed"
        self._signal(signal.SIGKILL)
        self._reap(self._stop_timeout)

    def _fault_of_status(self) -> str | None:
        status = self._process.returncode
        if status < 0:
            return f"the server was ended by {signal.Signals(-status).name}"
        return f"the server ended with status {status}" if status else None

    def _signal(self, number: signal.Signals) -> None:
        # Popen.send_signal would reap a child that has ended, and its usage would be lost.
        os.kill(self._process.pid, number)

    def _reap(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while True:
            pid, status, used = os.wait4(self._process.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self.usage = Usage(
            used.ru_utime + used.ru_stime, self._peak or used.ru_maxrss * _MAXRSS_BYTES
        )
        log.debug("the server ended with status %d", self._process.returncode)
        return True

    def _high_water_mark(self) -> int | None:
        """Return the peak memory in bytes, or None if it cannot be read.

        ``ru_maxrss`` of a child would include the memory of its parent before exec: a simulator
        with a prepared stream.
        """
        try:
            status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        except (OSError, ValueError):
            return None
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return None

    def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._take(line.rstrip())
        self._log_ended = True
        self._told.set()

    def _take(self, line: str) -> None:
        self._last.append(line)
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, Mapping):
            log.warning("server: %s", line)
            return
        log.log(
            _LEVELS.get(str(record.get("level")).lower(), logging.DEBUG),
            "server: %s",
            _shown(record),
        )
        if record.get("event") == "ready" and "process" not in record:  # one of several is ready
            self.source_port = int(record["source_port"])
            self.client_port = int(record["client_port"])
            self._ready = True
            self._told.set()

    def _why_not_ready(self) -> str:
        said = "; ".join(self._last) or "empty"
        if self._log_ended:
            return f"the server ended before it was ready; its log: {said}"
        return f"the server was not ready within {self._ready_timeout:g} s; its log: {said}"


def _shown(record: Mapping[str, object]) -> str:
    """Format a line of the server's log: the event, then its fields without level and time."""
    fields = [
        f"{name}={value}"
        for name, value in record.items()
        if name not in ("event", "level", "timestamp")
    ]
    return " ".join([str(record.get("event", "")), *fields])
