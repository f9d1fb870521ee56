"""What is sent too long, too slowly or too often, and how little it hinders the others."""

from __future__ import annotations

import pytest

from maze.admin import application as http
from maze.admin import listener as server
from maze.listener.system_limits import RESERVED_DESCRIPTORS

from .watching import Stream, Watched, parsed, read_all

AN_HOUR = 3600.0
"""a time limit that ends nothing in a test"""
A_LOT = 32 * 1024 * 1024
"""more than the kernel takes for a client that reads nothing"""


def test_a_head_that_is_too_long_is_refused(watched: Watched) -> None:
    answer = watched.ask("/healthz", X_Long="x" * server.HEAD_BYTES)
    assert (answer.status, answer.error) == (431, "the headers have more than 16384 bytes")
    many = {f"X_{number}": "x" * 500 for number in range(50)}
    assert watched.ask("/healthz", **many).status == 431
    assert watched.ask("/healthz", X_Long="x" * 8000).status == 200


def test_so_is_one_of_too_many_headers(watched: Watched) -> None:
    fields = {f"X_{number}": "" for number in range(900)}
    answer = watched.ask("/healthz", **fields)
    assert (answer.status, answer.error) == (431, f"there are more than {server.HEADERS} headers")
    fitting = dict(list(fields.items())[: server.HEADERS - 1])  # and Host
    assert watched.ask("/healthz", **fitting).status == 200


@pytest.mark.parametrize("excess", [1, 500, 100_000])
def test_so_is_too_long_an_address(watched: Watched, excess: int) -> None:
    longest = "/" + "x" * (server.LINE_BYTES - len("GET / HTTP/1.1\r\n"))
    assert watched.ask(longest).status == 404
    answer = watched.ask(longest + "x" * excess)
    assert (answer.status, answer.error) == (
        414,
        "the request's first line is over 8000 bytes long",
    )


def test_a_body_that_is_too_long_is_refused_unread(watched: Watched) -> None:
    path = "/api/clients/1/disconnect"
    answer = watched.ask(path, "POST", Content_Length=str(server.BODY_BYTES + 1))
    assert (answer.status, answer.error) == (413, "the request has a body of more than 1024 bytes")
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{{}}"
    assert watched.raw(head.encode()).status == 404


@pytest.mark.parametrize("body", [b"0\r\n\r\n", b"2\r\n{}\r\n0\r\n\r\n"])
def test_a_body_has_to_say_its_length_even_if_it_is_empty(watched: Watched, body: bytes) -> None:
    head = b"POST /api/clients/1/disconnect HTTP/1.1\r\nHost: localhost\r\n"
    answer = watched.raw(head + b"Transfer-Encoding: chunked\r\n\r\n" + body)
    assert answer.status == 411
    assert "Content-Length" in answer.error


def test_who_is_refused_by_head_gets_no_body(watched: Watched) -> None:
    answer = watched.ask("/healthz", "HEAD", X_Long="x" * server.HEAD_BYTES)
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
def test_what_is_no_request_is_told_so_and_nothing_is_printed(
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
def test_who_never_finishes_asking_is_told_so_and_cut_off(
    watched: Watched,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    part: bytes,
) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.05)
    answer = watched.raw(part)
    assert (answer.status, answer.error) == (408, "the request did not come whole within 0.05 s")
    assert capfd.readouterr() == ("", "")


def test_who_never_begins_is_cut_off_in_silence(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.05)
    assert read_all(watched.connect()) == b""
    assert capfd.readouterr() == ("", "")


# Who only holds connections.


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is closed for being slow, so whoever is closed had to make room."""
    monkeypatch.setattr(server, "HEAD_SECONDS", AN_HOUR)
    monkeypatch.setattr(server, "WRITE_SECONDS", AN_HOUR)


@pytest.mark.usefixtures("patient")
def test_a_hundred_silent_connections_starve_no_health_check(watched: Watched) -> None:
    silent = [watched.connect() for _ in range(100)]
    assert watched.ask("/healthz").status == 200
    # Silence on both sides: a browser that connects ahead of need wants no answer yet.
    assert [read_all(sock) for sock in silent[: 100 - server.CONNECTIONS]] == [
        b"" for _ in range(100 - server.CONNECTIONS)
    ]
    newest = silent[-1]
    newest.sendall(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
    assert b" 200 OK" in read_all(newest)


@pytest.mark.usefixtures("patient")
def test_nor_do_those_who_ask_by_halves_and_they_are_told(watched: Watched) -> None:
    halves = []
    for _ in range(100):
        halves.append(watched.connect())
        halves[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: local")
    assert watched.ask("/healthz").status == 200
    answer = parsed(read_all(halves[0]))
    assert (answer.status, answer.error) == (
        503,
        f"more than {server.CONNECTIONS} connections, of which this was the oldest",
    )


@pytest.mark.usefixtures("patient")
def test_nor_do_those_who_ask_for_much_and_take_nothing(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CONNECTIONS", 2)
    monkeypatch.setattr(http, "status", lambda *_: "x" * A_LOT)
    greedy = []
    for _ in range(4):
        greedy.append(watched.connect())
        greedy[-1].sendall(b"GET /api/status HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert greedy[-1].recv(1)  # it is being answered
    assert watched.ask("/healthz").status == 200
    assert 0 < len(read_all(greedy[0])) < A_LOT


@pytest.mark.usefixtures("patient")
def test_a_live_page_makes_room_for_nobody(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched.admin.monitor, "seconds_to_tick", lambda: 0.01)
    page = Stream(watched)
    for _ in range(100):
        watched.connect()
    assert watched.ask("/healthz").status == 200
    for _ in range(100):
        page.event()


def test_the_descriptors_kept_for_operators_and_the_rest_are_enough() -> None:
    others = 20  # the ports, the log, the event loop's own, files
    assert server.CONNECTIONS + http.MAX_WATCHERS + server.ROOM + others <= RESERVED_DESCRIPTORS
