"""The verdict on servers: one that is correct, and one for each way of being wrong."""

import json
import re
from functools import lru_cache
from io import StringIO
from pathlib import Path

import pytest
from brute_force import streams
from rich.console import Console
from running import judged, parameters
from servers import Server, Tamper, honest
from test_server_process import command

from simulator.cli import simulate
from simulator.play import player
from simulator.report.console import ConsoleReport
from simulator.report.text_report import ALL_RECEIVED
from simulator.verdict.diagnosis import (
    ALTERED,
    DISCONNECTED,
    MISSING,
    OUT_OF_ORDER,
    UNEXPECTED,
    Fault,
)
from simulator.verdict.results import Verdict

pytestmark = pytest.mark.realtime

EVEN = ("--mix", "1,1,1,1,1")
NEAR = ("--total-events", 300, "--concurrency-level", 4, "--number-of-users", 8)
FAR = (
    *("--total-events", 24_000, "--concurrency-level", 2, "--number-of-users", 4),
    *("--mix", "1,1,6,1,1", "--crlf"),
)
PLACES = [pytest.param(NEAR, 3, id="early"), pytest.param(FAR, 14_500, id="far")]
Arguments = tuple[object, ...]


known_streams = lru_cache(streams)


class Case:
    """A stream, one of its users as the victim, and the victim's lines."""

    def __init__(self, arguments: Arguments, nth: int) -> None:
        self.arguments = arguments
        self.nth = nth
        workload = parameters(*arguments).workload
        self.events = workload.events
        self.clients = workload.clients
        self.victim = workload.connected[1]
        self.streams = known_streams(workload)
        self.lines = self.streams[self.victim]
        self.last = len(self.lines)

    def line(self, nth: int) -> bytes:
        return self.lines[nth - 1]

    def tamper(self, nth: int, change: Tamper) -> Tamper:
        """Applies `change` to the victim's n-th line alone."""

        def tamper(user: int, count: int, line: bytes) -> bytes | None:
            return change(user, count, line) if (user, count) == (self.victim, nth) else line

        return tamper

    def verdict(self, tamper: Tamper) -> Verdict:
        server = Server(self.clients, tamper, last=self.events)
        verdict, output = judged(server, self.arguments)
        assert ("FAILED" in output) != (ALL_RECEIVED in output)
        assert all(str(fault) in output for fault in verdict.faults)
        return verdict

    def fault(self, tamper: Tamper) -> Fault:
        """The only fault, which must be the victim's."""
        verdict = self.verdict(tamper)
        assert verdict.status == 1
        assert verdict.failing == 1
        assert verdict.source_lost is None
        (fault,) = verdict.faults
        assert fault.user == self.victim
        return fault


def facts(fault: Fault) -> tuple[str, int, bytes | None, bytes | None]:
    return fault.kind, fault.position, fault.expected, fault.received


@pytest.mark.parametrize(
    "arguments",
    [
        NEAR,
        FAR,
        (*NEAR, "--rate", 3_000),
        (*NEAR, "--mix", "0,0,0,1,0"),
        (*NEAR, "--mix", "1,0,0,0,3", "--max-event-source-batch-size", 1),
        (*FAR, "--rate", 200_000),
        ("--total-events", 100, "--concurrency-level", 60, "--number-of-users", 60),
        # Nobody is told of an unfollow, so there is nothing to receive at all.
        (*NEAR, "--mix", "0,1,0,0,0"),
    ],
)
def test_a_correct_server_passes(arguments: Arguments) -> None:
    clients = parameters(*arguments).workload.clients
    verdict, output = judged(Server(clients), arguments)
    assert verdict == Verdict()
    assert verdict.status == 0
    assert output.rstrip().endswith(ALL_RECEIVED)


@pytest.mark.parametrize(("arguments", "nth"), PLACES)
def test_a_dropped_event(arguments: Arguments, nth: int) -> None:
    case = Case(arguments, nth)
    fault = case.fault(case.tamper(nth, lambda *_: b""))
    assert facts(fault) == (MISSING, nth, case.line(nth), case.line(nth + 1))


