"""Who is let in, and how long their handshake may take."""

from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from gevent.socket import socket

from maze.listener import access
from maze.listener.access import Access
from maze.settings.options import Settings


class Kept:
    """A TLS connection that the server kept waiting for seven seconds."""

    waited_seconds = 7.0
    deadlines: ClassVar[list[float]] = []

    def __init__(self, *_: Any) -> None:
        """It needs nothing of its context."""

    def handshake(self, deadline: float) -> None:
        self.deadlines.append(deadline)


def test_the_deadline_is_extended_by_what_the_server_kept_the_peer_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(access, "time", SimpleNamespace(monotonic=lambda: 100.0))
    monkeypatch.setattr(access, "TlsConnection", Kept)
    settings = Settings(handshake_timeout=5.0)
    context: Any = object()
    with socket() as sock:
        plain = Access(settings.client, settings, None)
        assert plain.authorize(sock, ("192.0.2.1", 1), plain.deadline())[1] == 105.0
        encrypted = Access(settings.client, settings, context)
        assert encrypted.authorize(sock, ("192.0.2.1", 1), 105.0)[1] == 112.0
    assert Kept.deadlines == [105.0]
