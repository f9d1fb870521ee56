"""The TLS handshake and its deadlines, with sockets that fail or are slow."""

from __future__ import annotations

import ssl
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from end_to_end.certificates import Authority
from end_to_end.peers import SERVER_NAME

from maze.listener import tls
from maze.listener.handshake_rejects import HandshakeError
from maze.listener.tls import HandshakeSlices, TlsConnection
from maze.listener.tls_context import ServerContext, load_contexts
from maze.net import time_slice
from maze.settings.options import Settings


class Failing:
    """A socket that receives a client's hello and fails to send."""

    def __init__(self, received: bytes, error: OSError) -> None:
        self._received = received
        self._error = error

    def fileno(self) -> int:
        return -1

    def settimeout(self, _: float) -> None:
        """Do nothing: this socket never waits."""

    def recv(self, _: int) -> bytes:
        return self._received

    def sendall(self, _: bytes) -> None:
        raise self._error


class Dribbling:
    """A client's end of a connection; with a pause, its bytes arrive one by one, that far apart."""

    def __init__(self, context: ssl.SSLContext, clock: SimpleNamespace) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=SERVER_NAME)
        self.pause = 0.0
        self._clock = clock
        self._timeout: float | None = None

    def fileno(self) -> int:
        return -1

    def settimeout(self, seconds: float | None) -> None:
        self._timeout = seconds

    def recv(self, size: int) -> bytes:
        if self._timeout is not None and self._timeout <= self.pause:
            raise TimeoutError
        self._clock.now += self.pause
        if not self.pause:
            with suppress(ssl.SSLWantReadError):
                self.tls.do_handshake()
        return self._outgoing.read(1 if self.pause else size)

    def sendall(self, data: bytes) -> None:
        self._incoming.write(data)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Replace the clock of TLS connections by one that stands still."""
    fake = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(tls, "time", SimpleNamespace(monotonic=lambda: fake.now))
    return fake


def test_one_timeout_covers_all_pieces_of_a_record(tmp_path: Path, clock: SimpleNamespace) -> None:
    authority = Authority(tmp_path)
    peer: Any = Dribbling(authority.context(), clock)
    connection = TlsConnection(peer, _context(authority), HandshakeSlices())
    connection.handshake(clock.now + 5)
    connection.settimeout(None)
    peer.tls.write(b"7\n")
    assert connection.recv(100) == b"7\n"
    peer.tls.write(b"8\n")
    peer.pause = 0.7
    connection.settimeout(2)
    with pytest.raises(TimeoutError):
        connection.recv(100)
    assert clock.now == pytest.approx(1001.4)


def test_waiting_for_a_turn_extends_the_deadline_of_a_handshake(
    tmp_path: Path, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(_: HandshakeSlices) -> None:
        clock.now += 100

    monkeypatch.setattr(HandshakeSlices, "wait", wait)
    authority = Authority(tmp_path)
    peer: Any = Dribbling(authority.context(), clock)
    connection = TlsConnection(peer, _context(authority), HandshakeSlices())
    connection.handshake(clock.now + 5)
    assert connection.waited_seconds == clock.now - 1000 > 0
    peer.pause = 6.0
    late = TlsConnection(peer, _context(authority), HandshakeSlices())
    with pytest.raises(HandshakeError, match="timeout"):
        late.handshake(clock.now + 5)


def test_handshakes_compute_in_turn_and_other_greenlets_run_between() -> None:
    """The event loop runs between them, however many there are."""
    order, now = list[str](), [0.0]

    def compute(name: str) -> None:
        slices.wait()
        order.append(name)
        now[0] += time_slice.TIME_SLICE_SECONDS

    def watch() -> None:
        for _ in range(4):
            gevent.sleep(1e-6)
            order.append("-")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time_slice, "monotonic", lambda: now[0])
        slices = HandshakeSlices()
        now[0] = 1.0
        gevent.joinall([gevent.spawn(watch), *map(partial(gevent.spawn, compute), "abc")], 30)
    assert "".join(order).replace("-", "") == "abc", "first come, first served"
    assert "-" in "".join(order).partition("a")[2].partition("c")[0]


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
    context = _context(authority)
    sock: Any = Failing(_client_hello(authority), error)
    with pytest.raises(HandshakeError, match=reason):
        TlsConnection(sock, context, HandshakeSlices()).handshake(time.monotonic() + 5)


def _context(authority: Authority) -> ServerContext:
    server = authority.server
    context = load_contexts(Settings(client_tls_cert=server.cert, client_tls_key=server.key))[1]
    assert context
    return context


def _client_hello(authority: Authority) -> bytes:
    outgoing = ssl.MemoryBIO()
    client = authority.context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=SERVER_NAME)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()