@pytest.mark.parametrize(("arguments", "nth"), PLACES)
def test_a_repeated_event(arguments: Arguments, nth: int) -> None:
    case = Case(arguments, nth)
    fault = case.fault(case.tamper(nth, lambda _user, _nth, line: line + line))
    assert facts(fault) == (UNEXPECTED, nth + 1, case.line(nth + 1), case.line(nth))
    assert "is a repetition" in fault.why


@pytest.mark.parametrize(("arguments", "nth"), PLACES)
def test_two_events_swapped(arguments: Arguments, nth: int) -> None:
    case = Case(arguments, nth)
    first, second = case.line(nth), case.line(nth + 1)

    def swap(user: int, count: int, line: bytes) -> bytes:
        if user != case.victim or count not in (nth, nth + 1):
            return line
        return b"" if count == nth else second + first

    assert facts(case.fault(swap)) == (OUT_OF_ORDER, nth, first, second)


@pytest.mark.parametrize(("arguments", "nth"), PLACES)
@pytest.mark.parametrize("place", [0, -1, -2])
def test_one_byte_altered(arguments: Arguments, nth: int, place: int) -> None:
    case = Case(arguments, nth)
    changed = bytearray(case.line(nth))
    changed[place] ^= 0x40
    fault = case.fault(case.tamper(nth, lambda *_: bytes(changed)))
    assert (fault.kind, fault.position, fault.expected) == (ALTERED, nth, case.line(nth))
    # Without its LF the line runs on into the next.
    came = bytes(changed) + (b"" if changed.endswith(b"\n") else case.line(nth + 1))
    assert fault.received == came


@pytest.mark.parametrize(("arguments", "nth"), PLACES)
def test_an_event_to_the_wrong_client(arguments: Arguments, nth: int) -> None:
    case = Case(arguments, nth)
    foreign = next(
        line
        for user, lines in case.streams.items()
        for line in lines[nth:]
        if user != case.victim and line not in set(case.lines)
    )
    after = int(foreign.partition(b"|")[0])
    place = 1 + sum(int(line.partition(b"|")[0]) < after for line in case.lines)

    fault = case.fault(case.tamper(place, lambda _user, _nth, line: foreign + line))
    assert facts(fault) == (UNEXPECTED, place, case.line(place), foreign)
    assert "not for this user" in fault.why


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(("arguments", "nth"), PLACES)
def test_a_client_closed_early(arguments: Arguments, nth: int, reset: bool) -> None:
    case = Case(arguments, nth)
    tamper = case.tamper(nth, lambda *_: None)
    server = Server(case.clients, tamper, last=None, reset=reset)
    verdict, _ = judged(server, arguments)
    (fault,) = verdict.faults
    assert (verdict.status, fault.user, fault.kind) == (1, case.victim, MISSING)
    if reset:  # takes bytes with it that the client had not read yet
        assert "reset by the server" in fault.fate
        return
    assert facts(fault) == (MISSING, nth, case.line(nth), None)
    sent = sum(map(len, case.lines[: nth - 1]))
    assert fault.fate == f"connection closed by the server after {sent:,} bytes"


@pytest.mark.parametrize("reset", [False, True])
def test_clients_closed_after_their_last_event(reset: bool) -> None:
    case = Case(NEAR, 1)
    server = Server(case.clients, last=case.events, dismiss=True, reset=reset)
    verdict, output = judged(server, (*NEAR, "--linger", 2000))
    assert (verdict.status, verdict.failing) == (1, 4)
    for fault, lines in zip(verdict.faults, case.streams.values(), strict=True):
        if reset and fault.kind == MISSING:  # the reset took bytes with it
            continue
        assert facts(fault) == (DISCONNECTED, len(lines) + 1, None, None)
        how = "reset by the server" if reset else "closed by the server after "
        assert how in fault.fate
    assert "disconnected at its event" in output


