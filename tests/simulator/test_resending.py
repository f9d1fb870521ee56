"""Sources that send again what the server has not acknowledged."""

import re
import socket
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from position_server import EPOCH, Acknowledge, PositionServer, acknowledge
from running import Pair, flags, judged, parameters, socket_pair
from servers import Server

from simulator.cli import main
from simulator.errors import ConnectError, ParameterError, RefusedError
from simulator.play import acknowledgements, resending
from simulator.play.acknowledgements import Acknowledgement, parse, read_first
from simulator.play.resending import ResendingSource
from simulator.stream.resending import lines_again
from simulator.stream.workload import Chunk
from simulator.verdict.results import Verdict

pytestmark = pytest.mark.realtime

pair = pytest.fixture(socket_pair)

LINES = [b"%d|B\n" % number for number in (2, 1, 3, 5, 4, 6)]
CHUNKS = [Chunk(b"".join(LINES[:4]), 4), Chunk(b"".join(LINES[4:]), 2)]
STREAM = b"".join(LINES)
AT_1 = Acknowledgement(EPOCH, 1)


def again(lines: list[bytes], first: int) -> list[bytes]:
    data = b"".join(lines)
    return lines_again([Chunk(data, len(lines))], len(data), first)


def test_lines_from_a_number_on_keep_their_order() -> None:
    assert lines_again(CHUNKS, len(STREAM), 3) == [LINES[2], LINES[3], LINES[4], LINES[5]]
    assert lines_again(CHUNKS, len(STREAM), 5) == [LINES[3], LINES[5]]
    assert lines_again(CHUNKS, len(STREAM), 7) == []
    assert lines_again(CHUNKS, 12, 1) == LINES[:3]
    assert lines_again(CHUNKS, 20, 1) == LINES[:5]
    assert lines_again(CHUNKS, 0, 1) == []


def test_a_malformed_line_is_sent_again_unless_an_event_takes_its_place() -> None:
    # It was held back by 3, which the server no longer waits for.
    assert again([b"4|X\n", b"3|B\n", b"4|B\n"], 4) == [b"4|B\n"]
    assert again([b"4|X\n", b"3|B\n", b"4|Q\n"], 4) == [b"4|X\n", b"4|Q\n"]
    assert again([b"4|B\r\n", b"4\r\n"], 4) == [b"4|B\r\n"]
    assert again([b"4\r\n", b"|B\n", b"-5|B\n", b"5 |B\n"], 4) == [b"4\r\n"]


def test_duplicates_and_conflicts_stay_behind_the_first() -> None:
    lines = [b"4|B\n", b"4|S|1\n", b"4|B\n"]
    assert again(lines, 4) == lines


def test_what_is_an_acknowledgement() -> None:
    assert parse(b"A|17|4\n") == (17, 4)
    assert parse(b"A|17|4\r\n") == (17, 4)
    for line in (b"A|17|4", b"A|17\n", b"=|17-4\n", b"A|17|4|\n", b"A|-1|4\n", b"a|17|4\n"):
        assert parse(line) is None


@pytest.mark.parametrize(
    ("sent", "part"),
    [
        (b"", "the server closed the source's connection"),
        (b"A|1", "the server closed the source's connection"),
        (b"hello\n", r"the server wrote 'hello\\n' to the source, which is no acknowledgement"),
        (b"x" * 100, "the server wrote 'xxx"),
    ],
)
def test_a_wrong_first_acknowledgement(pair: Pair, sent: bytes, part: str) -> None:
    ours, theirs = pair
    theirs.sendall(sent)
    theirs.close()
    with pytest.raises(RefusedError, match=re.escape(part).replace(r"\\\\", r"\\")):
        read_first(ours)


def test_no_first_acknowledgement(pair: Pair) -> None:
    with pytest.raises(RefusedError, match=r"sent no acknowledgement within 0.05 s.*--source-acks"):
        read_first(pair[0], 0.05)
    assert not pair[0].getblocking()


class FarEnds:
    """The other ends of a source's connections, one after another."""

    def __init__(self) -> None:
        self.ends: list[socket.socket] = []
        self.next: list[Acknowledgement | ConnectError] = []

    def connect(self) -> tuple[socket.socket, Acknowledgement]:
        first = self.next.pop(0)
        if isinstance(first, ConnectError):
            raise first
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.ends.append(theirs)
        return ours, first


