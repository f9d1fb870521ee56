"""Whether anything grows: what the server held whenever a round was over.

Sessions, descriptors and greenlets have to be what they were in the warm-up, exactly. Resident
memory may still settle: its floor in the last quarter is held against its peak in the warm-up.
"""

from __future__ import annotations

Sample = dict[str, float]

COUNTED = ["sessions", "sources", "descriptors", "greenlets", "held_bytes"]
RESIDENT_FACTOR = 1.1
RESIDENT_SLACK = 8_000_000


class Growth:
    """Judges what the server holds at rest."""

    def __init__(self) -> None:
        self.resting: list[Sample] = []
        self._normal: Sample = {}

    def end_warm_up(self) -> None:
        """What there was at rest so far is what is normal."""
        assert self.resting, "the warm-up was too short for a round"
        self._normal = {
            name: max(sample[name] for sample in self.resting) for name in self.resting[0]
        }
        self.resting.clear()

    def excess(self, sample: Sample, staying: int) -> str:
        """What the server still holds that it should not hold at rest; nothing if it rests."""
        limits = self._normal or dict.fromkeys(COUNTED, float("inf"))
        limits = limits | {"sessions": staying, "sources": 0, "held_bytes": 0}
        return ", ".join(
            f"{name} {sample[name]:.0f}, not {limits[name]:.0f}"
            for name in COUNTED
            if sample[name] > limits[name]
        )

    def check_memory(self) -> None:
        """AssertionError if resident memory has grown since the warm-up."""
        assert self.resting, "the soak was too short: not a round was played after the warm-up"
        last = self.resting[-max(1, len(self.resting) // 4) :]
        floor = min(sample["resident_bytes"] for sample in last)
        limit = self._normal["resident_bytes"] * RESIDENT_FACTOR + RESIDENT_SLACK
        assert floor <= limit, (
            f"resident memory grew: {floor:,.0f} bytes, the limit is {limit:,.0f}"
        )
