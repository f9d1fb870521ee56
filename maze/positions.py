"""Tells the sessions that asked for it at which position they are.

Who sent a bar behind its user id gets a position line first, again after each
``position-interval`` in which nothing else was queued for it, so that the position of a quiet
user does not grow old, and at a reset, before the first event of the new epoch. Nothing is kept
yet for who comes back: a position that a client sends is answered by ``!``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import TYPE_CHECKING

import gevent

from maze.core import REACHED, Payload, Position, Tape, position_line

if TYPE_CHECKING:
    from maze.session import Session

LOOKS = 10
"""Looks at the silent sessions within each position interval."""


class Positions:
    """The sessions that asked for positions.

    ``present`` gives the position of whoever has everything so far, ``flush`` sends what is
    queued for sessions.
    """

    def __init__(
        self,
        interval: float,
        present: Callable[[], Position],
        flush: Callable[[Sequence[Session]], None],
    ) -> None:
        self._interval = interval
        self._present = present
        self._flush = flush
        self._silent: dict[Session, tuple[int, float]] = {}
        """of each session: how many bytes were ever queued for it, and since when no more"""
        self._looking = False

    def join(self, session: Session, mark: bytes) -> None:
        """Queue the first line of a session; from here on it is told its position."""
        self._queue([session], mark)
        if not self._looking:
            self._looking = True
            gevent.spawn(self._look)

    def leave(self, session: Session) -> None:
        """Tell a session nothing more; nothing happens if it never asked."""
        self._silent.pop(session, None)

    def begin_epoch(self) -> None:
        """Tell everybody who asked the first position of a new epoch."""
        sessions = list(self._silent)
        self._queue(sessions, REACHED)
        self._flush(sessions)

    def _look(self) -> None:
        """Tell those who are silent, until nobody is left who asked."""
        while self._silent:
            gevent.sleep(self._interval / LOOKS)
            silent = self._have_been_silent(monotonic())
            self._queue(silent, REACHED)
            self._flush(silent)
        self._looking = False

    def _have_been_silent(self, now: float) -> list[Session]:
        """Note who got something; return those who got nothing for the interval.

        A session for which something waits is not silent: the line would only come behind it.
        """
        silent = []
        for session, (pushed_bytes, since) in self._silent.items():
            if session.pushed_bytes != pushed_bytes or session.queued_bytes:
                self._silent[session] = session.pushed_bytes, now
            elif now - since >= self._interval:
                silent.append(session)
        return silent

    def _queue(self, sessions: Iterable[Session], mark: bytes) -> None:
        line = position_line(mark, self._present())
        payload = Payload([line], len(line), len(line), Tape(b""))
        now = monotonic()
        for session in sessions:
            session.push(payload)
            self._silent[session] = session.pushed_bytes, now