@pytest.fixture
def server() -> Iterator[FarEnds]:
    server = FarEnds()
    yield server
    for end in server.ends:
        end.close()


def source_of(server: FarEnds, *, cut: int = 1000, last: int | None = 6) -> ResendingSource:
    server.next.append(AT_1)
    connection, first = server.connect()
    return ResendingSource(
        *(connection, CHUNKS, None),
        first=first,
        last=last,
        connect=server.connect,
        timeout=10.0,
        cut=cut,
    )


def broken_after(server: FarEnds, size: int) -> ResendingSource:
    """A source whose connection has broken after so many bytes."""
    source = source_of(server, cut=1)
    for _ in range(size):
        assert source.write() == 1
    server.ends[0].close()
    assert not source.read()
    assert source.broken
    assert not source.writable
    assert not source.done
    source.connection.close()
    return source


def finish(source: ResendingSource, server: FarEnds) -> bytes:
    """What the last connection brings, when everything is sent and acknowledged."""
    while source.writable:
        source.write()
    assert not source.done
    server.ends[-1].sendall(b"A|%d|7\n" % EPOCH)
    assert source.read()
    assert source.done
    source.connection.close()
    return server.ends[-1].recv(1000)


@pytest.mark.parametrize("first", [1, 2, 3, 4])
def test_a_source_that_breaks_anywhere_sends_the_rest_again(first: int) -> None:
    for size in range(len(STREAM)):
        server = FarEnds()
        source = broken_after(server, size)
        server.next.append(Acknowledgement(EPOCH, first))
        assert source.reconnect(0.0)
        whole = size // 4
        sent_again = [line for line in LINES[:whole] if int(line[:1]) >= first]
        assert finish(source, server) == b"".join(sent_again + LINES[whole:])
        assert (source.reconnects, source.resent_events) == (1, len(sent_again))
        assert (source.sent_bytes, source.sent_events) == (len(STREAM), len(LINES))
        assert source.answered is None
        server.ends[-1].close()


def test_it_waits_for_the_last_acknowledgement(server: FarEnds) -> None:
    source = source_of(server)
    assert [source.write() for _ in range(3)] == [16, 8, 0]
    assert not source.done
    assert not source.writable
    for part, done in ((b"A|%d|6\nA|" % EPOCH, False), (b"%d|7\n" % EPOCH, True)):
        server.ends[0].sendall(part)
        assert source.read()
        assert source.done == done
    server.ends[0].close()
    assert not source.read()
    assert not source.broken
    assert source.lost is None
    source.connection.close()


def test_it_does_not_wait_where_no_number_is_the_last(server: FarEnds) -> None:
    source = source_of(server, last=None)
    while source.writable:
        source.write()
    assert source.done
    source.connection.close()


def test_who_gives_up_says_what_is_missing(server: FarEnds) -> None:
    source = source_of(server)
    while source.writable:
        source.write()
    source.give_up(3.0)
    assert source.lost == (
        "the server acknowledged nothing for 3 s: everything below 1 is acknowledged, but the last "
        "event is 6"
    )
    source.connection.close()


def test_it_tries_again_for_a_while(server: FarEnds) -> None:
    source = broken_after(server, 5)
    server.next += [ConnectError("nobody"), ConnectError("nobody there"), AT_1]
    assert not source.reconnect(100.0)
    assert source.wait(100.0) == pytest.approx(0.05)
    assert not source.reconnect(100.01), "not before it is time"
    assert source.broken
    assert not source.reconnect(1e9)
    assert source.lost == "the source's connection broke after 5 of 24 bytes, and nobody there"
    assert source.done
    assert not source.broken


def test_a_connection_that_breaks_again_and_again_is_given_up(server: FarEnds) -> None:
    source = broken_after(server, 5)
    server.next.append(AT_1)
    source.reconnect(1e9)
    assert source.lost == (
        "the source's connection broke after 5 of 24 bytes, and nothing more was acknowledged"
    )
    source.connection.close()


