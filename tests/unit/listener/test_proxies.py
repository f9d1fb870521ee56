"""What is received of a PROXY header when the connection breaks."""

import math
from socket import MSG_PEEK
from typing import cast

import pytest
from gevent.socket import socket

from maze.listener.handshake_rejects import HandshakeError, HandshakeReason
from maze.listener.proxies import receive_proxy_header


class Reset:
    """A socket whose peer resets the connection once its first bytes have been looked at."""

    def __init__(self, said: bytes) -> None:
        self._said = said

    def settimeout(self, _: float) -> None:
        """It does not wait."""

    def recv(self, size: int, flags: int = 0) -> bytes:
        if flags & MSG_PEEK:
            return self._said[:size]
        raise ConnectionResetError


@pytest.mark.parametrize("said", [b"PROXY UNKNOWN\r\n", b"PROXY UNK"], ids=["whole", "part"])
def test_a_reset_before_the_header_is_taken_is_that_the_peer_left(said: bytes) -> None:
    with pytest.raises(HandshakeError) as error:
        receive_proxy_header(cast(socket, Reset(said)), deadline=math.inf)
    assert error.value.reason is HandshakeReason.LEFT
    assert str(error.value.detail) == "before the end of its PROXY header"
