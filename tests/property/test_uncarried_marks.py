"""The marks that no batch carries yet, against a dict of numbers."""

from __future__ import annotations

from array import array

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from maze.core import Decoder, Fanout, FollowGraph
from maze.journal.marks import UncarriedMarks

LINES = [b"%d|F|1|2\n", b"%d|U|1|2\n", b"%d|B\n", b""]
"""The last is a number that was given up."""


class MarksMachine(RuleBasedStateMachine):
    """Routes events of one follow, some of which change nothing; batches carry the marks later."""

    def __init__(self) -> None:
        super().__init__()
        self.marks = UncarriedMarks()
        self.fanout = Fanout(FollowGraph())
        self.lines: dict[int, bytes] = {}
        self.end = self.carried = 0
        self.begun_at = 0

    @rule(number=st.integers(0, 20))
    def begin(self, number: int) -> None:
        self.marks.begin(number)
        self.fanout = Fanout(FollowGraph())
        self.lines = {}
        self.begun_at = self.end = self.carried = number

    @rule(kinds=st.lists(st.sampled_from(LINES), max_size=6))
    def route(self, kinds: list[bytes]) -> None:
        lines = [line % number if line else b"" for number, line in enumerate(kinds, self.end)]
        self.lines.update(enumerate(lines, self.end))
        runs, _ = Decoder().feed(b"".join(lines))
        self.fanout.route(runs)
        self.end += len(kinds)
        self.marks.note(runs, self.end)

    @rule(count=st.integers(0, 8))
    def cover(self, count: int) -> None:
        """A batch that has arrived carries marks, also those of events not routed yet here."""
        self.carried += count
        self.marks.cover(self.carried)

    def unchanged(self) -> list[int]:
        """Return the numbers that changed nothing, by a set of one follow."""
        follows, found = False, []
        for number, line in sorted(self.lines.items()):
            if b"|F|" in line or b"|U|" in line:
                if follows == (b"|F|" in line):
                    found.append(number)
                follows = b"|F|" in line
        return found

    @invariant()
    def what_is_not_carried_is_there(self) -> None:
        found = self.marks.all()
        covered = {number for each in found for number in range(each.first, each.end)}
        assert covered >= set(range(max(self.begun_at, self.carried), self.end))
        assert covered <= set(range(self.begun_at, self.end))
        assert [(each.first, each.end) for each in found] == sorted(
            (each.first, each.end) for each in found
        )
        for each in found:
            assert array("Q", each.numbers).tolist() == [
                number for number in self.unchanged() if each.first <= number < each.end
            ]


TestMarks = MarksMachine.TestCase
