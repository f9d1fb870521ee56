"""Clients that stall, leave and come back, and every fault at once, against the real server."""

import socket
from io import StringIO

import pytest
from brute_force import streams
from rich.console import Console
from running import judged, parameters
from servers import Server

from simulator.cli import simulate
from simulator.play.unsteady import LEAVE, RETURN, STALL, Habit, UnsteadySession, habits
from simulator.report.console import ConsoleReport
from simulator.stream.oracle import Expectation
from simulator.verdict.diagnosis import MISSING
from simulator.verdict.results import Verdict

pytestmark = pytest.mark.realtime

QUICK = ("--serve", "--linger", 50, "--timeout", 8000)
CROWD = ("--concurrency-level", 12, "--number-of-users", 40, "--mix", "1,1,1,1,1")


def verdict_on(*flags: object) -> Verdict:
    with ConsoleReport("error", 1.0, Console(file=StringIO())) as report:
        return simulate(parameters(*QUICK, *CROWD, *flags), report)


@pytest.mark.parametrize("sources", [1, 3])
def test_every_fault_at_once(sources: int) -> None:
    assert (
        verdict_on(
            *("--total-events", 20_000, "--duplicates", 5, "--conflicts", 5, "--malformed", 5),
            *("--gaps", 9, "--cuts", 3000, "--crlf", "--sources", sources),
            *("--leaving", 3, "--returning", 3, "--stalling", 2, "--stall-time", 300),
        )
        == Verdict()
    )


STALLED = ("--total-events", 400, *CROWD, "--stalling", 1, "--stall-time", 200)


def verdict_on_a_disconnected_staller(*more: object) -> Verdict:
    """The server closes the connection of the client that stalls, after the place where it does."""
    workload = parameters(*STALLED).workload
    (staller,) = habits(workload.connected, workload.seed, 1, 0, 0)
    last = len(streams(workload)[staller]) * 3 // 4

    def tamper(user: int, nth: int, line: bytes) -> bytes | None:
        return None if (user, nth) == (staller, last) else line

    return judged(Server(12, tamper), (*STALLED, *more))[0]


def test_who_stalls_too_long_may_be_disconnected() -> None:
    assert verdict_on_a_disconnected_staller("--stall-timeout", 200) == Verdict()


def test_who_does_not_stall_too_long_may_not() -> None:
    verdict = verdict_on_a_disconnected_staller("--stall-timeout", 201)
    (fault,) = verdict.faults
    assert (fault.kind, fault.received) == (MISSING, None)
    assert "closed by the server" in fault.fate


def expectation(stream: bytes) -> Expectation:
    expected = Expectation(block=4096)
    expected.add(stream, stream.count(b"\n"))
    expected.last_line = stream.splitlines(keepends=True)[-1]
    expected.last_number = 9
    expected.finish()
    return expected


STREAM = b"7|B\n8|B\n9|B\n"


@pytest.mark.parametrize("kind", [STALL, LEAVE, RETURN])
def test_a_session_turns_where_it_should(kind: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        session = UnsteadySession(1, ours, expectation(STREAM), Habit(kind, 0.5, abortive=True))
        theirs.sendall(STREAM)
        assert (session.read(), session.acts_now, session.finished) == (6, True, False)
        assert session.act() == kind
        assert not session.acts_now
        assert session.left == session.finished == (kind != STALL)
        if kind == STALL:
            assert (session.read(), session.finished, session.delivered) == (6, True, 3)
        session.spool.seek(0)
        assert session.spool.read() == STREAM[: session.received]
        session.spool.close()


@pytest.mark.parametrize("reset", [False, True])
def test_a_session_that_the_server_closes(reset: bool) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        ours.setblocking(False)
        session = UnsteadySession(1, ours, expectation(STREAM), None)
        assert session.read() == 0
        assert not session.finished
        if reset:
            ours.send(b"not read")
        theirs.close()
        session.read()
        assert session.finished
        assert session.closed_by is not None
        assert ("reset" in session.closed_by) == reset
        session.spool.close()


def test_a_second_session_ends_with_the_last_line() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        first = UnsteadySession(1, ours, expectation(STREAM), None)
        second = first.again(ours, known=7)
        for part, finished in ((b"8|B\n9|", False), (b"B\n", True)):
            theirs.sendall(part)
            second.read()
            assert second.finished == finished
        late = first.again(ours, known=9)
        assert late.finished
        for session in (first, second, late):
            session.spool.close()


def test_coming_back_to_a_closed_door_is_for_the_verdict() -> None:
    # This server listens for no more clients than it was told of.
    arguments = ("--total-events", 3000, *CROWD, "--returning", 1, "--rate", 6000)
    verdict, _ = judged(Server(12, doors_closed=True), arguments)
    (fault,) = verdict.faults
    assert fault.fate.startswith("reconnected; no server for user clients at")
    assert (fault.kind, fault.received) == (MISSING, None)


def test_a_server_that_keeps_what_waits_behind_a_gap_fails() -> None:
    verdict = verdict_on(
        *("--total-events", 20_000, "--gaps", 1, "--timeout", 500),
        *("--server-options", "--on-source-disconnect keep"),
    )
    assert verdict.failing == 12
    assert {fault.kind for fault in verdict.faults} == {MISSING}
