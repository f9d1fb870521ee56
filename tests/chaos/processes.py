"""A server process that is started again when it ends, as systemd would do."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import gevent
from end_to_end.peers import until
from end_to_end.running import ROOT

RESTART_SECONDS = 0.1
"""Time from the end of a process until it is started again."""


SERVER = ("-m", "maze.serve")
WATCHED_SERVER = ("-m", "blocking")
"""What Python runs for a server, and for one that logs an error if it blocks its event loop."""

WATCH = {"GEVENT_MONITOR_THREAD_ENABLE": "1", "GEVENT_MAX_BLOCKING_TIME": "0.1"}


class Process:
    """One process after another with the same command. All write to the same log."""

    def __init__(self, name: str, folder: Path, program: Sequence[str], options: Sequence[str]):
        self.name = name
        self.log = folder / f"{name}.log"
        self.endings: list[tuple[int, float]] = []
        """Status and time of each end before ``stop``."""
        self.expected = {0}
        """Statuses with which a process may end."""
        self._environment = WATCH if program == WATCHED_SERVER else {}
        self._command = ["setpriv", "--pdeathsig", "KILL", sys.executable, *program]
        self._command += [*("--admin-port", "0", "--log-format", "json"), *options]
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self._log_begin = 0
        self._keeper: gevent.Greenlet[..., None] | None = None

    def start(self) -> Process:
        """Start the process, and keep it running."""
        self._start()
        self._keeper = gevent.spawn(self._keep)
        return self

    def _start(self) -> None:
        environment = {
            name: value
            for name, value in os.environ.items()
            if name != "LOG_LEVEL" and not name.startswith("MAZE_")
        }
        self.starts += 1
        with self.log.open("ab") as log:
            self._log_begin = log.tell()
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=environment | self._environment | {"PYTHONPATH": str(ROOT / "tests")},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    def _keep(self) -> None:
        while True:
            assert self._process
            status = self._process.poll()
            if status is None:
                gevent.sleep(0.01)
                continue
            self.endings.append((status, time.monotonic()))
            gevent.sleep(RESTART_SECONDS)
            self._start()

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether the process has not ended."""
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, and expect that the process may end by it."""
        if number == signal.SIGKILL:
            self.expected.add(-number)
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def limit_files(self, size: int) -> None:
        """Let no file grow beyond a size; this looks like a full disk."""
        limit_files(self.pid, size)

    def kill(self) -> None:
        """End the process and its children at once, for good."""
        if self._keeper:
            self._keeper.kill()
        if self._process:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def stop(self) -> int:
        """Stop the process with SIGTERM; return its status."""
        assert self._process
        if self._keeper:
            self._keeper.kill()
        self._process.terminate()
        until(lambda: not self.runs, f"{self.name} to stop")
        return int(self._process.returncode)

    def lines(self) -> list[dict[str, Any]]:
        """Return the log's lines; those that are not JSON have the event ``text``."""
        found = []
        for line in self.log.read_text(errors="replace").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                found.append({"event": "text", "level": "error", "text": line})
        return found

    def logged(self, *events: str) -> int:
        """Return how many lines of the log have one of the events."""
        text = self.log.read_text(errors="replace")
        return sum(text.count(f'"event": "{event}"') for event in events)

    @property
    def is_ready(self) -> bool:
        """Whether the present process serves."""
        lines = self.log.read_bytes()[self._log_begin :].splitlines()
        ready = (line for line in lines if b'"event": "ready"' in line)
        return self.runs and any(b'"process"' not in line for line in ready)

    def await_ready(self) -> None:
        until(lambda: self.is_ready, f"{self.name} to be ready")

    def children(self) -> dict[str, int]:
        """Return the ids of the processes that a parent has started, by name."""
        found = {}
        for pid in _children(self.pid):
            with suppress(OSError, ValueError, IndexError):
                environment = Path(f"/proc/{pid}/environ").read_bytes()
                value = environment.partition(b"MAZE_CHILD=")[2].split(b"\0")[0]
                found[str(json.loads(value)["name"])] = pid
        return found


def limit_files(pid: int, size: int) -> None:
    """Let no file of a process grow beyond a size."""
    with suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []
