"""A client and the source alone, each on one end of a pair of sockets; and connecting."""

import logging
import resource
import select
import socket
from collections.abc import Iterator

import pytest
from servers import PATIENCE

from simulator.errors import ConnectError
from simulator.play.client import Client
from simulator.play.connecting import Address, connect_clients, connect_sources
from simulator.play.source import Source
from simulator.stream.oracle import Expectation
from simulator.stream.workload import Chunk

pytestmark = pytest.mark.realtime

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def client_of(connection: socket.socket, expected: bytes, *, lines: bool = False) -> Client:
    expectation = Expectation(block=8)
    expectation.add(expected, 2)
    expectation.finish()
    return Client(5, connection, expectation, lines=lines)


def test_a_client_reads_block_by_block(pair: Pair) -> None:
    ours, theirs = pair
    client = client_of(ours, b"0123456789ab")
    theirs.sendall(b"0123456789ab")
    assert not client.finished
    assert [client.read() for _ in range(3)] == [8, 4, 0]
    assert client.complete
    assert client.finished
    assert client.delivered == 2


def test_a_client_that_got_too_much_is_not_complete(pair: Pair) -> None:
    ours, theirs = pair
    client = client_of(ours, b"0123456789ab")
    theirs.sendall(b"0123456789abX")
    assert [client.read() for _ in range(3)] == [8, 4, 1]
    assert not client.complete
    assert client.evidence()[:4] == (5, 12, b"X", True)


def test_a_client_keeps_two_blocks_from_the_mismatch_on(pair: Pair) -> None:
    ours, theirs = pair
    client = client_of(ours, b"0123456789abcdefghij")
    theirs.sendall(b"01234567-9abcdef")
    while client.read():
        pass
    assert not client.finished
    theirs.sendall(b"ghijklmn")
    client.read()
    assert client.finished
    theirs.sendall(b"not kept")
    client.read()
    assert client.received == 32
    assert client.delivered == 2
    assert client.evidence()[:4] == (5, 8, b"-9abcdefghijklmn", False)


def test_a_client_of_whom_nothing_is_expected(pair: Pair) -> None:
    client = client_of(pair[0], b"")
    assert client.complete
    assert client.read() == 0


def test_a_client_logs_its_lines(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = pair
    client = client_of(ours, b"1|B\n2|B\n", lines=True)
    theirs.sendall(b"1|B\n2|B\n")
    with caplog.at_level(logging.DEBUG, "simulator"):
        client.read()
    assert r"client 5 received b'2|B\n'" in caplog.messages


def test_the_source_is_told_when_pieces_are_due(pair: Pair) -> None:
    ours, theirs = pair
    lines = [b"%d|B\n" % number for number in range(1, 5)]
    source = Source(ours, [Chunk(b"".join(lines), 4)], rate=10.0)
    assert source.wait(100.0) == 0.0
    assert source.write() == 4
    assert source.sent_events == 1
    assert source.wait(100.0) == pytest.approx(0.1)
    assert source.wait(100.05) == pytest.approx(0.05)
    assert source.wait(101.0) == 0.0
    while not source.done:
        source.write()
    assert source.sent_events == 4
    assert theirs.recv(100) == b"".join(lines)


def test_the_source_does_not_block(pair: Pair) -> None:
    ours, _ = pair
    data = b"1|B\n" * 1_000_000
    source = Source(ours, [Chunk(data, 1_000_000)], rate=None)
    while source.write():
        pass
    assert 0 < source.sent_bytes < len(data)
    assert source.sent_events == source.sent_bytes // 4
    assert not source.done
    assert source.lost is None


@pytest.mark.parametrize("by", ["read", "reset", "write"])
def test_the_source_notices_that_it_was_closed(pair: Pair, by: str) -> None:
    ours, theirs = pair
    source = Source(ours, [Chunk(b"1|B\n", 1)], rate=None)
    assert source.read()  # nothing there is nothing wrong
    assert source.answered is None
    theirs.sendall(b"hello")
    assert source.read()
    assert source.answered == (
        "the server wrote 5 bytes to the source, which should receive none: 'hello'"
    )
    if by == "reset":
        ours.send(b"not read by the other end")
    theirs.close()
    if by == "write":
        assert source.write() == 0
    else:
        assert not source.read()
    assert source.lost is not None
    assert source.lost.startswith("the server closed the source's connection after 0 of 4 bytes")
    assert source.done
    assert not source.read()


@pytest.fixture
def tcp_pair() -> Iterator[Pair]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def closed(pair: Pair) -> Source:
    """Everything was sent, some of it before the other end closes, some after."""
    ours, theirs = pair
    source = Source(ours, [Chunk(b"1|B\n", 1), Chunk(b"2|B\n", 1)], rate=None)
    source.write()
    assert theirs.recv(4) == b"1|B\n"
    theirs.close()
    source.write()
    return source


def wait_for_the_end(source: Source) -> None:
    select.select([source.connection], [], [], PATIENCE)
    assert not source.read()


def test_the_source_notices_that_not_all_was_read(tcp_pair: Pair) -> None:
    source = closed(tcp_pair)
    assert source.done
    wait_for_the_end(source)
    assert source.cut_off is not None
    assert source.cut_off.startswith(
        "the server closed the source's connection after 8 of 8 bytes ("
    )
    assert source.cut_off is not None  # though the kernel tells it once
    assert source.lost is None


def test_a_source_of_which_all_was_read_is_not_cut_off(tcp_pair: Pair) -> None:
    ours, theirs = tcp_pair
    source = Source(ours, [Chunk(b"1|B\n", 1)], rate=None)
    source.write()
    assert theirs.recv(4) == b"1|B\n"
    assert source.cut_off is None
    theirs.close()
    wait_for_the_end(source)
    assert source.cut_off is None


def test_a_source_that_left_is_not_cut_off(tcp_pair: Pair) -> None:
    source = Source(tcp_pair[0], [Chunk(b"1|B\n", 1)], rate=None)
    source.write()
    source.leave()
    select.select([tcp_pair[1]], [], [], PATIENCE)
    tcp_pair[1].close()  # with bytes unread
    wait_for_the_end(source)
    assert source.cut_off is None


def test_the_source_logs_its_lines(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    source = Source(pair[0], [Chunk(b"1|B\n2|B\n", 2)], rate=None, lines=True)
    with caplog.at_level(logging.DEBUG, "simulator"):
        source.write()
    assert r"source sent b'2|B\n'" in caplog.messages


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with (
        pytest.raises(ConnectError, match=rf"at 127\.0\.0\.1:{port} .*python -m maze\.serve"),
        connect_clients(Address("127.0.0.1", port, port), [1]),
    ):
        pytest.fail("connected to nobody")


def test_what_is_small_is_sent_at_once() -> None:
    # An id behind the end of TLS's handshake would wait for an acknowledgement.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        address = Address("127.0.0.1", port, port)
        with connect_sources(address, 2) as sources, connect_clients(address, [1, 2]) as clients:
            for connection in (*sources, *clients):
                assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


class ThrownOut(socket.socket):
    """A connection that is reset as soon as it is there."""

    def connect(self, address: object, /) -> None:
        raise ConnectionResetError(104, "Connection reset by peer")


def test_a_server_that_resets_at_once_is_left_to_the_verdict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "socket", ThrownOut)
    with connect_clients(Address("127.0.0.1", 9, 9), [1]) as (connection,):
        client = client_of(connection, b"1|B\n")
        assert client.read() == 0
        assert client.closed_by is not None
        assert client.closed_by.startswith("connection reset by the server")


@pytest.mark.parametrize(
    ("soft", "hard", "wanted"),
    [
        (10, 4096, [(65, 4096)]),
        (10, resource.RLIM_INFINITY, [(65, resource.RLIM_INFINITY)]),
        (4096, 4096, []),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, []),
    ],
)
def test_the_limit_of_open_files_is_raised_if_needed(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, wanted: list[tuple[int, int]]
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _what, both: asked.append(both))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with connect_clients(Address("127.0.0.1", port, port), [1]):
            assert asked == wanted


def test_too_many_clients_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (10, 20))
    with (
        pytest.raises(ConnectError, match="65 open files are needed, but the limit is 20"),
        connect_clients(Address("127.0.0.1", 9, 9), [1]),
    ):
        pytest.fail("connected all the same")
