"""What the system tells of a process: its memory, descriptors and time."""

from __future__ import annotations

import os
from pathlib import Path

MB = 1_000_000


class Process:
    """A running process, looked at from outside."""

    def __init__(self, number: int) -> None:
        self._folder = Path("/proc", str(number))

    def resident_bytes(self) -> int:
        return self._status("VmRSS")

    def peak_resident_bytes(self) -> int:
        """The most that was resident at any time."""
        return self._status("VmHWM")

    def mapped_bytes(self) -> int:
        """What RLIMIT_AS limits."""
        return self._status("VmSize")

    def descriptors(self) -> int:
        """How many files and sockets are open."""
        return len(list((self._folder / "fd").iterdir()))

    def processor_seconds(self) -> float:
        """What it has computed so far, in user and kernel mode."""
        fields = (self._folder / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _status(self, name: str) -> int:
        for line in (self._folder / "status").read_text().splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return int(value.split()[0]) * 1024
        raise LookupError(name)
