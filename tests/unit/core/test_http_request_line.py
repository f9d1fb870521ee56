"""First lines of connections: requests of HTTP, and what only looks like one."""

import pytest

from maze.core import is_http_request

LIMIT = 64

REQUESTS = [
    b"GET / HTTP/1.1",
    b"POST / HTTP/1.0",
    b"OPTIONS * HTTP/1.1",
    b"CONNECT 127.0.0.1:9090 HTTP/1.1",
    b"PRI * HTTP/2.0",
    b"get /events?a=b HTTP/2",
    b"M-SEARCH * HTTP/1.1",
    b"1|P|9|5 / HTTP/1.1",  # a page may choose the method, and these are letters of a token
    b"GET /a b HTTP/1.1",
    b"GET  HTTP/1.1",
    b"GET / HTTP/1.1 ",
    b"GET /\xff HTTP/1.1",
    b"GET /\r HTTP/1.1",
    b"GET /" + b"x" * (LIMIT - 14) + b" HTTP/1.1",
]
NO_REQUESTS = [
    b"1|B",
    b"1|P|9|5",
    b"7",
    b"x",
    b"GET",
    b"GET /",
    b"GET / HTTP",
    b"GET / HTTP/",
    b"GET / HTTP/x",
    b"GET / HTTP/1.1x",
    b"GET / http/1.1",
    b"GET /HTTP/1.1",
    b" GET / HTTP/1.1",
    b"\tGET / HTTP/1.1",
    b"G(T / HTTP/1.1",
    b"\xc4T / HTTP/1.1",
    b"\x00GET / HTTP/1.1",
    b" / HTTP/1.1",
    b"HTTP/1.1 200 OK",
    b"GET /" + b"x" * (LIMIT - 13) + b" HTTP/1.1",
]
TERMINATORS = [b"\n", b"\r\n"]


@pytest.mark.parametrize("terminator", TERMINATORS)
@pytest.mark.parametrize("empty_lines", [b"", b"\n", b"\r\n", b"\r\n\n\r\n", b"\n" * LIMIT])
@pytest.mark.parametrize("line", REQUESTS)
def test_a_request_is_known_once_its_line_has_ended(
    line: bytes, empty_lines: bytes, terminator: bytes
) -> None:
    start = empty_lines + line + terminator
    assert [is_http_request(start[:end], LIMIT) for end in range(len(start))] == [None] * len(start)
    assert is_http_request(start, LIMIT) is True
    assert is_http_request(start + b"\n1|P|9|5\n", LIMIT) is True


@pytest.mark.parametrize("terminator", TERMINATORS)
@pytest.mark.parametrize("line", NO_REQUESTS)
def test_another_line_is_none(line: bytes, terminator: bytes) -> None:
    assert is_http_request(line + terminator, LIMIT) is False
    assert is_http_request(line + terminator + b"GET / HTTP/1.1\r\n", LIMIT) is False


@pytest.mark.parametrize("start", [b"", b"\r\n", b"\n" * LIMIT, b"1", b"G", b"x" * LIMIT + b"\r"])
def test_what_has_not_ended_may_become_one(start: bytes) -> None:
    assert is_http_request(start, LIMIT) is None


@pytest.mark.parametrize("start", [b"\n" * (LIMIT + 1), b"x" * (LIMIT + 1), b"x" * LIMIT + b"\rx"])
def test_what_is_too_long_is_none_whatever_follows(start: bytes) -> None:
    assert is_http_request(start, LIMIT) is False
    assert is_http_request(start + b"GET / HTTP/1.1\r\n", LIMIT) is False


def test_a_long_line_takes_no_longer_than_its_length() -> None:
    line = b"GET " + b" HTTP/1 HTTP/1.x" * 50_000 + b"\n"
    assert is_http_request(line, len(line)) is False
