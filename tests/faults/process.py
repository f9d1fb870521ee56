"""A process's memory, descriptors and processor time, from ``/proc``."""

from __future__ import annotations

import os
from pathlib import Path

MB = 1_000_000


class Process:
    """A running process."""

    def __init__(self, number: int) -> None:
        self._folder = Path("/proc", str(number))

    def resident_bytes(self) -> int:
        return self._status("VmRSS")

    def peak_resident_bytes(self) -> int:
        """Return the peak of resident memory."""
        return self._status("VmHWM")

    def mapped_bytes(self) -> int:
        """Return the size of the address space, which RLIMIT_AS limits."""
        return self._status("VmSize")

    def descriptors(self) -> int:
        """Return the number of open files and sockets."""
        return len(list((self._folder / "fd").iterdir()))

    def processor_seconds(self) -> float:
        """Return the processor time used so far, in user and kernel mode."""
        fields = (self._folder / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _status(self, name: str) -> int:
        for line in (self._folder / "status").read_text().splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return int(value.split()[0]) * 1024
        raise LookupError(name)
