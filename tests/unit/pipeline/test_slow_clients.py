"""Who holds up the many, for how long, and who is named and disconnected for it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maze.pipeline.slow_clients import (
    ASKED_AT_ONCE,
    LOOK_SECONDS,
    MIN_PAUSE_SECONDS,
    NAMED_SESSIONS,
    WINDOW_SECONDS,
    Holding,
    holders,
)

FULL_BYTES = 1_000
"""a session's own bound here"""


@dataclass(eq=False)
class Client:
    """As much of a session as is looked at; ``unread`` is what the kernels hold for it."""

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
    """Clients for whom nothing is queued, and who have not read what the kernels took."""
    return [Client(unread=1) for _ in range(count)]


def over(count: int) -> list[Client]:
    return [Client(held_bytes=FULL_BYTES + 1) for _ in range(count)]


def found(sessions: list[Client], total_limit: int = 10**9) -> list[Client]:
    """Those who hold up the others, with a bound on the sum."""
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
def test_a_few_hold_up_the_many_and_many_hold_up_nobody(sessions: list[Client], count: int) -> None:
    assert len(found(sessions)) == count


def of_sizes(*sizes: int) -> list[Client]:
    return [Client(user, held_bytes=size) for user, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("sizes", "total_limit", "users"),
    [
        ((900, 1, 0, 0), 900, [0]),
        ((900, 800, 1, 0, 0), 1_000, [0, 1]),
        ((900, 400, 1, 0, 0), 1_000, [0]),
        ((900, 500, 1, 0, 0), 1_000, [0, 1]),  # who holds half as much
        ((900, 500, 1, 0), 1_000, []),  # of whom there are more than idle ones
        ((500, 500, 500, 500, 0, 0, 0, 0), 1_999, [0, 1, 2, 3]),
        ((900, 100, 0, 0), 1_000, []),  # they may hold that much
        ((100, 1_500, 0, 0), 1_000, [1]),
        ((600, 1_500, 600, 0, 0, 0), 500, [1, 0, 2]),
    ],
)
def test_over_the_bound_on_the_sum_those_hold_who_hold_most(
    sizes: tuple[int, ...], total_limit: int, users: list[int]
) -> None:
    assert [session.user for session in found(of_sizes(*sizes), total_limit)] == users


def test_who_ends_while_others_run_holds_up_nobody() -> None:
    sessions = dict.fromkeys(over(2) + behind(ASKED_AT_ONCE) + idle(2))
    full = list(sessions)[:2]
    assert holders(full, sessions, 0, lambda: sessions.pop(full[0], None)) == full[1:]


def looked(holding: Holding[Client], *sessions: Client, now: float, waited: float = 0.25) -> bool:
    """Look after so much waiting; whether anybody is overdue."""
    holding.waited(waited)
    return bool(holding.count(sessions, now))


def test_who_exceeds_the_timeout_within_a_minute_is_overdue() -> None:
    holding, slow, other = Holding[Client](1.0), Client(1), Client(2)
    for now in (1, 10, 20, 30):
        assert not looked(holding, slow, now=now, waited=0.2)
    assert not looked(holding, other, now=31, waited=0.2)
    assert not looked(holding, slow, now=40, waited=0.2)
    holding.waited(0.1)
    ((session, seconds),) = holding.count([slow, other], 41)
    assert session is slow
    assert seconds == pytest.approx(1.1)


def test_what_is_older_than_a_minute_counts_no_more() -> None:
    holding, slow = Holding[Client](1.0), Client(1)
    for second in range(1_000):
        assert not looked(holding, slow, now=15 * second, waited=0.2)


def test_all_of_a_minute_does_not_exceed_a_timeout_of_a_minute() -> None:
    holding, slow = Holding[Client](WINDOW_SECONDS), Client(1)
    for look in range(1_000):
        assert not looked(holding, slow, now=look / 4, waited=0.25)


def test_short_waits_add_up() -> None:
    """As the router does it: it looks when a wait takes longer than the pause."""
    holding, slow, now = Holding[Client](1.0), Client(1), 0.0
    while not holding_up(holding, slow, now):
        now += 0.03  # of which it waited a third
        assert now < 4
    assert now == pytest.approx(3.0, abs=0.4)


def holding_up(holding: Holding[Client], session: Client, now: float) -> bool:
    wait = 0.01
    if holding.pause > wait:
        holding.waited(wait)
        return False
    return looked(holding, session, now=now, waited=holding.pause)


