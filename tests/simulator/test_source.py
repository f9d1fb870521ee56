"""A source on one end of a pair of sockets."""

import logging
import select
import socket
from collections.abc import Iterator

import pytest
from running import Pair, socket_pair
from servers import PATIENCE

from simulator.play.source import Source
from simulator.stream.workload import Chunk

pytestmark = pytest.mark.realtime

pair = pytest.fixture(socket_pair)


STREAM = b"7|B\n8|B\n9|B\n"


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


def test_lines_begun_are_counted_exactly() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        chunks = [Chunk(b"1|B\n2|P|1000000|1000000\n", 2), Chunk(b"3|B\n4|B\n", 2)]
        source = Source(ours, chunks, None, cut=5)
        counts = []
        while not source.done:
            counts.append(source.lines_begun)
            source.write()
        assert counts == [1, 2, 2, 2, 2, 3, 4]


def test_a_source_that_was_closed_has_left_already() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        ours.setblocking(False)
        theirs.close()
        source = Source(ours, [Chunk(STREAM, 3)], None)
        assert source.write() == 0
        source.leave()
        assert source.lost is not None
