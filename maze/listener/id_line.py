"""Reads the line with which a client names its user, within a limit of length and of time."""

import time

from maze.core import IdLine, is_http_request, parse_id_line
from maze.listener.handshake_rejects import HandshakeError, HandshakeReason
from maze.listener.proxies import reject_proxy_header
from maze.net.connection import Connection

HTTP_LINE_BYTES = 4 * 1024
"""Maximum length of a line that is recognised as an HTTP request line."""


def receive_id_line(connection: Connection, limit: int, deadline: float) -> bytes:
    """Receive the client's id line, and whatever came with it.

    ``limit`` is in bytes, ``deadline`` a time of the monotonic clock. Raise HandshakeError.
    """
    received = b""
    while b"\n" not in received:
        if len(received.removesuffix(b"\r")) > _max_line_bytes(received, limit):
            reject_proxy_header(received)
            raise HandshakeError(HandshakeReason.TOO_LONG, received)
        connection.settimeout(max(0.0, deadline - time.monotonic()))
        try:
            data = connection.recv(limit + 2)
        except (TimeoutError, BlockingIOError):
            raise HandshakeError(HandshakeReason.TIMEOUT, received) from None
        except OSError:
            data = b""
        if not data:
            raise HandshakeError(HandshakeReason.LEFT, received)
        received += data
    return received


def read_id_line(received: bytes, limit: int) -> IdLine:
    """Return what the first line says. Raise HandshakeError if it is not an id line."""
    reject_proxy_header(received)
    start = received.partition(b"\n")[0]
    line = start.removesuffix(b"\r")
    if len(line) <= _max_line_bytes(line, limit) and is_http_request(start + b"\n", len(line)):
        raise HandshakeError(HandshakeReason.HTTP, received)
    if len(line) > limit:
        raise HandshakeError(HandshakeReason.TOO_LONG, received)
    id_line = parse_id_line(line)
    if id_line is None:
        raise HandshakeError(HandshakeReason.BAD_USER, received)
    return id_line


def _max_line_bytes(start: bytes, limit: int) -> int:
    """Return the maximum length of a line, given its start: a letter may begin an HTTP request."""
    return HTTP_LINE_BYTES if start[:1].isalpha() else limit