def test_a_server_that_writes_to_the_source() -> None:
    verdict, output = judged(Server(4, answer=b"ok\n" * 100), NEAR)
    (fault,) = verdict.server_faults
    assert verdict == Verdict(server_faults=[fault])
    assert fault.startswith(
        "the server wrote 300 bytes to the source, which should receive none: 'ok"
    )
    assert fault in output


def test_clients_closed_at_their_first_event() -> None:
    case = Case(NEAR, 1)
    verdict, output = judged(Server(case.clients, lambda *_: None), NEAR)
    assert verdict.status == 1
    assert [fault.user for fault in verdict.faults] == list(case.streams)
    for fault, lines in zip(verdict.faults, case.streams.values(), strict=True):
        assert facts(fault) == (MISSING, 1, lines[0], None)
    assert "closed by the server after 0 bytes" in output


def test_nothing_is_ever_sent() -> None:
    case = Case(NEAR, 1)
    verdict, _ = judged(Server(case.clients, lambda *_: b""), (*NEAR, "--timeout", 200))
    assert (verdict.status, verdict.failing) == (1, 4)
    for fault, (user, lines) in zip(verdict.faults, case.streams.items(), strict=True):
        assert fault.user == user
        assert facts(fault) == (MISSING, 1, lines[0], None)
        assert fault.fate == (
            "connection given up by the client, 0.2 s after its last message, after 0 bytes"
        )


@pytest.mark.parametrize(("arguments", "nth"), PLACES)
def test_the_end_cut_off_in_a_line(arguments: Arguments, nth: int) -> None:
    case = Case(arguments, nth)
    fault = case.fault(case.tamper(case.last, lambda _user, _nth, line: line[:-3]))
    wanted = case.line(case.last)
    assert facts(fault) == (MISSING, case.last, wanted, wanted[:-3])
    assert "cut off" in fault.why


@pytest.mark.parametrize(("arguments", "nth"), PLACES)
def test_the_last_event_missing(arguments: Arguments, nth: int) -> None:
    case = Case(arguments, nth)
    fault = case.fault(case.tamper(case.last, lambda *_: b""))
    assert facts(fault) == (MISSING, case.last, case.line(case.last), None)


@pytest.mark.parametrize(("arguments", "nth"), PLACES)
@pytest.mark.parametrize("extra", [b"99999|B\r\n", b"no event"])
def test_something_more_at_the_end(arguments: Arguments, nth: int, extra: bytes) -> None:
    case = Case(arguments, nth)
    fault = case.fault(case.tamper(case.last, lambda _user, _nth, line: line + extra))
    assert facts(fault) == (UNEXPECTED, case.last + 1, None, extra)


def test_a_line_from_nowhere() -> None:
    case = Case(NEAR, 5)
    fault = case.fault(case.tamper(5, lambda _user, _nth, line: b"hello\n" + line))
    assert facts(fault) == (UNEXPECTED, 5, case.line(5), b"hello\n")


def test_much_garbage_is_not_kept() -> None:
    case = Case(NEAR, 5)
    junk = b"x" * 63 + b"\n"
    fault = case.fault(case.tamper(5, lambda _user, _nth, line: line + junk * 10_000))
    assert (fault.kind, fault.received) == (ALTERED, junk)


def test_a_source_closed_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player, "LOST_SOURCE_TIMEOUT", 0.2)
    case = Case(FAR, 1)
    verdict, _ = judged(Server(2, source_bytes=70_000), (*FAR, "--rate", 20_000))
    assert verdict.status == 1
    assert verdict.source_lost is not None
    assert verdict.failing == 2
    for fault in verdict.faults:
        lines = case.streams[fault.user]
        assert facts(fault) == (MISSING, fault.position, lines[fault.position - 1], None)
        assert fault.position > 1000


