"""Record when each byte offset of a connection was reached, for ``verdict.latency``."""

from array import array


class Timestamps:
    """Times in seconds and offsets in bytes, both ascending."""

    def __init__(self) -> None:
        self.times = array("d")
        self.offsets = array("q")

    def add(self, now: float, offset: int) -> None:
        """Record that all bytes before ``offset`` were sent or received by ``now``."""
        self.times.append(now)
        self.offsets.append(offset)
