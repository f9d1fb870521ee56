"""Clients that come back with their position: their connections joined are their whole stream."""

import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from brute_force import streams
from hypothesis import given
from hypothesis import strategies as st
from position_server import EPOCH, Answer, PositionServer, Tamper, honest, right
from running import judged, parameters

from simulator.play import player
from simulator.play.resuming import Leaving, Position, ResumingClient, leavings
from simulator.report.text_report import ALL_RECEIVED
from simulator.stream.oracle import Expectation
from simulator.verdict.diagnosis import MISSING, POSITION, UNEXPECTED, Fault
from simulator.verdict.results import Verdict

pytestmark = pytest.mark.realtime

NUMBERS = (2, 3, 7, 11, 12, 13, 40, 41)
LINES = {number: b"%d|P|123|5\n" % number for number in NUMBERS}
STREAM = b"".join(LINES.values())


class Kept:
    """What a server sends to one client that comes with a request, if it keeps everything."""

    def __init__(self, *, chatty: bool = False) -> None:
        self._chatty = chatty  # tells the position after every event

    def reply(self, request: bytes) -> bytes:
        asked = request.removeprefix(b"|") or b"%d-1" % EPOCH
        sent = b"=|%b\n" % asked
        for number, line in LINES.items():
            if number >= int(asked.partition(b"-")[2]):
                sent += line
                # The numbers of other users' events up to the next of its own are covered, too.
                after = min((other for other in NUMBERS if other > number), default=number + 9)
                sent += b"=|%d-%d\n" % (EPOCH, after) if self._chatty else b""
        return sent


def expectation() -> Expectation:
    expected = Expectation(block=16)
    expected.add(STREAM, len(LINES))
    expected.finish()
    return expected


def leaving_after(size: int, *, abortive: bool = False) -> Leaving:
    return Leaving((size + 0.5) / len(STREAM), abortive, 0.0)


@contextmanager
def connected(client: ResumingClient | None, sent: bytes) -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.sendall(sent)
        if client is not None:
            client.resume(ours)
        yield ours


def played(kept: Kept, leavings: Sequence[Leaving]) -> ResumingClient:
    """A client that has left as it should, come back each time, and read all it could."""
    with connected(None, kept.reply(b"|")) as connection:
        client = ResumingClient(5, connection, expectation(), leavings)
        read(client)
    while not client.connected:
        with connected(client, kept.reply(client.request)):
            read(client)
    return client


def read(client: ResumingClient) -> None:
    """Read until the client leaves, or until nothing is left."""
    while client.connected:
        size = client.read()
        if client.closed_by:
            return
        if client.acts_now:
            assert client.leave() == 0.0
        elif not size and not readable(client):
            return


