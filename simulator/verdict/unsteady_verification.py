"""Verify what unsteady clients received, whose stream is cut at an unknown place.

The rules, byte for byte:
- A session connected from the start must receive a prefix of the user's stream. The prefix must be
  the whole stream, unless the client left, or the server disconnected it after a stall that was
  long enough.
- No other session may be disconnected, even after it has received everything.
- A second session must receive the user's stream from some event to the end: whole lines, in order,
  without gaps. That event must follow all those that the first session received. It must not be
  later than the first that the source began to send after the user id was sent again. Between the
  two, the protocol allows any.
"""

from bisect import bisect_left
from collections.abc import Sequence

from simulator.play.client import Evidence
from simulator.play.unsteady import STALL, UnsteadySession
from simulator.stream.oracle import Oracle
from simulator.stream.workload import Step, Workload

_MAX_EVIDENCE = 128 * 1024
"""Maximum bytes of evidence kept of a session."""


def verify(
    workload: Workload, sessions: Sequence[UnsteadySession], stall_timeout: float
) -> list[Evidence]:
    """Return evidence of each session that failed. Route the whole stream once."""
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
    """Compares one session with the user's stream, step by step."""

    def __init__(self, session: UnsteadySession, stall_timeout: float) -> None:
        self._session = session
        self._stall_timeout = stall_timeout
        self._spool = session.spool
        self._spool.seek(0)
        self._offset = 0  # in the user's stream
        self._compared = 0  # verified bytes of the spool
        self._fault: int | None = None  # offset of the first wrong line in the user's stream
        # The offset in the user's stream at which the session begins, and its bounds.
        self._begins: int | None = 0 if session.follows is None else None
        self._earliest = 0
        self._latest: int | None = 0 if session.known is None else None
        self._first = self._first_number()

    def add(self, step: Step, indices: list[int]) -> None:
        """Compare the events of the next step that the user receives."""
        lines = [step.lines[index] for index in indices]
        start = 0
        if self._session.follows is not None:
            start = self._place(step, indices, lines)
        if self._begins is not None and self._fault is None:
            self._compare(lines[start:], self._offset + sum(map(len, lines[:start])))
        self._offset += sum(map(len, lines))

    def finish(self) -> Evidence | None:
        """Return the evidence if the session failed."""
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
        """Find where the session begins, and the bounds; return the index of its first line."""
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
        got = self._spool.read(len(payload))
        if got == payload[: len(got)]:
            self._compared += len(got)
            return
        self._fault = offset
        for line in lines:
            if not got.startswith(line):
                return
            got = got[len(line) :]
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
        """Return the evidence from offset ``start`` of the stream, ``skipped`` of the spool."""
        session = self._session
        self._spool.seek(skipped)
        kept = self._spool.read(_MAX_EVIDENCE)
        fate = session.closed_by or (
            f"connection closed by the client after {session.received:,} bytes"
            if session.left
            else f"connection still open after {session.received:,} bytes"
        )
        if session.follows is not None:
            fate = f"reconnected; {fate}"
        whole = skipped + len(kept) == session.received
        return Evidence(session.user, start, kept, whole, fate)
