"""What the first line of a client says, and why it is rejected."""

import pytest

from maze.core import IdLine
from maze.listener.handshake_rejects import HandshakeError
from maze.listener.id_line import read_id_line


@pytest.mark.parametrize("received", [b"7\n", b"7\r\n", b"007\n8\n", b"7\n\r\n"])
def test_the_first_line_is_the_id_line(received: bytes) -> None:
    assert read_id_line(received, 64) == IdLine(7)


@pytest.mark.parametrize(
    ("received", "reason"),
    [
        (b"\n", "bad_user"),
        (b"x7\n", "bad_user"),
        (b"7" * 65 + b"\n", "too_long"),
        (b"GET / HTTP/1.1\n", "http"),
        (b"GET / HTTP/1.1\r\n", "http"),
        (b"GET /" + b"x" * 100 + b" HTTP/1.1\r\n", "http"),
        (b"GET / HTTP/1.1\r\r\n", "bad_user"),  # one carriage return belongs to the terminator
        (b"7|2!-3ET / HTTP/1.1\r\r\n", "bad_user"),
    ],
)
def test_a_line_that_is_no_id_line_is_rejected(received: bytes, reason: str) -> None:
    with pytest.raises(HandshakeError) as error:
        read_id_line(received, 64)
    assert (error.value.reason, error.value.received) == (reason, received)
