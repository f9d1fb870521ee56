"""Sample a play over time: events, bytes, the server's processor time and memory.

The number of samples is bounded: at the limit every second sample is dropped and the interval
doubles, so a run of any length costs the same.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

FIRST_INTERVAL = 0.02
"""Initial time between samples; seconds."""

MAX_SAMPLES = 2_000
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Sample:
    """The totals at one time. The server's are None if they cannot be read."""

    seconds: float  # since the first sample
    events: int  # sent
    bytes: int  # received
    cpu_seconds: float | None
    memory: int | None  # bytes, resident


class Timeline:
    """The samples of one play."""

    def __init__(self, pid: int | None = None, process_table: Path = Path("/proc")) -> None:
        self.samples: list[Sample] = []
        self._process_table = process_table
        self._process = None if pid is None else process_table / str(pid)
        self._cpu_before = 0.0  # of processes that have ended
        self._interval = FIRST_INTERVAL
        self._began: float | None = None
        self._next = 0.0

    def follow(self, pid: int) -> None:
        """Sample this process from now on, in place of one that has ended."""
        seen = [sample.cpu_seconds for sample in self.samples if sample.cpu_seconds is not None]
        self._cpu_before = seen[-1] if seen else 0.0
        self._process = self._process_table / str(pid)

    def observe(self, now: float, events: int, received: int) -> None:
        """Take a sample if one is due. Call this often."""
        if now < self._next:
            return
        self._next = now + self._interval
        self.take(now, events, received)

    def finish(self, seconds: float, events: int, received: int) -> None:
        """Take the last sample, ``seconds`` after the first."""
        if self._began is not None:
            self.take(self._began + seconds, events, received)

    def take(self, now: float, events: int, received: int) -> None:
        """Take a sample now."""
        if self._began is None:
            self._began = now
        self.samples.append(Sample(now - self._began, events, received, *self._server()))
        if len(self.samples) > MAX_SAMPLES:
            del self.samples[1::2]
            self._interval *= 2

    @property
    def cpu_seconds(self) -> float | None:
        """The server's processor time from the first sample to the last, if it could be read."""
        seen = [sample.cpu_seconds for sample in self.samples if sample.cpu_seconds is not None]
        return seen[-1] - seen[0] if len(seen) > 1 else None

    def _server(self) -> tuple[float | None, int | None]:
        """Return processor time and memory of the server's process and its children."""
        if self._process is None:
            return None, None
        try:
            ticks, pages = _usage(self._process)
        except (OSError, IndexError):
            return None, None
        for child in _children(self._process):
            with suppress(OSError, IndexError):  # it may have ended
                more_ticks, more_pages = _usage(self._process_table / child)
                ticks, pages = ticks + more_ticks, pages + more_pages
        return self._cpu_before + ticks / _TICKS, pages * _PAGE


def _usage(process: Path) -> tuple[int, int]:
    """Return the ticks of a process and its children that have ended, and its resident pages."""
    # The name in parentheses may contain anything: count fields after it.
    fields = (process / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    pages = int((process / "statm").read_text("ascii").split()[1])
    return sum(map(int, fields[11:15])), pages


def _children(process: Path) -> list[str]:
    """Return the ids of a process's children; none where the system does not list them."""
    try:
        return (process / "task" / process.name / "children").read_text("ascii").split()
    except OSError:
        return []
