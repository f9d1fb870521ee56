"""Positions: sends position lines to the sessions that asked for them.

A client asks for positions with a bar after its user id. Its session gets a position line first,
and another after each ``position-interval`` in which nothing else was queued for it, so that the
position of an idle client stays recent. At a reset it gets one before the first event of the new
epoch.
"""

from collections.abc import Callable, Iterable, Sequence
from time import monotonic

import gevent

from maze.core import REACHED, Payload, Position, Tape, position_line
from maze.pipeline.implementation import Outbox

CHECKS = 10
"""Checks for idle sessions in each position interval."""


class Positions:
    """The sessions that asked for positions.

    ``present`` returns the position after everything routed so far.
    ``flush`` sends what is queued for the given sessions.
    """

    def __init__(
        self,
        interval: float,
        present: Callable[[], Position],
        flush: Callable[[Sequence[Outbox]], None],
    ) -> None:
        self._interval = interval
        self._present = present
        self._flush = flush
        self._last_pushed: dict[Outbox, tuple[int, float]] = {}
        """For each session that asked, all bytes ever queued for it and when that last changed."""
        self._checking = False

    def add(self, session: Outbox) -> None:
        """Send a session position lines whenever it is idle, from now on."""
        self._last_pushed[session] = session.pushed_bytes, monotonic()
        if not self._checking:
            self._checking = True
            gevent.spawn(self._check)

    def remove(self, session: Outbox) -> None:
        """Stop sending position lines to a session; do nothing if it never asked."""
        self._last_pushed.pop(session, None)

    def sessions(self) -> list[Outbox]:
        """Return the sessions that asked."""
        return list(self._last_pushed)

    def begin_epoch(self, sessions: list[Outbox]) -> None:
        """Send the first position of a new epoch to sessions that asked."""
        self.queue(sessions, REACHED)
        self._flush(sessions)

    def queue(self, sessions: Iterable[Outbox], mark: bytes) -> None:
        """Queue a position line with the current position for each session."""
        payload = payload_of(position_line(mark, self._present()))
        now = monotonic()
        for session in sessions:
            session.push(payload)
            self._last_pushed[session] = session.pushed_bytes, now

    def _check(self) -> None:
        """Send positions to idle sessions until no session that asked is left."""
        while self._last_pushed:
            gevent.sleep(self._interval / CHECKS)
            idle = self._idle_sessions(monotonic())
            self.queue(idle, REACHED)
            self._flush(idle)
        self._checking = False

    def _idle_sessions(self, now: float) -> list[Outbox]:
        """Return the sessions idle for the whole interval; update the times of the others.

        A session with anything queued is not idle: a position line would only wait behind it.
        """
        idle = []
        for session, (pushed_bytes, since) in self._last_pushed.items():
            if session.pushed_bytes != pushed_bytes or session.queued_bytes:
                self._last_pushed[session] = session.pushed_bytes, now
            elif now - since >= self._interval:
                idle.append(session)
        return idle


def payload_of(data: bytes) -> Payload:
    """Return a payload of bytes that are not routed events of a batch."""
    return Payload([data], len(data), len(data), Tape(b""))