@pytest.mark.parametrize("crash", [False, True])
def test_a_server_that_fails_at_the_first_events_was_not_another_one(
    crash: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simulator.play.player.LOST_SOURCE_TIMEOUT", 0.1)
    server = Server(4, source_bytes=1, crash=crash)
    verdict, output = judged(server, (*NEAR, "--rate", 1000))
    assert (verdict.status, verdict.failing) == (1, 4)
    assert verdict.source_lost is not None
    fate = "connection closed by the server" if crash else "connection still open"
    assert all(fault.fate == f"{fate} after 0 bytes" for fault in verdict.faults)
    assert "no user client received a byte: unless the server failed at the first events" in output


def test_a_source_closed_when_all_was_in_the_kernel() -> None:
    arguments = (
        *("--total-events", 20, "--concurrency-level", 4, "--number-of-users", 8),
        *("--mix", "0,0,1,0,0", "--max-event-source-batch-size", 1),
    )
    # Closed with bytes unread, and after some events for each client.
    server = Server(4, source_bytes=60, chunk=60)
    verdict, output = judged(server, (*arguments, "--timeout", 60_000))
    assert (verdict.status, verdict.failing) == (1, 4)
    assert verdict.source_lost is not None
    assert re.fullmatch(
        r"the server closed the source's connection after ([\d,]+) of \1 bytes \(.+\)",
        verdict.source_lost,
    )
    assert output.count(verdict.source_lost) == 1
    assert all(fault.position > 1 for fault in verdict.faults)


SERVED = (*NEAR, "--serve", "--linger", 50, "--timeout", 5000)


def verdict_on(manner: str, *more: object) -> tuple[Verdict, str]:
    """On a server process of that manner, which the simulator starts."""
    output = StringIO()
    with ConsoleReport("error", 1.0, Console(file=output, width=100)) as report:
        verdict = simulate(parameters(*SERVED, *more), report, command(manner, 4))
    return verdict, output.getvalue()


@pytest.mark.parametrize(
    ("manner", "fault"),
    [
        ("untidy", "the server ended with status 4"),
        ("unprepared", "the server was ended by SIGTERM"),
    ],
)
def test_a_server_that_does_not_stop_as_it_should(manner: str, fault: str) -> None:
    verdict, output = verdict_on(manner)
    assert verdict == Verdict(server_faults=[fault])
    assert output == f"FAILED\n{fault}\n"


@pytest.mark.parametrize(
    ("manner", "fault"),
    [
        ("crashes", "the server was ended by SIGKILL"),
        ("fails", "the server ended with status 3"),
        ("leaves", "the server ended before it was stopped"),
    ],
)
def test_a_server_that_ends_at_its_first_event(manner: str, fault: str) -> None:
    verdict, output = verdict_on(manner)
    assert (verdict.status, verdict.failing, verdict.server_faults) == (1, 4, [fault])
    assert fault in output


def test_a_server_that_ends_before_anybody_connects(tmp_path: Path) -> None:
    verdict, output = verdict_on("deaf", "--json", tmp_path / "out.json")
    assert verdict == Verdict(server_faults=["the server ended with status 5"])
    assert output == "FAILED\nthe server ended with status 5\n"
    assert not json.loads((tmp_path / "out.json").read_text())["verdict"]["passed"]


def test_only_ten_clients_are_listed() -> None:
    arguments = ("--total-events", 50, "--concurrency-level", 13, "--number-of-users", 13, *EVEN)
    verdict, output = judged(Server(13, lambda *_: b"", last=50), arguments)
    users = parameters(*arguments).workload.connected
    assert verdict.failing == 13
    assert [fault.user for fault in verdict.faults] == list(users[:10])
    assert output.rstrip().endswith("and 3 more clients")


def test_the_first_ten_that_fail_are_listed() -> None:
    arguments = ("--total-events", 200, "--concurrency-level", 13, "--number-of-users", 13, *EVEN)
    users = parameters(*arguments).workload.connected

    def spare(user: int, nth: int, line: bytes) -> bytes | None:
        return honest(user, nth, line) if user in users[1:3] else b""

    verdict, output = judged(Server(13, spare, last=200), arguments)
    assert [fault.user for fault in verdict.faults] == [users[0], *users[3:12]]
    assert output.rstrip().endswith("and 1 more client")
