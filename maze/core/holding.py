"""Decides which sessions hold up the others, and which of these to disconnect.

With ``slow-client=wait`` the router waits while a session, or all sessions together, exceed their
bound. If all clients are slow, this is ordinary back-pressure. If only a few are slow, the others
get nothing meanwhile, although they could take it. The router reports how long it waits and, after
each quarter of a second of waiting, for which sessions. The time counts against these sessions. A
session whose time within a minute exceeds the hold timeout has to be disconnected.

This module must not use a clock, the log or the event loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from operator import attrgetter
from typing import Generic, Protocol, TypeVar

WINDOW_SECONDS = 60.0
"""Period in which waiting time counts against a session."""
CHECK_SECONDS = 0.25
"""Waiting time between two checks for sessions that hold up the others. It is shorter if the hold
timeout is short."""
MIN_CHECKS = 10
"""Minimum number of checks within one hold timeout."""
MIN_PAUSE_SECONDS = 0.001
"""Shortest wait before a check. When a wait begins, no client has taken what was just sent, so all
would seem slow."""
MIN_CHECKS_TO_LOG = 2
"""Checks that have to find a session before the log names it; a single one may be chance."""
NOTICE_SECONDS = 1.0
"""Shortest time between two log lines."""
NAMED_SESSIONS = 5
"""Maximum sessions named in one log line, which also gives their total."""
EXAMINED_AT_ONCE = 100
"""Sessions examined for idleness before a yield. Examining one takes 2 us."""


class Client(Protocol):
    """The part of a session that this module uses."""

    @property
    def user(self) -> int:
        """The user id that the client sent."""

    @property
    def peer(self) -> str:
        """The client's address, as logged."""

    @property
    def held_bytes(self) -> int:
        """Memory that the payloads queued for the session take, in bytes."""

    def has_taken_all(self) -> bool:
        """Return whether nothing is queued and the client's kernel has acknowledged everything."""


Session = TypeVar("Session", bound=Client)


class _Account:
    """The waiting time that counts against one session, as spans of time."""

    __slots__ = ("_spans", "named", "seconds")

    def __init__(self) -> None:
        self.named = False
        self.seconds = 0.0
        self._spans: deque[tuple[float, float]] = deque()
        """When each span began, and its length in seconds."""

    @property
    def checks(self) -> int:
        """The number of checks that have found the session."""
        return len(self._spans)

    def add(self, seconds: float, now: float) -> None:
        self._spans.append((now - seconds, seconds))
        self.seconds += seconds

    def expire(self, before: float) -> None:
        while self._spans and self._spans[0][0] < before:
            self.seconds -= self._spans.popleft()[1]


class Holding(Generic[Session]):
    """The time that counts against each session in the last minute.

    Sessions for which the router has not waited in that minute have no entry.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._check_seconds = min(CHECK_SECONDS, timeout / MIN_CHECKS)
        self._waited = 0.0
        self._accounts: dict[Session, _Account] = {}
        self._next_notice_at = 0.0

    @property
    def pause(self) -> float:
        """Time that the router may wait until the next check is due, in seconds."""
        return max(self._check_seconds - self._waited, MIN_PAUSE_SECONDS)

    def waited(self, seconds: float) -> None:
        """Add time for which the router waited; short waits add up until a check is due."""
        self._waited += seconds

    def count(self, holders: Collection[Session], now: float) -> list[tuple[Session, float]]:
        """Count the time since the last check against ``holders``.

        Return the sessions that exceed the timeout, each with the total that counts against it. At
        most twice the usual time between two checks is counted: if a check comes later than that,
        the server itself was not running.
        """
        seconds = min(self._waited, 2 * self._check_seconds)
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
        """Return the fields of a log line about the sessions that hold up the others.

        Return an empty dictionary if no line is due. At most one line is due per second, and a
        session causes at most one line per minute.
        """
        found = [(s, a) for s, a in self._accounts.items() if a.checks >= MIN_CHECKS_TO_LOG]
        if now < self._next_notice_at or all(account.named for _, account in found):
            return {}
        self._next_notice_at = now + NOTICE_SECONDS
        for _, account in found:
            account.named = True
        found.sort(key=lambda pair: pair[1].seconds, reverse=True)
        worst = [session for session, _ in found[:NAMED_SESSIONS]]
        return {
            "sessions": len(found),
            "waited_seconds": round(found[0][1].seconds, 3),
            "hold_timeout": self._timeout,
            "users": ", ".join(str(session.user) for session in worst),
            "clients": ", ".join(session.peer for session in worst),
        }

    def remove(self, session: Session) -> None:
        """Remove the account of a session that has ended."""
        self._accounts.pop(session, None)

    def _expire(self, now: float) -> None:
        for session, account in list(self._accounts.items()):
            account.expire(now - WINDOW_SECONDS)
            if not account.checks:
                del self._accounts[session]


def holders(
    full: Collection[Session],
    sessions: Collection[Session],
    excess: int,
    yield_if_due: Callable[[], object],
) -> list[Session]:
    """Return the sessions that hold up the others, the fullest first.

    The sessions in ``full`` exceed their own bound. All sessions together exceed the common bound
    by ``excess`` bytes. Return none unless at least as many sessions are idle: if most clients are
    slow, nobody is held up. Sessions may end while ``yield_if_due`` runs.
    """
    found = dict.fromkeys(full)
    if excess > 0:
        found.update(dict.fromkeys(_fullest(sessions, excess)))
    if not _are_idle(sessions, len(found), yield_if_due):
        return []
    connected = [session for session in found if session in sessions]
    return sorted(connected, key=attrgetter("held_bytes"), reverse=True)


def _fullest(sessions: Collection[Session], excess: int) -> list[Session]:
    """Return the fullest sessions that together hold the excess, and all that are about as full.

    That is, all that hold more than half as much as the least full of those. When many sessions
    hold about the same, a different one is the fullest at each check: if time counted against the
    fullest alone, none would ever reach the timeout. The router decides how many to disconnect.
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
    """Return whether at least ``wanted`` sessions are idle: their clients have taken everything.

    An empty queue is not enough. For a client that has stopped reading, the kernels on both sides
    buffer megabytes before anything is queued here, and how much differs from client to client.
    When all clients have stopped, some queues are therefore still empty.
    """
    if wanted > len(sessions) // 2:
        return False
    for examined, session in enumerate(list(sessions), start=1):
        if not wanted:
            break
        wanted -= session.has_taken_all()
        if not examined % EXAMINED_AT_ONCE:
            yield_if_due()
    return not wanted
