"""Owns the proof for clients that did not stay and read, whose stream is cut somewhere.

What is proved of each session, byte for byte:
- one that was there from the start received a prefix of the user's stream. It must be all of it,
  unless the client left, or took nothing for as long as a server may disconnect it for, and was.
- no other session may be disconnected, not even one that has received everything.
- one that came back received the user's stream from some event on: whole lines, in order, nothing
  left out, to the end. That event comes after all that the first session received, and is no later
  than the first that the source began to send after the user id had been sent again. The protocol
  leaves open where exactly it lies between the two.
"""

from bisect import bisect_left
from collections.abc import Sequence

from simulator.play.client import Evidence
from simulator.play.unsteady import STALL, UnsteadySession
from simulator.stream.oracle import Oracle
from simulator.stream.workload import Step, Workload

_KEPT = 128 * 1024  # bytes of evidence


def verify(
    workload: Workload, sessions: Sequence[UnsteadySession], stall_timeout: float
) -> list[Evidence]:
    """Evidence for each session that received what it should not; routes the stream once more."""
    if not sessions:
        return []
    users = tuple(dict.fromkeys(session.user for session in sessions))
    checks = [(_Check(session, stall_timeout), users.index(session.user)) for session in sessions]
    oracle = Oracle(users)
    for step in workload.steps():
        routed = list(oracle.route(step))
        for check, place in checks:
            check.add(step, routed[place])
    failures = [check.finish() for check, _ in checks]
    for session in sessions:
        session.spool.close()
    return [evidence for evidence in failures if evidence is not None]


class _Check:
    """Holds one session against the user's stream, which it is given step by step."""

    def __init__(self, session: UnsteadySession, stall_timeout: float) -> None:
        self._session = session
        self._stall_timeout = stall_timeout
        self._spool = session.spool
        self._spool.seek(0)
        self._offset = 0  # in the user's stream
        self._compared = 0  # bytes of the spool that are as expected
        self._fault: int | None = None  # where in the user's stream the first wrong line begins
        # Where in the user's stream the session begins, and the bounds for that.
        self._begins: int | None = 0 if session.follows is None else None
        self._earliest = 0
        self._latest: int | None = 0 if session.known is None else None
        self._first = self._first_number()

    def add(self, step: Step, indices: list[int]) -> None:
        """Takes the events of the next step that the user receives."""
        lines = [step.lines[index] for index in indices]
        start = 0
        if self._session.follows is not None:
            start = self._place(step, indices, lines)
        if self._begins is not None and self._fault is None:
            self._compare(lines[start:], self._offset + sum(map(len, lines[:start])))
        self._offset += sum(map(len, lines))

    def finish(self) -> Evidence | None:
        """The evidence if anything was wrong."""
        if self._session.follows is not None:
            latest = self._offset if self._latest is None else self._latest
            if not self._session.received:
                self._begins = self._offset
            if self._begins is None or self._begins < self._earliest:
                return self._evidence(self._earliest, 0)
            if self._begins > latest:
                return self._evidence(latest, 0)
        if self._fault is not None:
            return self._evidence(self._fault, self._fault - (self._begins or 0))
        if self._compared < self._session.received:
            return self._evidence(self._offset, self._compared)
        reached = (self._begins or 0) + self._compared
        if not self._may_end(whole=reached == self._offset):
            return self._evidence(reached, self._compared)
        return None

    def _place(self, step: Step, indices: list[int], lines: list[bytes]) -> int:
        """Finds where the session begins, and the bounds; the first of the lines that it has."""
        assert self._session.follows is not None
        offset, begins_at = self._offset, 0
        wanted = None
        if self._begins is None and self._first is not None:
            place = bisect_left(indices, self._first - step.first)
            if place < len(indices) and indices[place] == self._first - step.first:
                wanted = place
        for place, line in enumerate(lines):
            if place == wanted:
                self._begins, begins_at = offset, place
            if self._latest is None and step.first + indices[place] > (self._session.known or 0):
                self._latest = offset
            if offset < self._session.follows.received:
                self._earliest = offset + len(line)
            offset += len(line)
        return begins_at

    def _compare(self, lines: list[bytes], offset: int) -> None:
        payload = b"".join(lines)
        came = self._spool.read(len(payload))
        if came == payload[: len(came)]:
            self._compared += len(came)
            return
        self._fault = offset
        for line in lines:
            if not came.startswith(line):
                return
            came = came[len(line) :]
            self._fault += len(line)

    def _may_end(self, *, whole: bool) -> bool:
        session = self._session
        if session.closed_by is not None:
            stalling = session.habit is not None and session.habit.kind == STALL
            disconnected = stalling and not session.gave_up
            return disconnected and session.stalled >= self._stall_timeout
        late = session.known is not None and session.expected.last_number <= session.known
        return whole or late or session.left

    def _first_number(self) -> int | None:
        digits = self._spool.readline(64).partition(b"|")[0]
        self._spool.seek(0)
        return int(digits) if digits.isdigit() and len(digits) < 20 else None

    def _evidence(self, start: int, skipped: int) -> Evidence:
        """`start` is where in the user's stream, `skipped` where in the spool."""
        session = self._session
        self._spool.seek(skipped)
        kept = self._spool.read(_KEPT)
        fate = session.closed_by or (
            f"connection left by the client after {session.received:,} bytes"
            if session.left
            else f"connection still open after {session.received:,} bytes"
        )
        if session.follows is not None:
            fate = f"came back; {fate}"
        whole = skipped + len(kept) == session.received
        return Evidence(session.user, start, kept, whole, fate)