def test_after_the_last_acknowledgement_each_break_has_its_own_time(
    server: FarEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clients may be far behind the journal, and the server be killed again and again."""
    source = source_of(server)
    while source.writable:
        source.write()
    server.ends[0].sendall(b"A|%d|7\n" % EPOCH)
    assert source.read()
    for now in (100.0, 200.0, 300.0):
        monkeypatch.setattr(resending, "time", SimpleNamespace(monotonic=lambda now=now: now))
        source.connection.close()
        source.break_off()
        server.next.append(Acknowledgement(EPOCH, 7))
        assert source.reconnect(now + 1.0)
        assert source.lost is None
        assert source.done
    source.connection.close()


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        (b"ok\n", "the server wrote b'ok' to the source, which is no acknowledgement"),
        (b"x" * 100, "the server wrote b'xxx"),
        (
            b"A|%d|4\nA|%d|3\n" % (EPOCH, EPOCH),
            "the server acknowledged everything below 4, but later only what is below 3",
        ),
    ],
)
def test_what_the_server_writes_must_be_right(server: FarEnds, written: bytes, fault: str) -> None:
    source = source_of(server)
    server.ends[0].sendall(written)
    assert source.read()
    assert source.answered is not None
    assert source.answered.startswith(fault)
    source.connection.close()


def test_another_epoch_ends_it(server: FarEnds) -> None:
    source = broken_after(server, 5)
    server.next.append(Acknowledgement(EPOCH + 1, 1))
    source.reconnect(0.0)
    assert source.lost is not None
    assert source.lost.startswith(f"the server began epoch {EPOCH + 1} in place of {EPOCH}")
    source.connection.close()


NEAR = (
    *("--total-events", 400, "--concurrency-level", 5, "--number-of-users", 8),
    *("--mix", "1,1,1,1,2", "--resend"),
)
WORKLOAD = parameters(*NEAR).workload


@pytest.mark.parametrize(
    "more", [(), ("--rate", 4000), ("--cuts", 7), ("--resuming", 5, "--away-time", 20)]
)
def test_a_source_that_loses_its_connection_comes_back(more: tuple[object, ...]) -> None:
    server = PositionServer(WORKLOAD.connected, acks=acknowledge, breaks=(100, 101, 350))
    verdict, output = judged(server, (*NEAR, *more))
    assert verdict == Verdict()
    assert server.sources == 4
    assert re.search(r"sources reconnected +3 *\n", output)
    assert re.search(r"events sent again +\d+ *\n", output)


def test_without_breaks_nothing_is_sent_again() -> None:
    server = PositionServer(WORKLOAD.connected, acks=acknowledge)
    verdict, output = judged(server, NEAR)
    assert verdict == Verdict()
    assert "sent again" not in output


@pytest.mark.parametrize(
    ("acks", "fault"),
    [
        (lambda after: b"A|%d|%d\n" % (EPOCH, 401 - after), "but later only what is below"),
        (lambda after: acknowledge(after) + b"ok\n" * (after > 1), "which is no acknowledgement"),
    ],
)
def test_wrong_acknowledgements_are_faults(acks: Acknowledge, fault: str) -> None:
    def from_one(after: int) -> bytes:
        return acknowledge(1) if after == 1 else acks(after)

    server = PositionServer(WORKLOAD.connected, acks=from_one)
    verdict, output = judged(server, (*NEAR, "--timeout", 500))
    assert verdict.status == 1
    (found,) = verdict.server_faults
    assert fault in found
    assert found in output


def test_too_few_acknowledgements_are_a_fault() -> None:
    server = PositionServer(WORKLOAD.connected, acks=lambda _after: acknowledge(1))
    verdict, _ = judged(server, (*NEAR, "--timeout", 300))
    assert verdict.failing == 0
    assert verdict.source_lost is not None
    assert verdict.source_lost.startswith("the server acknowledged nothing for 0.3 s")


def test_a_server_without_acknowledgements_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(acknowledgements, "ACK_TIMEOUT", 0.05)
    with Server(5) as server:
        assert main(flags(server, *NEAR)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "simulator: the server sent no acknowledgement within 0.05 s, which --resend needs: see "
        "the server's option --source-acks"
    )


def test_a_journal_that_has_events_is_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with PositionServer(WORKLOAD.connected, acks=lambda _after: acknowledge(9)) as server:
        assert main(flags(server, *NEAR)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "already has everything below number 9" in line
    assert "start it with a new journal" in line


def test_latency_is_not_measured_of_what_is_sent_twice() -> None:
    with pytest.raises(ParameterError, match="--latency cannot be combined with --resend"):
        parameters("--latency", "--rate", 5, "--resend")
