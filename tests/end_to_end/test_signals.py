"""SIGTERM and SIGINT: what the clients have received when the process ends."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from .peers import Inbox, broadcasts, joined, until
from .running import Child

pytestmark = pytest.mark.realtime

STOPPING = [signal.SIGTERM, signal.SIGINT]


def _expect_same_prefix(inboxes: list[Inbox], stream: bytes) -> None:
    """Assert that all inboxes hold the same whole lines from the beginning of the stream."""
    received = [inbox.all() for inbox in inboxes]
    assert len(set(map(len, received))) == 1, list(map(len, received))
    assert received[0].endswith(b"\n")
    for data in received:
        assert stream.startswith(data)


@pytest.mark.parametrize("number", STOPPING)
def test_signal_under_load_ends_with_the_same_event_for_all(number: signal.Signals) -> None:
    with Child("--log-level", "debug").ready() as child:
        inboxes = [client.read_in_background() for client in child.clients(range(1, 9))]
        stream = joined(broadcasts(1, 1_500_001))
        sending = child.source().send_in_background(stream)
        until(lambda: inboxes[0].size > 500_000, "the load to begin")
        child.signal(number)
        _expect_same_prefix(inboxes, stream)
        assert child.status() == 0
        sending.join(5)
        assert sending.dead
        assert inboxes[0].size < len(stream)
        assert [line["reason"] for line in child.logged("session_closed")] == ["finished"] * 8


def test_signal_with_a_slow_client_ends_with_the_same_event_for_all() -> None:
    arguments = ["--log-level", "debug", "--client-buffer", "64KiB", "--reorder-limit", "2000"]
    with Child(*arguments).ready() as child:
        (fast,), slow = child.clients([1]), child.client(2, small_buffers=True)
        child.await_logged("session_opened", 2)
        inbox = fast.read_in_background()
        stream = joined(broadcasts(1, 2_500_001))
        child.source().send_in_background(stream)
        until(lambda: inbox.size > 1_000_000, "the load to begin")
        child.signal(signal.SIGTERM)
        child.await_logged("draining")
        _expect_same_prefix([inbox, slow.read_in_background()], stream)
        assert child.status() == 0


@pytest.mark.parametrize("number", STOPPING)
def test_signal_while_idle_ends_at_once(number: signal.Signals) -> None:
    with Child("--log-level", "debug").ready() as child:
        clients = child.clients([1, 2])
        stranger, source = child.client(3), child.source()
        child.await_logged("source_connected")
        child.signal(number)
        assert child.status() == 0
        for peer in (*clients, stranger, source):
            peer.expect_closed()


def test_signal_before_any_peer_has_connected() -> None:
    with Child().ready() as child:
        child.await_logged("ready")
        child.signal(signal.SIGTERM)
        assert child.status() == 0


@pytest.mark.parametrize("number", STOPPING)
def test_second_signal_ends_at_once_even_if_a_client_does_not_read(
    number: signal.Signals,
) -> None:
    kernel = int(Path("/proc/sys/net/ipv4/tcp_wmem").read_text().split()[2])
    enough = 2 * kernel  # bytes for a client that reads nothing: more than the kernel buffers
    arguments = ["--log-level", "debug", "--drain-timeout", "1h", "--stall-timeout", "1h"]
    with Child(*arguments, "--client-buffer", "64MiB").ready() as child:
        (reading,) = child.clients([1])
        child.client(2, small_buffers=True)
        child.await_logged("session_opened", 2)
        inbox = reading.read_in_background()
        child.source().send_in_background(
            joined(b"%018d|B\n" % sequence for sequence in range(1, enough // 21 + 2))
        )
        until(lambda: inbox.size >= enough, "more bytes to be routed than the kernel buffers")
        child.signal(number)
        child.await_logged("draining")
        assert child.process.poll() is None
        child.signal(number)
        assert child.status() == 128 + number
