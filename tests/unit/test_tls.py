"""TLS's handshake with sockets that fail in the middle of it."""

from __future__ import annotations

import ssl
import time
from pathlib import Path
from typing import Any

import pytest
from end_to_end.certificates import Authority
from end_to_end.peers import SERVER_NAME

from maze.certificates import load_contexts
from maze.handshake import HandshakeError
from maze.settings import Settings
from maze.tls import TlsConnection


class Failing:
    """A socket on which a client's first words come, and nothing goes."""

    def __init__(self, came: bytes, error: OSError) -> None:
        self._came = came
        self._error = error

    def settimeout(self, _: float) -> None:
        """It does not wait."""

    def recv(self, _: int) -> bytes:
        return self._came

    def sendall(self, _: bytes) -> None:
        raise self._error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError(), "timeout"),
        (BlockingIOError(), "timeout"),
        (ConnectionResetError(104, "Connection reset by peer"), "left"),
    ],
)
def test_a_handshake_that_cannot_be_answered_ends(
    tmp_path: Path, error: OSError, reason: str
) -> None:
    authority = Authority(tmp_path)
    server = authority.server
    context = load_contexts(Settings(client_tls_cert=server.cert, client_tls_key=server.key))[1]
    assert context
    sock: Any = Failing(_first_words(authority), error)
    with pytest.raises(HandshakeError, match=reason):
        TlsConnection(sock, context).handshake(time.monotonic() + 5)


def _first_words(authority: Authority) -> bytes:
    words = ssl.MemoryBIO()
    client = authority.context().wrap_bio(ssl.MemoryBIO(), words, server_hostname=SERVER_NAME)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return words.read()
