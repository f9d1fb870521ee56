"""Replays from the journal what one user missed, up to what is kept in memory.

The journal is read in blocks of runs with their marks (``journal_blocks``). The first pass finds
out whom the user followed at the client's position: it notes the user's follows and unfollows
since then, and undoes them. The second pass collects the user's lines.
"""

from collections.abc import Collection

from maze.core import BehindError, FollowGraph, Position, Recent, UserWalk
from maze.journal.journal import TrimmedError
from maze.net.time_slice import TimeSlice
from maze.pipeline.journal_blocks import Block, JournalBlocks


class JournalReplay:
    """One user's events from a position of the present epoch on.

    ``following`` is whom the user followed at the position, if that is known.
    """

    def __init__(
        self,
        blocks: JournalBlocks,
        recent: Recent,
        user: int,
        position: Position,
        *,
        following: Collection[int] | None = None,
    ) -> None:
        self._blocks = blocks
        self._recent = recent
        self._user = user
        self._epoch, self.next = position
        self._walk = None if following is None else UserWalk(user, following)
        self.goes_back = following is None
        """Whether ``go_back`` has to be called (again)."""
        self._next_to_note = position.next
        self._note_end = position.next
        self._times_begun = recent.times_begun

    @property
    def following(self) -> frozenset[int]:
        """Whom the user followed before ``next``."""
        assert self._walk is not None
        return self._walk.following

    @property
    def is_complete(self) -> bool:
        """Whether what follows is kept in memory."""
        return self._recent.kept_from <= self.next <= self._recent.end

    def go_back(self, graph: FollowGraph) -> None:
        """Take a step towards finding out whom the user followed at the position; this may wait.

        Call this while ``goes_back`` is true. Raise BehindError if another epoch has begun, and
        JournalError if the journal cannot be read or no longer has what follows the position.
        """
        if self._walk is None:
            self._walk = UserWalk(self._user, graph.following(self._user))
            self._note_end = self._undo_recent(self._walk)
            self._check_epoch()
        if self._next_to_note < self._note_end:
            block = self._block(self._next_to_note)
            for run in block.runs_from(self._next_to_note):
                self._walk.note(run, self._next_to_note, block.end)  # undoing twice is harmless
            self._next_to_note = block.end
        if self._next_to_note >= self._note_end:
            self._walk.undo_noted()
            self.goes_back = False

    def step(self, max_bytes: int) -> bytes:
        """Return more of the user's lines, often none; this may wait.

        Raise BehindError if what is needed is no longer kept or another epoch has begun, and
        JournalError if the journal cannot be read.
        """
        assert self._walk is not None
        try:
            block = self._block(self.next)
        except TrimmedError:
            raise BehindError(f"the events from number {self.next} on are no longer kept") from None
        lines: list[bytes] = []
        for run in block.runs_from(self.next):
            found, number = self._walk.collect(run, self.next, block.end, max_bytes)
            lines.append(found)
            max_bytes -= len(found)
            self.next = min(number, block.end)
            if max_bytes <= 0:
                break
        else:
            self.next = block.end
        return b"".join(lines)

    def _undo_recent(self, walk: UserWalk) -> int:
        """Undo what is kept in memory; return the number to which the walk has gone back."""
        until = max(self._recent.kept_from, self.next)
        back_to = self._recent.end
        time_slice = TimeSlice()
        for run in list(self._recent.runs_before(back_to)):
            walk.undo(run, until, back_to)
            back_to = run.first
            if time_slice.is_over():
                time_slice.begin_next()
        return until

    def _block(self, number: int) -> Block:
        """Return the block that contains a number. Raise BehindError if another epoch has begun."""
        block = self._blocks.get(Position(self._epoch, number))
        self._check_epoch()
        return block

    def _check_epoch(self) -> None:
        if self._recent.times_begun != self._times_begun:
            raise BehindError("another epoch has begun")
