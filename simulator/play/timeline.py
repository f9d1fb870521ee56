"""Owns what a run looked like over time: events, bytes, and what the server used, sampled.

Must never know what is drawn from it. Sampling is bounded: when there are too many samples every
second one goes and the interval doubles, so that a run of any length costs the same.
"""

import os
from dataclasses import dataclass
from pathlib import Path

FIRST_INTERVAL = 0.02  # seconds
MAX_SAMPLES = 2_000
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Sample:
    """What had happened by then. The server's part is None where it cannot be seen."""

    seconds: float  # since the first sample
    events: int  # sent
    bytes: int  # received
    cpu_seconds: float | None
    memory: int | None  # bytes, resident


class Timeline:
    """The samples of one play."""

    def __init__(self, pid: int | None = None, process_table: Path = Path("/proc")) -> None:
        self.samples: list[Sample] = []
        self._process = None if pid is None else process_table / str(pid)
        self._interval = FIRST_INTERVAL
        self._began: float | None = None
        self._next = 0.0

    def observe(self, now: float, events: int, received: int) -> None:
        """Takes a sample if one is due; call this often."""
        if now < self._next:
            return
        self._next = now + self._interval
        self.take(now, events, received)

    def finish(self, seconds: float, events: int, received: int) -> None:
        """The last sample, of a play that took so long."""
        if self._began is not None:
            self.take(self._began + seconds, events, received)

    def take(self, now: float, events: int, received: int) -> None:
        """Takes a sample, due or not."""
        if self._began is None:
            self._began = now
        self.samples.append(Sample(now - self._began, events, received, *self._server()))
        if len(self.samples) > MAX_SAMPLES:
            del self.samples[1::2]
            self._interval *= 2

    @property
    def cpu_seconds(self) -> float | None:
        """What the server took from the first sample to the last, if it was seen."""
        seen = [sample.cpu_seconds for sample in self.samples if sample.cpu_seconds is not None]
        return seen[-1] - seen[0] if len(seen) > 1 else None

    def _server(self) -> tuple[float | None, int | None]:
        if self._process is None:
            return None, None
        try:
            # The name, in brackets, may contain anything: what follows it is counted from there.
            fields = (self._process / "stat").read_text().rpartition(")")[2].split()
            pages = int((self._process / "statm").read_text().split()[1])
        except (OSError, IndexError):
            return None, None
        return (int(fields[11]) + int(fields[12])) / _TICKS, pages * _PAGE
