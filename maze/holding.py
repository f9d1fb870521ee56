"""Decides who holds up the many: whom the log names, and whom the router disconnects.

With ``slow-client=wait`` the router waits while a session, or all sessions together, hold
more than they may. If all clients are slow, that is what back-pressure is for. If a few are,
the others get nothing meanwhile, although they would take it. The router reports how long it
waits and, every quarter of a second of waiting, who is in its way; that time counts against
those sessions, and who exceeds the hold timeout within a minute is to be disconnected.

Nothing here knows a clock, a log or the event loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from operator import attrgetter
from typing import Generic, Protocol, TypeVar

WINDOW_SECONDS = 60.0
LOOK_SECONDS = 0.25
"""Waiting time between two looks at who is in the way; less with a short hold timeout."""
MIN_LOOKS = 10
"""looks within one hold timeout, at least"""
MIN_PAUSE_SECONDS = 0.001
"""At the very beginning of a wait nobody could take what was just sent, and all look slow."""
NAMED_LOOKS = 2
"""A session that is in the way only once is not worth a line of the log."""
NOTICE_SECONDS = 1.0
"""from one line of the log to the next"""
NAMED_SESSIONS = 5
"""named in one line; it says how many there are besides"""
ASKED_AT_ONCE = 100
"""sessions asked whether they are idle before others run; the system takes 2 us for each"""


class Client(Protocol):
    """What is asked of a session."""

    @property
    def user(self) -> int:
        """Whose client it is."""

    @property
    def peer(self) -> str:
        """Its address, as the log names it."""

    @property
    def held_bytes(self) -> int:
        """The memory that what waits for it takes."""

    def has_taken_all(self) -> bool:
        """Whether its client's system has acknowledged all that it was to get so far."""


Session = TypeVar("Session", bound=Client)


class _Account:
    """The time that counts against one session, and from when on it was counted."""

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
    """The time that counts against sessions, in the last minute.

    It remembers those sessions only for which the router has waited in that minute.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._look_seconds = min(LOOK_SECONDS, timeout / MIN_LOOKS)
        self._waited = 0.0
        self._accounts: dict[Session, _Account] = {}
        self._notice_from = 0.0

    @property
    def pause(self) -> float:
        """How long the router may wait until the next look is due, in seconds."""
        return max(self._look_seconds - self._waited, MIN_PAUSE_SECONDS)

    def waited(self, seconds: float) -> None:
        """Note that the router waited that long; short waits add up to the next look."""
        self._waited += seconds

    def count(self, holders: Collection[Session], now: float) -> list[tuple[Session, float]]:
        """Count the time since the last look against these; returns who exceeds the timeout.

        Beside each session stands all the time that counts against it.

        A look that comes late counts as two: the server itself stood still.
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
        """What a line of the log says of those who hold up the others; empty if none is due.

        A session is the reason for one line in a minute at most, and there is one line a second
        at most.
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

    def forget(self, session: Session) -> None:
        """The session has ended."""
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
    share_time: Callable[[], object],
) -> list[Session]:
    """Return the sessions for which the many wait, the fullest first; nobody if all are slow.

    ``full`` are over their own bound; by ``excess`` bytes all together are over the common one.
    Of the others at least as many have to be idle. Sessions may end while ``share_time`` runs.
    """
    found = dict.fromkeys(full)
    if excess > 0:
        found.update(dict.fromkeys(_fullest(sessions, excess)))
    if not _are_idle(sessions, len(found), share_time):
        return []
    left = [session for session in found if session in sessions]
    return sorted(left, key=attrgetter("held_bytes"), reverse=True)


def _fullest(sessions: Collection[Session], excess: int) -> list[Session]:
    """As many of those that hold most as hold the excess, and all who hold half as much.

    Where many hold about the same, who holds most changes all the time: counted alone, nobody
    would ever reach the timeout. How many are disconnected is the router's business.
    """
    fullest_first = sorted(sessions, key=attrgetter("held_bytes"), reverse=True)
    least = 0
    for session in fullest_first:
        least = session.held_bytes
        excess -= least
        if excess <= 0:
            break
    return [session for session in fullest_first if session.held_bytes > least // 2]


def _are_idle(sessions: Collection[Session], wanted: int, share_time: Callable[[], object]) -> bool:
    """Whether at least so many sessions have taken all there was for them, and wait for more.

    The queue alone does not tell: the kernels take megabytes for a client that has stopped
    reading before anything waits here, each another amount. Of a fleet that stands still some
    queues are empty all the time.
    """
    if wanted > len(sessions) // 2:
        return False
    for asked, session in enumerate(list(sessions), start=1):
        if not wanted:
            break
        wanted -= session.has_taken_all()
        if not asked % ASKED_AT_ONCE:
            share_time()
    return not wanted
