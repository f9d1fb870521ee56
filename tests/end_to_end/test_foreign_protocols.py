"""Peers that speak other protocols, such as browsers: nothing that they send is decoded."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import gevent
import pytest
from structlog.testing import LogCapture

from .commands import Command
from .peers import Source, until
from .running import Maze, shrink_buffers
from .test_successors import Held

plain_and_tls = pytest.mark.parametrize("wire", ["plain", "tls"], indirect=True)

HEAD = b"Host: 127.0.0.1:9090\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\n"
BODY = b"\n1|P|9|5\n"

FIRST_LINES = [
    b"POST / HTTP/1.1\r\n",
    b"GET /?\n1|P|9|5 HTTP/1.1\r\n",
    b"GET /" + b"x" * 3_000 + b" HTTP/1.1\n",
    b"\r\n\r\nPOST / HTTP/1.1\r\n",
    b"PRI * HTTP/2.0\r\n",
    b"1|P|9|5 / HTTP/1.1\r\n",
]


def expect_closed(maze: Maze, log: LogCapture, reason: str) -> None:
    """Assert that the source is closed for ``reason`` and nothing that it sent was used."""
    until(lambda: dict(maze.server.source.closed) == {reason: 1}, "the source to be closed")
    (line,) = (entry for entry in log.entries if entry["event"] == "source_closed")
    assert (line["log_level"], line["reason"]) == ("warning", reason)
    assert line["received"]
    assert maze.rejects() == {}
    assert maze.server.router.stats.routed_events == 0


def expect_nothing_was_routed(maze: Maze) -> None:
    """Assert that the next source's first event is the first that a client receives."""
    client = maze.client(5)
    maze.source().send(b"1|B\n")
    client.expect_nothing_before(b"1|B\n")


@plain_and_tls
@pytest.mark.parametrize("first_line", FIRST_LINES[:1] + FIRST_LINES[2:], ids=lambda line: line[:9])
def test_an_http_request_is_no_source(maze: Maze, log: LogCapture, first_line: bytes) -> None:
    browser = maze.source()
    browser.send(first_line + HEAD + BODY)
    browser.read_until_closed()
    expect_closed(maze, log, "http")
    expect_nothing_was_routed(maze)


@plain_and_tls
def test_an_http_request_in_pieces_of_one_byte_is_recognised(maze: Maze, log: LogCapture) -> None:
    browser = maze.source()
    for byte in b"\r\nPOST / HTTP/1.1\r":
        browser.send(bytes([byte]))
        gevent.sleep(0)
    assert not maze.server.source.closed
    browser.send(b"\n" + HEAD + BODY)
    browser.read_until_closed()
    expect_closed(maze, log, "http")
    expect_nothing_was_routed(maze)