def readable(client: ResumingClient) -> bool:
    try:
        return bool(client.connection.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


@pytest.mark.parametrize("chatty", [False, True])
def test_a_client_that_leaves_after_any_byte_misses_nothing(chatty: bool) -> None:
    kept = Kept(chatty=chatty)
    for size in range(len(kept.reply(b"|"))):
        client = played(kept, [leaving_after(size)])
        assert client.complete, size
        assert not client.failed
        assert client.finished
        assert client.resumed == 1
        assert client.received == len(STREAM)


@given(st.lists(st.integers(0, len(STREAM)), max_size=5), st.booleans())
def test_a_client_that_leaves_several_times_misses_nothing(sizes: list[int], chatty: bool) -> None:
    leaves = [leaving_after(size, abortive=size % 2 > 0) for size in sorted(sizes)]
    client = played(Kept(chatty=chatty), leaves)
    assert not client.failed
    # A client that leaves again before the answer has not resumed.
    assert client.resumed <= len(sizes)


def received(*parts: bytes, request: Position | None = None) -> ResumingClient:
    """A client that has received this over one connection, with this position if any."""
    ours, theirs = socket.socketpair()
    with theirs:
        ours.setblocking(False)
        client = ResumingClient(5, ours, expectation())
        client.position = request
        client.resume(ours)
        for part in parts:
            theirs.sendall(part)
            client.read()
    with ours:
        return client


def test_its_position_is_the_last_told_or_after_its_last_event() -> None:
    answer = b"=|%d-1\n" % EPOCH
    for parts, position in (
        ((), None),
        ((answer[:-1],), None),
        ((answer,), (EPOCH, 1)),
        ((answer, LINES[2]), (EPOCH, 3)),
        ((answer, LINES[2], LINES[3][:-1]), (EPOCH, 3)),
        ((answer, LINES[2], b"=|%d-9\n" % EPOCH), (EPOCH, 9)),
        ((answer, b"=|%d-7\n" % EPOCH, LINES[7]), (EPOCH, 8)),
        ((answer, LINES[2], b"=|%d-1\n" % (EPOCH + 1)), (EPOCH + 1, 1)),
    ):
        assert received(*parts).position == position


AT_7 = Position(EPOCH, 7)


@pytest.mark.parametrize(
    ("request_", "parts", "why"),
    [
        (AT_7, b"!|%d-41\n" % EPOCH, "the server no longer keeps what the client missed"),
        (AT_7, b"!|%d-7\n" % EPOCH, "the server no longer keeps what the client missed"),
        (AT_7, b"=|%d-8\n" % EPOCH, "the server answered with another position"),
        (AT_7, b"=|%d-7\n" % (EPOCH + 1), "the server answered with another position"),
        (AT_7, LINES[7], "an event was received before the position"),
        (AT_7, b"=|7\n", "the position is malformed"),
        (AT_7, b"=|%d-7\r\n" % EPOCH, "the position is malformed"),
        (AT_7, b"=|%d-7\n%b" % (EPOCH, LINES[3]), "an event below the position just told was"),
        (AT_7, b"=|%d-7\n=|%d-6\n" % (EPOCH, EPOCH), "the position told goes back"),
        (
            AT_7,
            b"=|%d-7\n!|%d-9\n" % (EPOCH, EPOCH),
            "the server no longer keeps what the client must receive",
        ),
        (None, b"!|%d-1\n" % EPOCH, "the server told a loss to a client without a position"),
        (None, LINES[2], "an event was received before the position"),
    ],
)
def test_a_wrong_position_ends_the_client(request_: Position, parts: bytes, why: str) -> None:
    client = received(parts, request=request_)
    assert client.failed
    assert client.closed_by
    wrong = client.evidence().wrong
    assert wrong is not None
    assert wrong.why.startswith(why)
    assert wrong.received == parts.splitlines(keepends=True)[-1]


def test_a_client_that_is_not_answered_says_so() -> None:
    client = received(request=AT_7)
    client.give_up(3.0)
    wrong = client.evidence().wrong
    assert wrong == (b"=|%d-7\n" % EPOCH, None, "the server did not tell a position")
    assert "given up by the client, 3 s after" in client.evidence().fate


def test_a_client_that_is_away_at_the_end_says_so() -> None:
    with connected(None, Kept().reply(b"|")) as connection:
        client = ResumingClient(5, connection, expectation(), [leaving_after(40)])
        read(client)
    assert not client.connected
    assert client.failed
    assert client.evidence().fate == "resumed 0 times; away when the run ended"


def test_a_line_without_an_end_is_not_kept_for_ever() -> None:
    answer = b"=|%d-1\n" % EPOCH
    client = received(answer, *3 * [b"x" * 50_000])
    assert client.received > 64 * 1024
    assert client.failed


def test_what_is_half_received_at_the_end_is_evidence() -> None:
    client = received(b"=|%d-1\n" % EPOCH, STREAM, b"42|")
    assert not client.complete
    assert client.evidence().kept == b"42|"


def test_some_users_resume_two_or_three_times() -> None:
    users = tuple(range(1, 51))
    chosen = leavings(users, 7, 20, 0.5)
    assert len(chosen) == 20
    assert set(chosen) < set(users)
    assert {len(leaves) for leaves in chosen.values()} == {2, 3}
    for leaves in chosen.values():
        shares = [leaving.share for leaving in leaves]
        assert shares == sorted(shares)
        assert all(0 < share < 1 for share in shares)
        assert all(0 <= leaving.away <= 0.5 for leaving in leaves)
    assert {leaving.abortive for leaves in chosen.values() for leaving in leaves} == {False, True}
    assert leavings(users, 7, 20, 0.5) == chosen != leavings(users, 8, 20, 0.5)


NEAR = (
    *("--total-events", 400, "--concurrency-level", 5, "--number-of-users", 8),
    *("--mix", "1,1,1,1,2", "--resuming", 3, "--away-time", 20),
)
WORKLOAD = parameters(*NEAR).workload
VICTIM = next(iter(leavings(WORKLOAD.connected, WORKLOAD.seed, 3, 0.0)))
OWN = streams(WORKLOAD)[VICTIM]


def verdict_on(
    tamper: Tamper = honest, answer: Answer = right, *more: object
) -> tuple[Verdict, str]:
    server = PositionServer(WORKLOAD.connected, tamper, answer, last=WORKLOAD.events)
    return judged(server, (*NEAR, *more))


@pytest.mark.parametrize("chatty", [False, True])
@pytest.mark.parametrize("more", [(), ("--rate", 2000), ("--resuming", 5, "--away-time", 0)])
def test_a_server_that_resumes_passes(chatty: bool, more: tuple[object, ...]) -> None:
    server = PositionServer(WORKLOAD.connected, chatty=chatty)
    verdict, output = judged(server, (*NEAR, *more))
    assert verdict == Verdict()
    assert ALL_RECEIVED in output
    asked = parameters(*NEAR, *more)
    leaving = leavings(WORKLOAD.connected, WORKLOAD.seed, asked.resuming, 0.0)
    left = sum(map(len, leaving.values()))
    assert server.connections == len(WORKLOAD.connected) + left
    assert re.search(rf"clients resumed +{left} *\n", output)


@pytest.mark.parametrize("more", [(), ("--rate", 2000)])
def test_sources_leave_when_all_are_back(
    more: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    # This server does not forget positions when the source leaves.
    monkeypatch.setattr(player, "_QUIET_SECONDS", 0.1)
    # The first gap of this seed begins with event 300.
    gaps = (*NEAR, "--gaps", 2, "--random-seed", 9, *more)
    server = PositionServer(parameters(*gaps).workload.connected)
    verdict, _ = judged(server, gaps)
    assert verdict == Verdict()


def fault(tamper: Tamper = honest, answer: Answer = right) -> Fault:
    """The only fault, which must be the victim's."""
    verdict, output = verdict_on(tamper, answer)
    assert (verdict.status, verdict.failing) == (1, 1)
    (fault,) = verdict.faults
    assert fault.user == VICTIM
    assert str(fault) in output
    return fault


def when_resumed(change: bytes | None = None, *, twice: bool = False) -> Tamper:
    """Changes the first line that the victim gets when it comes back for the first time."""

    def tamper(user: int, connection: int, nth: int, line: bytes) -> bytes:
        if (user, connection, nth) != (VICTIM, 2, 1):
            return line
        return line + line if twice else change if change is not None else line

    return tamper


def test_a_line_missing_after_resuming() -> None:
    found = fault(when_resumed(b""))
    assert (found.kind, found.why) == (MISSING, "a later event was received instead")
    assert found.expected == OWN[found.position - 1]
    assert found.received == OWN[found.position]
    assert found.fate.startswith("resumed ")


def test_a_line_twice_after_resuming() -> None:
    found = fault(when_resumed(twice=True))
    assert (found.kind, found.why) == (UNEXPECTED, "the event received is a repetition")
    assert found.received == OWN[found.position - 2]


def test_an_event_of_another_user_after_resuming() -> None:
    foreign = next(
        line
        for user, lines in streams(WORKLOAD).items()
        for line in reversed(lines)
        if user != VICTIM and line not in set(OWN)
    )
    found = fault(when_resumed(foreign))
    assert (found.kind, found.why) == (UNEXPECTED, "the event received is not for this user")


def when_back(change: bytes) -> Answer:
    def answer(user: int, connection: int, right: bytes) -> bytes:
        return change if (user, connection) == (VICTIM, 2) else right

    return answer


def test_an_answer_that_something_was_lost() -> None:
    told = b"!|%d-400\n" % EPOCH
    found = fault(answer=when_back(told))
    assert (found.kind, found.received) == (POSITION, told)
    assert found.expected is not None
    assert found.expected.startswith(b"=|%d-" % EPOCH)
    assert found.why == "the server no longer keeps what the client missed"
    assert found.fate.startswith("resumed 0 times, with position ")


def test_an_answer_with_another_position() -> None:
    told = b"=|%d-1\n" % EPOCH
    found = fault(answer=when_back(told))
    assert (found.kind, found.received) == (POSITION, told)
    assert found.why == "the server answered with another position"


def test_a_server_that_lets_nobody_in_again() -> None:
    server = PositionServer(WORKLOAD.connected, doors_closed=True)
    verdict, _ = judged(server, (*NEAR, "--timeout", 500))
    found = next(fault for fault in verdict.faults if fault.user == VICTIM)
    assert (found.kind, found.received) == (MISSING, None)
    assert found.fate.startswith("resumed 0 times; no server for user clients at ")


def test_no_answer_at_all() -> None:
    found = fault(answer=when_back(b""))
    assert (found.kind, found.why) == (POSITION, "an event was received before the position")
