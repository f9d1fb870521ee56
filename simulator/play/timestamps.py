"""Owns what is noted of a connection during a play: when which offset of its bytes was reached.

Must never know what is worked out from it: `latency` does, afterwards.
"""

from array import array


class Timestamps:
    """Times in seconds and offsets in bytes, both ascending."""

    def __init__(self) -> None:
        self.times = array("d")
        self.offsets = array("q")

    def add(self, now: float, offset: int) -> None:
        """All bytes before `offset` were handed over or read by now."""
        self.times.append(now)
        self.offsets.append(offset)
