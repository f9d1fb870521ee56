"""The admin port's limits: large, slow and many requests leave the others unaffected."""

from __future__ import annotations

import pytest

from maze.admin import application, listener, view
from maze.listener.system_limits import RESERVED_DESCRIPTORS

from .watching import Stream, Watched, parsed, read_all

NEVER_SECONDS = 3600.0
"""A time limit that does not expire during a test."""
LARGE_BYTES = 32 * 1024 * 1024
"""A response size that exceeds the kernel's buffers for a client that does not read."""


def test_oversized_headers_are_refused(watched: Watched) -> None:
    answer = watched.ask("/healthz", X_Long="x" * listener.MAX_HEAD_BYTES)
    assert (answer.status, answer.error) == (431, "the headers exceed 16384 bytes")
    many = {f"X_{number}": "x" * 500 for number in range(50)}
    assert watched.ask("/healthz", **many).status == 431
    assert watched.ask("/healthz", X_Long="x" * 8000).status == 200


def test_too_many_headers_are_refused(watched: Watched) -> None:
    fields = {f"X_{number}": "" for number in range(900)}
    answer = watched.ask("/healthz", **fields)
    assert (answer.status, answer.error) == (
        431,
        f"the request has more than {listener.MAX_HEADERS} headers",
    )
    fitting = dict(list(fields.items())[: listener.MAX_HEADERS - 1])  # leaves one for Host
    assert watched.ask("/healthz", **fitting).status == 200


@pytest.mark.parametrize("excess", [1, 500, 100_000])
def test_an_oversized_request_line_is_refused(watched: Watched, excess: int) -> None:
    longest = "/" + "x" * (listener.MAX_LINE_BYTES - len("GET / HTTP/1.1\r\n"))
    assert watched.ask(longest).status == 404
    answer = watched.ask(longest + "x" * excess)
    assert (answer.status, answer.error) == (414, "the request line exceeds 8000 bytes")


def test_an_oversized_body_is_refused_unread(watched: Watched) -> None:
    path = "/api/clients/1/disconnect"
    answer = watched.ask(path, "POST", Content_Length=str(listener.MAX_BODY_BYTES + 1))
    assert (answer.status, answer.error) == (413, "the body exceeds 1024 bytes")
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{{}}"
    assert watched.raw(head.encode()).status == 404


@pytest.mark.parametrize("body", [b"0\r\n\r\n", b"2\r\n{}\r\n0\r\n\r\n"])
def test_a_chunked_body_is_refused_even_if_it_is_empty(watched: Watched, body: bytes) -> None:
    head = b"POST /api/clients/1/disconnect HTTP/1.1\r\nHost: localhost\r\n"
    answer = watched.raw(head + b"Transfer-Encoding: chunked\r\n\r\n" + body)
    assert answer.status == 411
    assert "Content-Length" in answer.error


def test_a_refused_head_request_gets_no_body(watched: Watched) -> None:
    answer = watched.ask("/healthz", "HEAD", X_Long="x" * listener.MAX_HEAD_BYTES)
    assert (answer.status, answer.body) == (431, b"")
    assert int(answer.headers["content-length"]) > 0


@pytest.mark.parametrize(
    "request_",
    [
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    ],
)
def test_an_invalid_request_is_400_and_prints_nothing(
    watched: Watched, request_: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    assert watched.raw(request_).status == 400
    assert watched.ask("/healthz").status == 200
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "part",
    [
        b"G",
        b"GET /healthz HTTP/1.1\r\nHost: local",
        b"POST /api/clients/1/disconnect HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{",
    ],
)
def test_an_incomplete_request_is_408_after_the_time_limit(
    watched: Watched,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    part: bytes,
) -> None:
    monkeypatch.setattr(listener, "HEAD_SECONDS", 0.05)
    answer = watched.raw(part)
    assert (answer.status, answer.error) == (408, "the request was not complete within 0.05 s")
    assert capfd.readouterr() == ("", "")


def test_a_silent_connection_is_closed_without_a_response(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(listener, "HEAD_SECONDS", 0.05)
    assert read_all(watched.connect()) == b""
    assert capfd.readouterr() == ("", "")


# Connections held without a request.


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set time limits that never expire, so that only eviction closes a connection."""
    monkeypatch.setattr(listener, "HEAD_SECONDS", NEVER_SECONDS)
    monkeypatch.setattr(listener, "WRITE_SECONDS", NEVER_SECONDS)


@pytest.mark.usefixtures("patient")
def test_silent_connections_do_not_block_health_checks(watched: Watched) -> None:
    silent = [watched.connect() for _ in range(100)]
    assert watched.ask("/healthz").status == 200
    # Closed without a response: a browser that preconnects has asked for nothing yet.
    assert [read_all(sock) for sock in silent[: 100 - listener.MAX_CONNECTIONS]] == [
        b"" for _ in range(100 - listener.MAX_CONNECTIONS)
    ]
    newest = silent[-1]
    newest.sendall(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
    assert b" 200 OK" in read_all(newest)


@pytest.mark.usefixtures("patient")
def test_half_sent_requests_are_evicted_with_503_and_block_no_health_check(
    watched: Watched,
) -> None:
    halves = []
    for _ in range(100):
        halves.append(watched.connect())
        halves[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: local")
    assert watched.ask("/healthz").status == 200
    answer = parsed(read_all(halves[0]))
    assert (answer.status, answer.error) == (
        503,
        f"closed as the oldest of more than {listener.MAX_CONNECTIONS} connections; try again",
    )


@pytest.mark.usefixtures("patient")
def test_clients_that_do_not_read_block_no_health_check(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "MAX_CONNECTIONS", 2)
    monkeypatch.setattr(view, "status", lambda *_: "x" * LARGE_BYTES)
    greedy = []
    for _ in range(4):
        greedy.append(watched.connect())
        greedy[-1].sendall(b"GET /api/status HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert greedy[-1].recv(1)  # the response has begun
    assert watched.ask("/healthz").status == 200
    assert 0 < len(read_all(greedy[0])) < LARGE_BYTES


@pytest.mark.usefixtures("patient")
def test_a_live_page_is_never_evicted(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched.admin.monitor, "seconds_to_tick", lambda: 0.01)
    page = Stream(watched)
    for _ in range(100):
        watched.connect()
    assert watched.ask("/healthz").status == 200
    for _ in range(100):
        page.event()


def test_the_reserved_descriptors_cover_the_admin_connections() -> None:
    others = 20  # the ports, the log, the event loop, files
    assert (
        listener.MAX_CONNECTIONS + application.MAX_WATCHERS + listener.SPARE_CONNECTIONS + others
        <= RESERVED_DESCRIPTORS
    )
