"""Sessions that are cut somewhere: what is proved of each, and what is not accepted."""

import socket
from collections.abc import Iterator

import pytest
from brute_force import streams

from simulator.play.unsteady import LEAVE, RETURN, STALL, Habit, UnsteadySession, habits
from simulator.stream.oracle import prepare
from simulator.stream.workload import Workload
from simulator.verdict.diagnosis import DISCONNECTED, MISSING, UNEXPECTED, Fault, diagnose
from simulator.verdict.unsteady_verification import verify

WORKLOAD = Workload(events=500, clients=3, users=6)
USER = WORKLOAD.connected[1]
LINES = streams(WORKLOAD)[USER]
NUMBERS = [int(line.partition(b"|")[0]) for line in LINES]
EXPECTED = prepare(WORKLOAD, 4096, lambda _done: None).expectations[1]
STREAM = b"".join(LINES)


@pytest.fixture
def connection() -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours


class Sessions:
    """Makes sessions of one user that have received what they are told."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.made: list[UnsteadySession] = []

    def first(
        self, received: bytes, kind: str | None = None, *, left: bool = False
    ) -> UnsteadySession:
        habit = None if kind is None else Habit(kind, 0.5, abortive=False)
        session = UnsteadySession(USER, self._connection, EXPECTED, habit)
        session.left = left
        return self._filled(session, received)

    def second(self, received: bytes, known: int) -> UnsteadySession:
        session = UnsteadySession(
            USER, self._connection, EXPECTED, None, follows=self.made[0], known=known
        )
        return self._filled(session, received)

    def fault(self, stall_timeout: float = 10.0) -> Fault | None:
        failures = verify(WORKLOAD, self.made, stall_timeout)
        return diagnose(WORKLOAD, failures[:1])[0] if failures else None

    def _filled(self, session: UnsteadySession, received: bytes) -> UnsteadySession:
        session.spool.write(received)
        session.received = len(received)
        self.made.append(session)
        return session


@pytest.fixture
def sessions(connection: socket.socket) -> Sessions:
    return Sessions(connection)


def facts(fault: Fault | None) -> tuple[str, int, bytes | None, bytes | None]:
    assert fault is not None
    return fault.kind, fault.position, fault.expected, fault.received


def without(nth: int, first: int = 1) -> bytes:
    return b"".join(LINES[first - 1 : nth - 1] + LINES[nth:])


def after(nth: int) -> bytes:
    return b"".join(LINES[nth:])


def before(nth: int) -> bytes:
    return b"".join(LINES[: nth - 1])


@pytest.mark.parametrize("size", [0, 1, 250, 251, 252, len(STREAM)])
def test_who_left_has_any_prefix(sessions: Sessions, size: int) -> None:
    sessions.first(STREAM[:size], LEAVE, left=True)
    assert sessions.fault() is None


def test_nobody_else_may_have_less_than_all(sessions: Sessions) -> None:
    session = sessions.first(before(30), LEAVE)
    session.closed_by = "closed early"
    fault = sessions.fault()
    assert facts(fault) == (MISSING, 30, LINES[29], None)
    assert fault is not None
    assert fault.fate == "closed early"


def test_even_a_prefix_must_be_right(sessions: Sessions) -> None:
    sessions.first(without(10)[:400], LEAVE, left=True)
    assert facts(sessions.fault()) == (MISSING, 10, LINES[9], LINES[10])


def test_nothing_beyond_all(sessions: Sessions) -> None:
    sessions.first(STREAM + b"more\n", STALL)
    assert facts(sessions.fault()) == (UNEXPECTED, len(LINES) + 1, None, b"more\n")


@pytest.mark.parametrize(
    ("stalled", "closed", "accepted"),
    [(5.0, True, True), (1.0, True, False), (5.0, False, False)],
)
def test_only_a_long_stall_may_be_cut_short(
    sessions: Sessions, stalled: float, closed: bool, accepted: bool
) -> None:
    session = sessions.first(STREAM[:300], STALL)
    session.stalled = stalled
    session.closed_by = "closed" if closed else None
    assert (sessions.fault(stall_timeout=5.0) is None) == accepted


@pytest.mark.parametrize(
    ("stalled", "closed", "accepted"),
    [(5.0, True, True), (1.0, True, False), (1.0, False, True)],
)
def test_only_after_a_long_stall_it_may_be_closed_at_the_end(
    sessions: Sessions, stalled: float, closed: bool, accepted: bool
) -> None:
    session = sessions.first(STREAM, STALL)
    session.stalled = stalled
    session.closed_by = "closed" if closed else None
    fault = sessions.fault(stall_timeout=5.0)
    if accepted:
        assert fault is None
    else:
        assert facts(fault) == (DISCONNECTED, len(LINES) + 1, None, None)


class TestComingBack:
    """The first session has the first 19 events and half of the 20th."""

    @pytest.fixture(autouse=True)
    def _first(self, sessions: Sessions) -> None:
        sessions.first(before(20) + LINES[19][:2], RETURN, left=True)

    @pytest.mark.parametrize("nth", [20, 21, 40])
    def test_from_any_event_between_the_bounds(self, sessions: Sessions, nth: int) -> None:
        sessions.second(after(nth), known=NUMBERS[40])
        assert sessions.fault() is None

    def test_not_what_was_received_before(self, sessions: Sessions) -> None:
        sessions.second(after(19), known=NUMBERS[40])
        fault = sessions.fault()
        assert facts(fault) == (UNEXPECTED, 21, LINES[20], LINES[19])
        assert fault is not None
        assert fault.why == "the event received is a repetition"
        assert fault.fate.startswith("reconnected; ")

    def test_not_too_late(self, sessions: Sessions) -> None:
        sessions.second(after(43), known=NUMBERS[40])
        assert facts(sessions.fault()) == (MISSING, 42, LINES[41], LINES[43])

    def test_nothing_at_all_is_too_late(self, sessions: Sessions) -> None:
        sessions.second(b"", known=NUMBERS[40])
        assert facts(sessions.fault()) == (MISSING, 42, LINES[41], None)

    def test_it_may_not_be_closed_at_the_end(self, sessions: Sessions) -> None:
        sessions.second(after(25), known=NUMBERS[40]).closed_by = "closed"
        assert facts(sessions.fault()) == (DISCONNECTED, len(LINES) + 1, None, None)

    def test_nothing_is_right_if_all_was_sent(self, sessions: Sessions) -> None:
        sessions.second(b"", known=NUMBERS[-1])
        assert sessions.fault() is None

    def test_not_from_within_a_line(self, sessions: Sessions) -> None:
        sessions.second(after(25)[1:], known=NUMBERS[40])
        fault = sessions.fault()
        assert fault is not None
        assert fault.position == 21

    def test_not_with_something_else_first(self, sessions: Sessions) -> None:
        sessions.second(b"hello\n" + after(25), known=NUMBERS[40])
        fault = sessions.fault()
        assert fault is not None
        assert (fault.position, fault.received) == (21, b"hello\n")

    def test_nothing_left_out(self, sessions: Sessions) -> None:
        sessions.second(without(60, first=26), known=NUMBERS[40])
        assert facts(sessions.fault()) == (MISSING, 60, LINES[59], LINES[60])

    def test_to_the_end(self, sessions: Sessions) -> None:
        sessions.second(after(25)[:-1], known=NUMBERS[40])
        fault = sessions.fault()
        assert fault is not None
        assert (fault.kind, fault.position) == (MISSING, len(LINES))

    def test_what_may_still_be_under_way_is_not_asked_for(self, sessions: Sessions) -> None:
        sessions.second(after(25)[:-20], known=NUMBERS[-1])
        assert sessions.fault() is None


def test_users_have_habits_as_asked() -> None:
    users = tuple(range(1, 51))
    having = habits(users, 7, stalling=3, leaving=4, returning=5)
    kinds = [habit.kind for habit in having.values()]
    assert (kinds.count(STALL), kinds.count(LEAVE), kinds.count(RETURN)) == (3, 4, 5)
    assert set(having) < set(users)
    assert all(0 < habit.share <= 0.5 for habit in having.values())
    assert habits(users, 7, 3, 4, 5) == having != habits(users, 8, 3, 4, 5)


def test_nothing_to_verify() -> None:
    assert verify(WORKLOAD, [], 1.0) == []
