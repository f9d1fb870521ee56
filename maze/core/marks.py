"""Lists which routed events changed nothing, for runs that are decoded again later.

The fan-out marks follows and unfollows that did not change the graph. Lines do not have the marks,
so whoever stores lines stores the marked numbers as well, as 64-bit integers of this machine.
"""

from array import array
from bisect import bisect_left

from maze.core.events import FOLLOW, FOLLOW_UNCHANGED, UNFOLLOW, UNFOLLOW_UNCHANGED, Run

UNCHANGED = {FOLLOW: FOLLOW_UNCHANGED, UNFOLLOW: UNFOLLOW_UNCHANGED}


def unchanged_numbers(runs: list[Run], end: int) -> bytes:
    """Return which numbers below ``end`` are marked, in runs that were routed up to there."""
    return array(
        "Q",
        [
            sequence
            for run in runs
            if not run.void and run.first < end
            for sequence, _, kind, *_ in run.clip(run.first, end).events
            if kind in (FOLLOW_UNCHANGED, UNFOLLOW_UNCHANGED)
        ],
    ).tobytes()


def mark_unchanged(runs: list[Run], numbers: bytes) -> None:
    """Mark the events with the numbers that ``unchanged_numbers`` returned; ignore other numbers.

    Runs and numbers are in order.
    """
    marked = array("Q", numbers)
    for run in runs:
        for number in marked[bisect_left(marked, run.first) : bisect_left(marked, run.end)]:
            index = number - run.first
            sequence, line, kind, sender, target = run.events[index]
            run.events[index] = (sequence, line, UNCHANGED.get(kind, kind), sender, target)
