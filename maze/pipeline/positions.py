"""Sends position lines to the sessions that asked for them.

A session asks by a bar after its user id. It gets a position line first, and again after each
``position-interval`` in which nothing else was queued for it, so that the position of an idle
session does not grow old. At a reset it gets one before the first event of the new epoch.
Events are not kept yet for clients that come back: a position that a client sends is answered
with ``!``.
"""

from collections.abc import Callable, Iterable, Sequence
from time import monotonic

import gevent

from maze.core import REACHED, Payload, Position, Tape, position_line
from maze.pipeline.implementation import Outbox

LOOKS = 10
"""How often within each position interval idle sessions are looked for."""


class Positions:
    """The sessions that asked for positions.

    ``present`` returns the position of a session that was given everything routed so far.
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
        self._silent: dict[Outbox, tuple[int, float]] = {}
        """for each session: how many bytes were ever queued for it, and since when no more were"""
        self._looking = False

    def add(self, session: Outbox, mark: bytes) -> None:
        """Queue a session's first position line, and send it further ones from now on."""
        self._queue([session], mark)
        if not self._looking:
            self._looking = True
            gevent.spawn(self._look)

    def remove(self, session: Outbox) -> None:
        """Send a session no more position lines; do nothing if it never asked."""
        self._silent.pop(session, None)

    def begin_epoch(self) -> None:
        """Send every session that asked the first position of a new epoch."""
        sessions = list(self._silent)
        self._queue(sessions, REACHED)
        self._flush(sessions)

    def _look(self) -> None:
        """Send idle sessions their positions, until no session that asked is left."""
        while self._silent:
            gevent.sleep(self._interval / LOOKS)
            silent = self._have_been_silent(monotonic())
            self._queue(silent, REACHED)
            self._flush(silent)
        self._looking = False

    def _have_been_silent(self, now: float) -> list[Outbox]:
        """Note which sessions were sent something; return those idle for the interval.

        A session with anything queued is not idle: a position line would only queue behind it.
        """
        silent = []
        for session, (pushed_bytes, since) in self._silent.items():
            if session.pushed_bytes != pushed_bytes or session.queued_bytes:
                self._silent[session] = session.pushed_bytes, now
            elif now - since >= self._interval:
                silent.append(session)
        return silent

    def _queue(self, sessions: Iterable[Outbox], mark: bytes) -> None:
        line = position_line(mark, self._present())
        payload = Payload([line], len(line), len(line), Tape(b""))
        now = monotonic()
        for session in sessions:
            session.push(payload)
            self._silent[session] = session.pushed_bytes, now
