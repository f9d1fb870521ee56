"""Growth of what the server holds at rest, that is at the end of each round.

Sessions, descriptors and greenlets must not exceed their number in the warm-up. Resident memory
may still settle: its minimum in the last quarter is compared with its peak in the warm-up.
"""

from __future__ import annotations

Sample = dict[str, float]

COUNTED = ["sessions", "sources", "descriptors", "greenlets", "held_bytes"]
RESIDENT_FACTOR = 1.1
RESIDENT_SLACK = 8_000_000
"""Resident memory may grow by this factor and this many bytes after the warm-up."""


class Growth:
    """Samples taken at rest, and the limits that the warm-up has set."""

    def __init__(self) -> None:
        self.resting: list[Sample] = []
        self._normal: Sample = {}

    def end_warm_up(self) -> None:
        """Take the maximum of each count so far as its limit."""
        assert self.resting, "the warm-up was too short for a round"
        self._normal = {
            name: max(sample[name] for sample in self.resting) for name in self.resting[0]
        }
        self.resting.clear()

    def excess(self, sample: Sample, staying: int) -> str:
        """Return which counts exceed their limits; an empty string if the server is at rest."""
        limits = self._normal or dict.fromkeys(COUNTED, float("inf"))
        limits = limits | {"sessions": staying, "sources": 0, "held_bytes": 0}
        return ", ".join(
            f"{name} {sample[name]:.0f}, not {limits[name]:.0f}"
            for name in COUNTED
            if sample[name] > limits[name]
        )

    def check_memory(self) -> None:
        """Raise AssertionError if resident memory has grown since the warm-up."""
        assert self.resting, "the soak was too short: not a round was played after the warm-up"
        last = self.resting[-max(1, len(self.resting) // 4) :]
        floor = min(sample["resident_bytes"] for sample in last)
        limit = self._normal["resident_bytes"] * RESIDENT_FACTOR + RESIDENT_SLACK
        assert floor <= limit, (
            f"resident memory grew: {floor:,.0f} bytes, the limit is {limit:,.0f}"
        )
