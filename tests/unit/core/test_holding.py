"""Which sessions hold up the others, for how long, and which are logged and disconnected."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maze.core.holding import (
    CHECK_SECONDS,
    EXAMINED_AT_ONCE,
    MIN_PAUSE_SECONDS,
    NAMED_SESSIONS,
    WINDOW_SECONDS,
    Holding,
    holders,
)

FULL_BYTES = 1_000
"""The bound of a single session in these tests."""


@dataclass(eq=False)
class Client:
    """The part of a session that is used; ``unread`` is what the kernels hold for its client."""

    user: int = 0
    held_bytes: int = 0
    unread: int = 0

    @property
    def peer(self) -> str:
        return f"[::1]:{self.user}"

    def has_taken_all(self) -> bool:
        return not self.held_bytes and not self.unread


def idle(count: int) -> list[Client]:
    return [Client() for _ in range(count)]


def behind(count: int) -> list[Client]:
    """Return clients with empty queues that have not read what the kernels hold."""
    return [Client(unread=1) for _ in range(count)]


def over(count: int) -> list[Client]:
    return [Client(held_bytes=FULL_BYTES + 1) for _ in range(count)]


def found(sessions: list[Client], total_limit: int = 10**9) -> list[Client]:
    """Return the sessions that hold up the others, given a bound on the sum."""
    full = [session for session in sessions if session.held_bytes > FULL_BYTES]
    excess = sum(session.held_bytes for session in sessions) - total_limit
    return holders(full, dict.fromkeys(sessions), excess, lambda: None)


@pytest.mark.parametrize(
    ("sessions", "count"),
    [
        (over(1) + idle(1), 1),
        (over(1) + idle(99), 1),
        (over(10) + idle(990), 10),
        (over(500) + idle(500), 500),
        (over(501) + idle(499), 0),
        (over(1) + behind(1), 0),
        (over(1) + behind(98) + idle(1), 1),
        (over(2) + behind(97) + idle(1), 0),
        (over(100), 0),
        (over(1), 0),
        (behind(3) + idle(3), 0),
        ([], 0),
    ],
    ids=str,
)
def test_a_few_sessions_hold_up_many_but_many_hold_up_nobody(
    sessions: list[Client], count: int
) -> None:
    assert len(found(sessions)) == count


def of_sizes(*sizes: int) -> list[Client]:
    return [Client(user, held_bytes=size) for user, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("sizes", "total_limit", "users"),
    [
        ((900, 1, 0, 0), 900, [0]),
        ((900, 800, 1, 0, 0), 1_000, [0, 1]),
        ((900, 400, 1, 0, 0), 1_000, [0]),
        ((900, 500, 1, 0, 0), 1_000, [0, 1]),  # user 1 holds more than half as much
        ((900, 500, 1, 0), 1_000, []),  # fewer sessions are idle
        ((500, 500, 500, 500, 0, 0, 0, 0), 1_999, [0, 1, 2, 3]),
        ((900, 100, 0, 0), 1_000, []),  # the sum is within its bound
        ((100, 1_500, 0, 0), 1_000, [1]),
        ((600, 1_500, 600, 0, 0, 0), 500, [1, 0, 2]),
    ],
)
def test_the_fullest_sessions_hold_up_the_others_if_the_sum_is_exceeded(
    sizes: tuple[int, ...], total_limit: int, users: list[int]
) -> None:
    assert [session.user for session in found(of_sizes(*sizes), total_limit)] == users


def test_a_session_that_ends_during_a_yield_holds_up_nobody() -> None:
    sessions = dict.fromkeys(over(2) + behind(EXAMINED_AT_ONCE) + idle(2))
    full = list(sessions)[:2]
    assert holders(full, sessions, 0, lambda: sessions.pop(full[0], None)) == full[1:]


def checked(holding: Holding[Client], *sessions: Client, now: float, waited: float = 0.25) -> bool:
    """Check after ``waited`` seconds of waiting; return whether any session is overdue."""
    holding.waited(waited)
    return bool(holding.count(sessions, now))


def test_a_session_that_exceeds_the_timeout_within_a_minute_is_overdue() -> None:
    holding, slow, other = Holding[Client](1.0), Client(1), Client(2)
    for now in (1, 10, 20, 30):
        assert not checked(holding, slow, now=now, waited=0.2)
    assert not checked(holding, other, now=31, waited=0.2)
    assert not checked(holding, slow, now=40, waited=0.2)
    holding.waited(0.1)
    ((session, seconds),) = holding.count([slow, other], 41)
    assert session is slow
    assert seconds == pytest.approx(1.1)


def test_time_older_than_a_minute_does_not_count() -> None:
    holding, slow = Holding[Client](1.0), Client(1)
    for second in range(1_000):
        assert not checked(holding, slow, now=15 * second, waited=0.2)


def test_a_whole_minute_does_not_exceed_a_timeout_of_a_minute() -> None:
    holding, slow = Holding[Client](WINDOW_SECONDS), Client(1)
    for check in range(1_000):
        assert not checked(holding, slow, now=check / 4, waited=0.25)


def test_short_waits_add_up() -> None:
    """Like the router, check only if a wait takes longer than the pause."""
    holding, slow, now = Holding[Client](1.0), Client(1), 0.0
    while not holding_up(holding, slow, now):
        now += 0.03  # a third of it waiting
        assert now < 4
    assert now == pytest.approx(3.0, abs=0.4)


def holding_up(holding: Holding[Client], session: Client, now: float) -> bool:
    wait = 0.01
    if holding.pause > wait:
        holding.waited(wait)
        return False
    return checked(holding, session, now=now, waited=holding.pause)


def test_a_late_check_counts_as_two() -> None:
    holding = Holding[Client](5.0)
    holding.waited(100.0)  # the process was stopped
    assert holding.pause > 0
    holding.count([slow := Client()], 100.0)
    assert not checked(holding, slow, now=101.0, waited=4.4)
    for _ in range(20):
        late = checked(holding, slow, now=103.0)
    assert late


def test_a_check_that_finds_nobody_uses_the_time_up() -> None:
    holding, slow = Holding[Client](0.3), Client()
    assert not checked(holding, now=1, waited=0.06)
    assert not checked(holding, slow, now=2, waited=0.06)
    assert holding.count([slow], 2) == []


@pytest.mark.parametrize(
    ("timeout", "pause"), [(0.1, 0.01), (1.0, 0.1), (5.0, 0.25), (86_400, 0.25)]
)
def test_the_pause_is_a_tenth_of_the_timeout_but_at_most_a_quarter_second(
    timeout: float, pause: float
) -> None:
    holding = Holding[Client](timeout)
    assert holding.pause == pytest.approx(pause)
    holding.waited(pause / 2)
    assert holding.pause == pytest.approx(pause / 2)
    holding.waited(pause)
    assert holding.pause == MIN_PAUSE_SECONDS


def test_a_session_is_logged_once_at_the_second_check() -> None:
    holding, slow = Holding[Client](5.0), Client(7)
    checked(holding, slow, now=1.0)
    assert not holding.notice(1.0)
    checked(holding, slow, now=1.25)
    assert holding.notice(1.25) == {
        "sessions": 1,
        "waited_seconds": 0.5,
        "hold_timeout": 5.0,
        "users": "7",
        "clients": "[::1]:7",
    }
    checked(holding, slow, now=3.0)
    assert not holding.notice(3.0)


def test_there_is_one_notice_per_second_which_names_the_worst() -> None:
    holding = Holding[Client](5.0)
    slow = [Client(user) for user in range(20)]
    for now in (1.0, 1.25):
        checked(holding, slow[0], now=now)
    assert holding.notice(1.25)["users"] == "0"
    for now in (1.5, 1.75):
        checked(holding, *slow, now=now)
    checked(holding, slow[9], now=2.0)
    assert not holding.notice(2.0)
    notice = holding.notice(2.25)
    assert notice["sessions"] == 20
    assert str(notice["users"]).split(", ") == ["0", "9", "1", "2", "3"][:NAMED_SESSIONS]
    assert str(notice["clients"]).count(", ") == NAMED_SESSIONS - 1


def test_a_session_is_logged_again_after_a_minute() -> None:
    holding, slow = Holding[Client](5.0), Client(7)
    for now in (1.0, 2.0):
        checked(holding, slow, now=now)
    assert holding.notice(2.0)
    checked(holding, now=100.0)
    assert not holding._accounts
    checked(holding, slow, now=101.0)
    assert not holding.notice(101.0)
    checked(holding, slow, now=102.0)
    assert holding.notice(102.0)


def test_a_session_that_has_ended_has_no_account() -> None:
    holding, slow = Holding[Client](5.0), Client(7)
    checked(holding, slow, now=1.0)
    holding.remove(slow)
    holding.remove(slow)
    assert not holding._accounts


Checks = list[tuple[float, float, set[int], int | None]]
CHECKS: st.SearchStrategy[Checks] = st.lists(
    st.tuples(
        st.sampled_from([0.25, 0.5, 3.0, 20.0, 59.0, 61.0]),  # seconds since the last check
        st.sampled_from([0.0, 0.25, 0.3, 7.0]),  # seconds that the router waited
        st.sets(st.integers(0, 4)),
        st.none() | st.integers(0, 4),  # user whose session has ended since
    ),
    max_size=80,
)


@given(CHECKS, st.sampled_from([0.5, 1.0, 5.0, 60.0]))
def test_only_the_last_minute_counts_in_any_history(checks: Checks, timeout: float) -> None:
    holding = Holding[Client](timeout)
    longest = 2 * min(CHECK_SECONDS, timeout / 10)
    clients = [Client(user) for user in range(5)]
    counted: list[tuple[int, float, float]] = []  # user, beginning, seconds
    now = 0.0
    for passed, waited, users, ended in checks:
        now += passed
        if ended is not None:
            holding.remove(clients[ended])
            counted = [count for count in counted if count[0] != ended]
        seconds = min(waited, passed, longest)
        holding.waited(min(waited, passed))
        overdue = holding.count([clients[user] for user in sorted(users)], now)
        counted += [(user, now - seconds, seconds) for user in users]
        counted = [count for count in counted if count[1] >= now - WINDOW_SECONDS]
        sums: Counter[int] = Counter()
        for user, _, length in counted:
            sums[user] += length  # type: ignore[assignment]
        exceeding = {user for user in users if sums[user] > timeout + 1e-6}
        assert exceeding <= {session.user for session, _ in overdue} <= users
        assert all(seconds > timeout for _, seconds in overdue)
        assert all(seconds == pytest.approx(sums[session.user]) for session, seconds in overdue)
        assert {session.user for session in holding._accounts} == {count[0] for count in counted}


FLEETS = st.lists(
    st.builds(Client, held_bytes=st.integers(0, 2 * FULL_BYTES), unread=st.integers(0, 1))
    | st.builds(Client),
    max_size=30,
)


@given(FLEETS, st.integers(1, 10 * FULL_BYTES))
def test_sessions_never_hold_up_fewer_than_they_are(fleet: list[Client], limit: int) -> None:
    holding = found(fleet, limit)
    taken_all = [session for session in fleet if session.has_taken_all()]
    assert len(holding) == len(set(holding)) <= len(taken_all)
    assert not set(holding) & set(taken_all)
    if not holding:
        return
    left = [session for session in fleet if session not in holding]
    assert all(session.held_bytes <= FULL_BYTES for session in left)
    assert sum(session.held_bytes for session in left) <= limit


@given(FLEETS, st.integers(1, 10 * FULL_BYTES))
def test_nobody_is_disconnected_if_every_client_is_slow(fleet: list[Client], limit: int) -> None:
    slow = [Client(held_bytes=session.held_bytes, unread=1) for session in fleet]
    assert not found(slow, limit)