def test_a_look_that_comes_late_counts_as_two() -> None:
    holding = Holding[Client](5.0)
    holding.waited(100.0)  # the process was stopped
    assert holding.pause > 0
    holding.count([slow := Client()], 100.0)
    assert not looked(holding, slow, now=101.0, waited=4.4)
    for _ in range(20):
        late = looked(holding, slow, now=103.0)
    assert late


def test_a_look_for_nobody_uses_the_time_up() -> None:
    holding, slow = Holding[Client](0.3), Client()
    assert not looked(holding, now=1, waited=0.06)
    assert not looked(holding, slow, now=2, waited=0.06)
    assert holding.count([slow], 2) == []


@pytest.mark.parametrize(
    ("timeout", "pause"), [(0.1, 0.01), (1.0, 0.1), (5.0, 0.25), (86_400, 0.25)]
)
def test_the_pause_is_a_tenth_of_the_timeout_and_a_quarter_of_a_second_at_most(
    timeout: float, pause: float
) -> None:
    holding = Holding[Client](timeout)
    assert holding.pause == pytest.approx(pause)
    holding.waited(pause / 2)
    assert holding.pause == pytest.approx(pause / 2)
    holding.waited(pause)
    assert holding.pause == MIN_PAUSE_SECONDS


def test_who_holds_is_named_at_the_second_look_and_once() -> None:
    holding, slow = Holding[Client](5.0), Client(7)
    looked(holding, slow, now=1.0)
    assert not holding.notice(1.0)
    looked(holding, slow, now=1.25)
    assert holding.notice(1.25) == {
        "sessions": 1,
        "waited_seconds": 0.5,
        "hold_timeout": 5.0,
        "users": "7",
        "clients": "[::1]:7",
    }
    looked(holding, slow, now=3.0)
    assert not holding.notice(3.0)


def test_there_is_one_notice_a_second_which_names_the_worst() -> None:
    holding = Holding[Client](5.0)
    slow = [Client(user) for user in range(20)]
    for now in (1.0, 1.25):
        looked(holding, slow[0], now=now)
    assert holding.notice(1.25)["users"] == "0"
    for now in (1.5, 1.75):
        looked(holding, *slow, now=now)
    looked(holding, slow[9], now=2.0)
    assert not holding.notice(2.0)
    notice = holding.notice(2.25)
    assert notice["sessions"] == 20
    assert str(notice["users"]).split(", ") == ["0", "9", "1", "2", "3"][:NAMED_SESSIONS]
    assert str(notice["clients"]).count(", ") == NAMED_SESSIONS - 1


def test_after_a_minute_it_is_named_anew() -> None:
    holding, slow = Holding[Client](5.0), Client(7)
    for now in (1.0, 2.0):
        looked(holding, slow, now=now)
    assert holding.notice(2.0)
    looked(holding, now=100.0)
    assert not holding._accounts
    looked(holding, slow, now=101.0)
    assert not holding.notice(101.0)
    looked(holding, slow, now=102.0)
    assert holding.notice(102.0)


def test_who_has_ended_is_forgotten() -> None:
    holding, slow = Holding[Client](5.0), Client(7)
    looked(holding, slow, now=1.0)
    holding.remove(slow)
    holding.remove(slow)
    assert not holding._accounts


Looks = list[tuple[float, float, set[int], int | None]]
LOOKS: st.SearchStrategy[Looks] = st.lists(
    st.tuples(
        st.sampled_from([0.25, 0.5, 3.0, 20.0, 59.0, 61.0]),  # since the last look
        st.sampled_from([0.0, 0.25, 0.3, 7.0]),  # of which the router waited
        st.sets(st.integers(0, 4)),
        st.none() | st.integers(0, 4),  # who has ended since
    ),
    max_size=80,
)


@given(LOOKS, st.sampled_from([0.5, 1.0, 5.0, 60.0]))
def test_whatever_happens_what_counts_is_the_last_minute(looks: Looks, timeout: float) -> None:
    holding = Holding[Client](timeout)
    longest = 2 * min(LOOK_SECONDS, timeout / 10)
    clients = [Client(user) for user in range(5)]
    counted: list[tuple[int, float, float]] = []  # who, from when on, how long
    now = 0.0
    for passed, waited, users, ended in looks:
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
def test_nobody_holds_up_fewer_than_there_are_of_them(fleet: list[Client], limit: int) -> None:
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
def test_a_fleet_that_is_slow_as_a_whole_loses_nobody(fleet: list[Client], limit: int) -> None:
    slow = [Client(held_bytes=session.held_bytes, unread=1) for session in fleet]
    assert not found(slow, limit)
