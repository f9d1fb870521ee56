"""Clients that stall, leave and come back, and every fault at once, against the real server."""

import socket
from io import StringIO

import pytest
from rich.console import Console
from running import parameters

from simulator.cli import simulate
from simulator.oracle import Expectation
from simulator.report import Report
from simulator.results import Verdict
from simulator.session import LEAVE, RETURN, STALL, Habit, Session
from simulator.source import Source
from simulator.workload import Chunk

QUICK = ("--serve", "--settle", 20, "--linger", 50, "--timeout", 8000)
CROWD = ("--concurrency-level", 12, "--number-of-users", 40)


def verdict_on(*flags: object) -> Verdict:
    with Report("error", 1.0, Console(file=StringIO())) as report:
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


# More bytes for each client than the kernel takes for one that does not read.
LONG_STALL = (
    *("--total-events", 700_000, "--mix", "0,0,1,0,0", "--concurrency-level", 3),
    *("--stalling", 2, "--stall-time", 1500),
    *("--server-options", "--stall-timeout 300ms --client-buffer 1KiB"),
)


def test_who_stalls_too_long_may_be_disconnected() -> None:
    assert verdict_on(*LONG_STALL, "--stall-timeout", 300) == Verdict()


def test_who_does_not_stall_too_long_may_not() -> None:
    verdict = verdict_on(*LONG_STALL)
    assert verdict.failing == 2
    assert all("by the server" in fault.fate for fault in verdict.faults)


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
        session = Session(1, ours, expectation(STREAM), Habit(kind, 0.5, abortive=True))
        theirs.sendall(STREAM)
        assert (session.read(), session.turning, session.finished) == (6, True, False)
        assert session.turn() == kind
        assert not session.turning
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
        session = Session(1, ours, expectation(STREAM), None)
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
        first = Session(1, ours, expectation(STREAM), None)
        second = Session(1, ours, expectation(STREAM), None, follows=first, known=7)
        for part, finished in ((b"8|B\n9|", False), (b"B\n", True)):
            theirs.sendall(part)
            second.read()
            assert second.finished == finished
        late = Session(1, ours, expectation(STREAM), None, follows=first, known=9)
        assert late.finished
        for session in (first, second, late):
            session.spool.close()


def test_a_source_cuts_and_leaves() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        source = Source(ours, [Chunk(STREAM, 3)], None, cut=5)
        assert [source.write() for _ in range(3)] == [5, 5, 2]
        assert source.done
        for _ in range(2):
            source.leave()
        assert (theirs.recv(100), theirs.recv(100)) == (STREAM, b"")
        assert source.lost is None


def test_a_source_that_was_closed_has_left_already() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        ours.setblocking(False)
        theirs.close()
        source = Source(ours, [Chunk(STREAM, 3)], None)
        assert source.write() == 0
        source.leave()
        assert source.lost is not None
