"""Peers that TLS must reject: wrong certificates, plain text, handshakes that never end."""

from __future__ import annotations

from collections.abc import Iterator

import gevent
import pytest
from end_to_end.certificates import DAY, Authority, Certificate
from end_to_end.peers import Client, Peer, broadcasts, joined
from end_to_end.running import Child

HALF_OPEN = 300


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """Fail a test that hangs."""
    with gevent.Timeout(60, AssertionError("the test took longer than 60 s")):
        yield


class Guarded:
    """A server that requires certificates on both ports, with one valid client and source."""

    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        files = {"cert": authority.server.cert, "key": authority.server.key, "ca": authority.cert}
        arguments = [
            argument
            for port in ("source", "client")
            for end, file in files.items()
            for argument in (f"--{port}-tls-{end}", file)
        ]
        self.child = Child(
            *("--log-level", "debug", "--client-identity", "certificate"),
            *("--handshake-timeout", "8s"),
            *arguments,
        )

    def serve(self) -> None:
        """Start the server; connect the valid source and the valid client."""
        self.child.ready()
        feed = self.authority.issue("", "maze:source")
        source = self.child.source(tls=self.authority.context(feed))
        client = self.child.client(1, tls=self.authority.context(self.authority.issue("1")))
        self.child.await_logged("source_connected")
        self.child.await_logged("session_opened")
        self.source, self.client = source, client
        self._sequence = 0

    def expect_delivery(self, count: int = 1_000) -> None:
        """Send events from the valid source; the valid client must receive them."""
        lines = joined(broadcasts(self._sequence + 1, self._sequence + 1 + count))
        self._sequence += count
        self.source.send(lines)
        self.client.expect(lines)

    def expect_rejected(self, reason: str) -> dict[str, object]:
        """Return the only ``handshake_rejected`` line, which must have this reason."""
        self.child.await_logged("handshake_rejected")
        (line,) = self.child.logged("handshake_rejected")
        assert line["reason"] == reason
        assert len(self.child.logged("session_opened")) == 1
        return line


@pytest.fixture
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    guarded = Guarded(Authority(tmp_path_factory.mktemp("authority")))
    with guarded.child:
        guarded.serve()
        yield guarded
        guarded.expect_delivery()
        assert guarded.child.process.poll() is None
        assert "Traceback" not in guarded.child.stderr()


@pytest.mark.parametrize("port", ["client", "source"])
@pytest.mark.parametrize("bad", ["expired", "of another authority", "none"])
def test_an_invalid_certificate(
    guarded: Guarded, tmp_path_factory: pytest.TempPathFactory, bad: str, port: str
) -> None:
    certificate: Certificate | None = None
    if bad == "expired":
        certificate = guarded.authority.issue("1", lifetime=-DAY)
    elif bad == "of another authority":
        certificate = Authority(tmp_path_factory.mktemp("another")).issue("1")
    context = guarded.authority.context(certificate)
    peer: Peer
    if port == "client":
        peer = guarded.child.client(1, tls=context)
    else:
        peer = guarded.child.source(tls=context)
    guarded.expect_delivery()
    peer.expect_closed()
    line = guarded.expect_rejected("tls_failed")
    assert line["detail"]
    assert port in line


def test_a_certificate_that_names_another_user(guarded: Guarded) -> None:
    peer = guarded.child.client(
        1, tls=guarded.authority.context(guarded.authority.issue("2", "maze:user:3"))
    )
    guarded.expect_delivery()
    peer.expect_closed()
    line = guarded.expect_rejected("other_user")
    assert line["detail"] == "sent user id 1, its certificate names 2, 3"


def test_a_user_s_certificate_on_the_source_port(guarded: Guarded) -> None:
    context = guarded.authority.context(guarded.authority.issue("1", "maze:user:1"))
    peer = guarded.child.source(tls=context)
    guarded.expect_delivery()
    peer.expect_closed()
    line = guarded.expect_rejected("not_a_source")
    assert "its certificate names 1, maze:user:1, " in str(line["detail"])


def test_plain_text_on_a_port_that_speaks_tls(guarded: Guarded) -> None:
    peer = guarded.child.client(1)
    peer.expect_closed()
    guarded.expect_rejected("plain_text")


def test_300_half_open_handshakes(guarded: Guarded) -> None:
    pending = [Client(guarded.child.client_address) for _ in range(HALF_OPEN)]
    for peer in pending[::3]:
        peer.send(b"\x16\x03\x01\x02\x00")  # the header of a record that never follows
    another = guarded.authority.context(guarded.authority.issue("2"))
    client = guarded.child.client(2, tls=another)
    guarded.child.await_logged("session_opened", 2)
    guarded.expect_delivery(20_000)
    client.expect(joined(broadcasts(1, 20_001)))
    assert not guarded.child.logged("handshake_rejected"), "a handshake has timed out too early"
    for peer in pending:
        peer.expect_closed()
        peer.close()
    lines = guarded.child.logged("handshake_rejected")
    assert {line["reason"] for line in lines} == {"timeout"}
    assert len(lines) < 10, "more than one line a second"