def test_an_http_request_longer_than_one_read_is_recognised(
    start: Callable[..., Maze], log: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maze.pipeline.source.CHUNK_BYTES", 16)
    maze = start()
    browser = maze.source()
    browser.send(FIRST_LINES[2] + HEAD + BODY)
    browser.read_until_closed()
    expect_closed(maze, log, "http")


@plain_and_tls
def test_a_request_line_beyond_the_limit_is_too_long(
    start: Callable[..., Maze], log: LogCapture
) -> None:
    maze = start(line_limit=64)
    browser = maze.source()
    browser.send(b"POST /" + b"x" * 64 + b" HTTP/1.1\r\n" + HEAD + BODY)
    browser.read_until_closed()
    until(
        lambda: dict(maze.server.source.closed) == {"line_too_long": 1}, "the source to be closed"
    )
    assert maze.rejects() == {"line_too_long": 1}
    assert maze.server.router.stats.routed_events == 0


@pytest.mark.parametrize("ticket", [b"", BODY])  # a web page may choose the ticket
def test_a_tls_client_hello_is_no_source(maze: Maze, log: LogCapture, ticket: bytes) -> None:
    browser = maze.source()
    browser.send(b"\x16\x03\x01\x00\x80\x01" + ticket)
    browser.read_until_closed()
    expect_closed(maze, log, "tls")
    expect_nothing_was_routed(maze)


@plain_and_tls
def test_a_first_event_in_pieces_of_one_byte_is_routed(maze: Maze) -> None:
    client, source = maze.client(5), maze.source()
    for byte in b"1|P|9|5\n":
        source.send(bytes([byte]))
        gevent.sleep(0)
    client.expect(b"1|P|9|5\n")
    source.send(b"GET / HTTP/1.1\n2|B\n")  # not the first line, so it is just malformed
    client.expect(b"2|B\n")
    assert maze.rejects() == {"bad_sequence": 1}


@plain_and_tls
@pytest.mark.parametrize(
    ("said", "rejects"),
    [(b"POST / HT", {"half_line": 1}), (b"\r\n\n", {"bad_sequence": 2}), (b"GET /\n1", None)],
)
@pytest.mark.parametrize("leave", [Source.half_close, Source.reset])
def test_the_beginning_of_a_request_is_counted_when_the_source_ends(
    maze: Maze, said: bytes, rejects: dict[str, int] | None, leave: Callable[[Source], None]
) -> None:
    source = maze.source()
    source.send(said)
    until(lambda: maze.server.source.received_bytes == len(said), "the bytes to be read")
    leave(source)
    until(lambda: maze.server.source.closed.total() == 1, "the source to leave")
    assert maze.rejects() == (rejects or {"bad_sequence": 1, "half_line": 1})


# Clients.


@plain_and_tls
@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\n" + HEAD + BODY,
        b"GET /" + b"x" * 2_000 + b" HTTP/1.1\r\n",
        b"OPTIONS * HTTP/1.1\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=lambda said: said[:9],
)
def test_an_http_request_is_no_client(maze: Maze, log: LogCapture, said: bytes) -> None:
    browser = maze.stranger()
    browser.send(said)
    browser.read_until_closed()
    rejects = maze.server.clients.access.rejects.counts
    until(lambda: dict(rejects) == {"http": 1}, "the handshake to be rejected")
    (line,) = (entry for entry in log.entries if entry["event"] == "handshake_rejected")
    assert (line["reason"], line["log_level"]) == ("http", "warning")


@plain_and_tls
@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"G" * 64 + b"\n", "bad_user"),
        (b"G" * 65 + b"\n", "too_long"),
        (b"GET /" + b"x" * 10_000, "too_long"),
        (b"7" * 65, "too_long"),
    ],
    ids=lambda said: said[:9],
)
def test_a_line_that_is_no_request_is_rejected_as_an_id(
    maze: Maze, said: bytes, reason: str
) -> None:
    stranger = maze.stranger()
    stranger.send(said)
    stranger.read_until_closed()
    rejects = maze.server.clients.access.rejects.counts
    until(lambda: dict(rejects) == {reason: 1}, "the handshake to be rejected")


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl command")
def test_curl_injects_no_event(maze: Maze, log: LogCapture) -> None:
    client = maze.client(5)
    host, port = maze.source_address
    curl = Command(["curl", "-s", "--data-binary", BODY.decode(), f"http://{host}:{port}/"])
    assert curl.status() != 0
    curl.close()
    expect_closed(maze, log, "http")
    maze.source().send(b"1|B\n")
    client.expect_nothing_before(b"1|B\n")


def test_a_request_that_waits_for_a_slot_does_not_keep_it(
    start: Callable[..., Maze], monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_buffers(monkeypatch)
    held = Held(start(client_buffer=1024, reorder_limit=100))
    page = held.successor(FIRST_LINES[0])
    source = held.successor(b"1|P|9|1\n")
    page.expect_closed()
    assert held.refused == 1
    held.release()
    held.client.expect(b"1|P|9|1\n")
    source.send(b"2|P|9|1\n")
    held.client.expect(b"2|P|9|1\n")
