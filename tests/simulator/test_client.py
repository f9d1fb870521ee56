"""A client on one end of a pair of sockets."""

import logging

import pytest
from running import Pair, client_of, socket_pair

pytestmark = pytest.mark.realtime

pair = pytest.fixture(socket_pair)


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
