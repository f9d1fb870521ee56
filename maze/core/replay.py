"""Collects the lines that a user missed, from runs that were routed.

Nothing is kept for a user who is away. Whom the user followed at an earlier point can be derived
from whom it follows now: go back over the runs and undo its follows and unfollows. Only those that
changed the graph may be undone, so the fan-out marks the others (``events.FOLLOW_UNCHANGED``). Then
go forward again and collect the user's lines.
"""

from collections.abc import Collection

from maze.core.events import (
    BROADCAST,
    FOLLOW,
    FOLLOW_UNCHANGED,
    PRIVATE,
    STATUS,
    UNFOLLOW,
    Event,
    Run,
)
from maze.core.recent import Recent

TO_TARGET = {PRIVATE, FOLLOW, FOLLOW_UNCHANGED}
"""Types of which the target gets the line."""


class BehindError(Exception):
    """Events that a replay needs are no longer kept."""


class UserWalk:
    """One user's walk over routed runs, and whom the user follows at the point it has reached.

    ``first`` and ``end`` choose the events of a run, by number. Runs must have their marks, which
    tell the events that changed nothing.
    """

    def __init__(self, user: int, following: Collection[int]) -> None:
        self.user = user
        self._following = set(following)
        self._noted: list[tuple[bool, int]] = []  # (whether it is a follow, whom)

    @property
    def following(self) -> frozenset[int]:
        """Whom the user follows at the point reached."""
        return frozenset(self._following)

    def undo(self, run: Run, first: int, end: int) -> None:
        """Go back over events: undo the user's follows and unfollows, the last one first."""
        for _, _, kind, sender, target in reversed(_part(run, first, end)):
            if sender == self.user and kind in (FOLLOW, UNFOLLOW):
                self._change(kind == UNFOLLOW, target)

    def note(self, run: Run, first: int, end: int) -> None:
        """Note the user's follows and unfollows, for ``undo_noted``; whom it follows stays.

        For runs that can only be read in order: note all, then undo all.
        """
        for _, _, kind, sender, target in _part(run, first, end):
            if sender == self.user and kind in (FOLLOW, UNFOLLOW):
                self._noted.append((kind == FOLLOW, target))

    def undo_noted(self) -> None:
        """Undo what was noted, the last one first, and forget it."""
        while self._noted:
            is_follow, target = self._noted.pop()
            self._change(not is_follow, target)

    def collect(self, run: Run, first: int, end: int, max_bytes: int) -> tuple[bytes, int]:
        """Go forward over events; return the user's lines, and the number after the last event.

        Stop after the line that brings the lines to ``max_bytes``.
        """
        lines: list[bytes] = []
        size = 0
        for number, line, kind, sender, target in _part(run, first, end):
            if sender == self.user and kind in (FOLLOW, UNFOLLOW):
                self._change(kind == FOLLOW, target)
            if (
                kind == BROADCAST
                or (target == self.user and kind in TO_TARGET)
                or (kind == STATUS and sender in self._following)
            ):
                lines.append(line)
                size += len(line)
                if size >= max_bytes:
                    return b"".join(lines), number + 1
        return b"".join(lines), max(first, run.first, min(end, run.end))

    def _change(self, follows: bool, target: int) -> None:
        if follows:
            self._following.add(target)
        else:
            self._following.discard(target)


class Replay:
    """What one user missed since ``next_number``, collected from the recent runs in steps.

    ``following`` is whom the user follows after everything that ``recent`` was given so far. The
    replay first goes back to ``next_number``, then forward. It includes what is routed meanwhile.
    Without ``goes_back``, ``following`` is whom the user followed before ``next_number``.
    """

    def __init__(
        self,
        recent: Recent,
        user: int,
        following: Collection[int],
        next_number: int,
        *,
        goes_back: bool = True,
    ) -> None:
        if next_number > recent.end:
            raise ValueError("the number is above all that were routed")
        self._recent = recent
        self._times_begun = recent.times_begun
        self._walk = UserWalk(user, following)
        self._back_to = recent.end  # everything from here on is undone
        self.goes_back = goes_back and next_number < recent.end
        """Whether the replay still goes back."""
        self.next = next_number
        """All of the user's lines with lower numbers were returned."""
        self._check_kept()

    @property
    def following(self) -> frozenset[int]:
        """Whom the user followed before ``next``, once the replay goes forward."""
        return self._walk.following

    @property
    def is_complete(self) -> bool:
        """Whether the lines of everything routed so far were returned."""
        return self.next == self._recent.end and self._times_begun == self._recent.times_begun

    def step(self, max_events: int, max_bytes: int) -> bytes:
        """Return more of the user's lines, often none; look at no more than ``max_events`` events.

        Stop after the line that brings the result to ``max_bytes``. Raise BehindError if events
        that are still needed were dropped.
        """
        self._check_kept()
        if self.goes_back:
            max_events = self._go_back(max_events)
        return b"" if self.goes_back else self._go_forward(max_events, max_bytes)

    def _check_kept(self) -> None:
        if self._times_begun != self._recent.times_begun or self.next < self._recent.kept_from:
            raise BehindError(f"the events from number {self.next} on are no longer kept")

    def _go_back(self, max_events: int) -> int:
        """Undo up to ``max_events`` events; return how many of them are left to look at."""
        left = max_events
        for run in self._recent.runs_before(self._back_to):
            if run.end <= self.next:
                break
            if left <= 0:
                return 0
            low, end = max(run.first, self.next), min(run.end, self._back_to)
            first = max(low, end - left)
            self._walk.undo(run, first, end)
            self._back_to = first
            left -= end - first
            if first > low:
                return 0
        self.goes_back = False
        return left

    def _go_forward(self, max_events: int, max_bytes: int) -> bytes:
        """Collect the lines of up to ``max_events`` events."""
        lines: list[bytes] = []
        for run in self._recent.runs_from(self.next):
            if max_events <= 0:
                return b"".join(lines)
            first = max(run.first, self.next)
            found, self.next = self._walk.collect(run, first, first + max_events, max_bytes)
            lines.append(found)
            max_events -= self.next - first
            max_bytes -= len(found)
            if max_bytes <= 0 or self.next < run.end:
                return b"".join(lines)
        self.next = self._recent.end
        return b"".join(lines)


def _part(run: Run, first: int, end: int) -> list[Event]:
    """Return the events with the numbers ``first`` to ``end`` - 1, as far as the run has them."""
    return run.events[max(first - run.first, 0) : max(end - run.first, 0)]
