"""Decides which slow sessions hold up the others: which the log names, which are disconnected.

With ``slow-client=wait`` the router waits while a session, or all sessions together, hold
more than they may. If all clients are slow, that is what back-pressure is for. If only a
few are, the others get nothing meanwhile, although they could take it. The router reports
how long it waits and, after each quarter of a second of waiting, for which sessions. That time
counts against these sessions. A session whose time within a minute exceeds the hold timeout is
to be disconnected.

This module must never know a clock, a log or the event loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from operator import attrgetter
from typing import Generic, Protocol, TypeVar

WINDOW_SECONDS = 60.0
LOOK_SECONDS = 0.25
"""Waiting time between two looks at which sessions hold up the others; less with a short hold
timeout."""
MIN_LOOKS = 10
"""Least number of looks within one hold timeout."""
MIN_PAUSE_SECONDS = 0.001
"""Shortest wait before a look: at the beginning of a wait no client has taken what was just sent,
so all would look slow."""
NAMED_LOOKS = 2
"""Looks that have to find a session before the log names it; a single one may be chance."""
NOTICE_SECONDS = 1.0
"""Shortest time between two log lines."""
NAMED_SESSIONS = 5
"""Most sessions named in one log line, which also gives their total."""
ASKED_AT_ONCE = 100
"""Sessions asked whether they are idle before others run; each question takes 2 us."""


class Client(Protocol):
    """What this module needs of a session."""

    @property
    def user(self) -> int:
        """The user id that the client sent."""

    @property
    def peer(self) -> str:
        """The client's address, as logged."""

    @property
    def held_bytes(self) -> int:
        """Memory that everything queued for the session takes, in bytes."""

    def has_taken_all(self) -> bool:
        """Whether nothing is queued, and the client's system has acknowledged all that was sent."""


Session = TypeVar("Session", bound=Client)


class _Account:
    """The waiting time that counts against one session, as spans with their beginnings."""

    __slots__ = ("_spans", "named", "seconds")

    def __init__(self) -> None:
        self.named = False
        self.seconds = 0.0
        self._spans: deque[tuple[float, float]] = deque()

    @property
    def looks(self) -> int:
        return len(self._spans)

    def add(self, seconds: float, now: float) -> None:
        self._spans.append((now - seconds, seconds))
        self.seconds += seconds

    def expire(self, before: float) -> None:
        while self._spans and self._spans[0][0] < before:
            self.seconds -= self._spans.popleft()[1]


class Holding(Generic[Session]):
    """The time that counts against each session in the last minute.

    Sessions for which the router has not waited in that minute are not kept.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._look_seconds = min(LOOK_SECONDS, timeout / MIN_LOOKS)
        self._waited = 0.0
        self._accounts: dict[Session, _Account] = {}
        self._notice_from = 0.0

    @property
    def pause(self) -> float:
        """Time that the router may wait until the next look is due, in seconds."""
        return max(self._look_seconds - self._waited, MIN_PAUSE_SECONDS)

    def waited(self, seconds: float) -> None:
        """Note that the router waited that long; short waits add up to the next look."""
        self._waited += seconds

    def count(self, holders: Collection[Session], now: float) -> list[tuple[Session, float]]:
        """Count the time since the last look against ``holders``.

        Return the sessions that exceed the timeout, each with all the time that counts against
        it. At most two looks' time is counted: a look later than that means that the server
        itself stood still.
        """
        seconds = min(self._waited, 2 * self._look_seconds)
        self._waited = 0.0
        self._expire(now)
        overdue = []
        for session in holders:
            account = self._accounts.setdefault(session, _Account())
            account.add(seconds, now)
            if account.seconds > self._timeout:
                overdue.append((session, account.seconds))
        return overdue

    def notice(self, now: float) -> dict[str, object]:
        """Return the fields of a log line on who holds up the others; empty if none is due.

        At most one line is due a second, and a session causes at most one line a minute.
        """
        found = [(a, s) for s, a in self._accounts.items() if a.looks >= NAMED_LOOKS]
        if now < self._notice_from or all(account.named for account, _ in found):
            return {}
        self._notice_from = now + NOTICE_SECONDS
        for account, _ in found:
            account.named = True
        found.sort(key=lambda pair: pair[0].seconds, reverse=True)
        worst = [session for _, session in found[:NAMED_SESSIONS]]
        return {
            "sessions": len(found),
            "waited_seconds": round(found[0][0].seconds, 3),
            "hold_timeout": self._timeout,
            "users": ", ".join(str(session.user) for session in worst),
            "clients": ", ".join(session.peer for session in worst),
        }

    def remove(self, session: Session) -> None:
        """Drop the account of a session that has ended."""
        self._accounts.pop(session, None)

    def _expire(self, now: float) -> None:
        for session, account in list(self._accounts.items()):
            account.expire(now - WINDOW_SECONDS)
            if not account.looks:
                del self._accounts[session]


def holders(
    full: Collection[Session],
    sessions: Collection[Session],
    excess: int,
    yield_if_due: Callable[[], object],
) -> list[Session]:
    """Return the sessions that hold up the others, the fullest first; none if all are slow.

    The sessions in ``full`` exceed their own bound; all sessions together exceed the common bound
    by ``excess`` bytes. Only a few are slow if at least as many sessions are idle. Sessions may
    end while ``yield_if_due`` runs.
    """
    found = dict.fromkeys(full)
    if excess > 0:
        found.update(dict.fromkeys(_fullest(sessions, excess)))
    if not _are_idle(sessions, len(found), yield_if_due):
        return []
    left = [session for session in found if session in sessions]
    return sorted(left, key=attrgetter("held_bytes"), reverse=True)


def _fullest(sessions: Collection[Session], excess: int) -> list[Session]:
    """Return the fullest sessions that together hold the excess, and all about as full.

    About as full means with more than half as much as the least of them. If many sessions hold
    about the same, which of them is the fullest changes all the time: were time counted against
    the fullest alone, none would ever reach the timeout. How many to disconnect is the router's
    decision.
    """
    fullest_first = sorted(sessions, key=attrgetter("held_bytes"), reverse=True)
    least = 0
    for session in fullest_first:
        least = session.held_bytes
        excess -= least
        if excess <= 0:
            break
    return [session for session in fullest_first if session.held_bytes > least // 2]


def _are_idle(
    sessions: Collection[Session], wanted: int, yield_if_due: Callable[[], object]
) -> bool:
    """Whether at least ``wanted`` sessions are idle: have taken everything, and wait for more.

    An empty queue is not enough. For a client that has stopped reading, the kernels on both sides
    buffer megabytes before anything is queued here, and how much differs from client to client.
    When all clients have stopped, some queues are therefore still empty.
    """
    if wanted > len(sessions) // 2:
        return False
    for asked, session in enumerate(list(sessions), start=1):
        if not wanted:
            break
        wanted -= session.has_taken_all()
        if not asked % ASKED_AT_ONCE:
            yield_if_due()
    return not wanted
