"""Clients that reset, send no id or an invalid one, or never stop sending."""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Callable

import gevent
import pytest
from end_to_end.peers import Client, broadcasts, joined, until
from end_to_end.running import Child

from .peers import Flood, NarrowClient, together
from .process import MB, Process

Serve = Callable[..., Child]


def test_resets_during_fan_out(serve: Serve) -> None:
    """A reset is one line at debug. The queue and descriptor are freed; other peers are served."""
    child = serve()
    process = Process(child.process.pid)
    readers = child.clients([1, 2, 3])
    source = child.source()
    child.await_logged("source_connected")
    descriptors = process.descriptors()
    floods = [Flood(width=100, total_bytes=20 * MB) for _ in readers]
    tasks: list[gevent.Greenlet[..., None]] = [gevent.spawn(floods[0].send, source, MB)]
    tasks += [
        gevent.spawn(flood.receive, reader) for flood, reader in zip(floods, readers, strict=True)
    ]
    pick = random.Random(1)
    resets = 0
    while not all(task.dead for task in tasks):
        crowd = [_client_that_resets(child, pick.randrange(1_000, 2_000)) for _ in range(20)]
        before = floods[0].received_bytes
        until(lambda b=before: floods[0].received_bytes > b or tasks[0].dead, "the stream to go on")  # type: ignore[misc]
        for client in crowd:
            client.reset()
        resets += len(crowd)
    together(*tasks)
    until(lambda: process.descriptors() == descriptors, "every descriptor to be freed")
    ended = child.logged("session_closed") + child.logged("handshake_rejected")
    assert 100 <= len(ended) <= resets
    assert {line["level"] for line in child.logged("session_closed")} == {"debug"}
    assert {line["reason"] for line in child.logged("session_closed")} <= {"reset", "left"}


def _client_that_resets(child: Child, user: int) -> Client:
    client = Client(child.client_address, small_buffers=True)
    client.send(b"%d\n" % user)
    return client


HALF_HANDSHAKES = [b"", b"1", b"12345678901234567", b"\r"]


def test_300_half_open_handshakes(serve: Serve) -> None:
    """Pending handshakes keep no other client out, and are closed after the timeout."""
    child = serve("--handshake-timeout", "2s")
    process = Process(child.process.pid)
    source = child.source()
    child.await_logged("source_connected")
    descriptors = process.descriptors()
    pending = [Client(child.client_address) for _ in range(300)]
    for index, peer in enumerate(pending):
        peer.send(HALF_HANDSHAKES[index % len(HALF_HANDSHAKES)])
    (client,) = child.clients([1])
    source.send(b"1|B\n")
    client.expect(b"1|B\n")
    for peer in pending:
        peer.expect_closed()
    until(lambda: process.descriptors() == descriptors + 1, "every descriptor to be freed")
    child.await_logged("handshake_rejected")
    rejected = child.logged("handshake_rejected")
    assert {line["reason"] for line in rejected} == {"timeout"}
    assert 1 <= len(rejected) <= 10, "more than one line a second"
    source.send(b"2|B\n")
    client.expect(b"2|B\n")


NO_IDS = [
    b"\n",
    b"\r\n",
    b"-1\n",
    b" 1\n",
    b"1 \n",
    b"user\n",
    b"9223372036854775808\n",
    b"1\x00\n",
    b"\xd9\xa1\n",
    b"0" * 65 + b"\n",
    b"0" * 100_000,
    bytes(range(256)) * 100,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(100)) + b"\n",
    b"GET / HTTP/1.1\r\nHost: maze\r\n\r\n",
]
"""Invalid ids: too long, of another protocol, or not quite a number."""


@pytest.mark.parametrize("said", NO_IDS, ids=range(len(NO_IDS)))
def test_client_that_says_no_id_is_closed(serve: Serve, said: bytes) -> None:
    child = serve()
    (client,) = child.clients([1])
    for _ in range(20):
        peer = Client(child.client_address)
        peer.send_in_background(said)
        peer.expect_closed()
    child.source().send(b"1|B\n")
    client.expect(b"1|B\n")
    assert {line["reason"] for line in child.logged("handshake_rejected")} <= {
        "bad_user",
        "too_long",
        "http",
    }
    assert child.logged("session_closed") == []


def test_client_that_never_stops_talking(serve: Serve) -> None:
    """Its bytes are discarded: they take no memory, and no processor time once it is silent."""
    child = serve()
    process = Process(child.process.pid)
    talking, other = child.clients([1, 2])
    before = process.resident_bytes()
    chunk = random.Random(2).randbytes(MB)
    for _ in range(100):
        talking.send(chunk)
    stream = joined(broadcasts(1, 1_001))
    child.source().send(stream)
    talking.expect(stream)
    other.expect(stream)
    assert process.peak_resident_bytes() < before + 10 * MB
    spent = process.processor_seconds()
    gevent.sleep(0.5)  # the time in which the server must be idle
    assert process.processor_seconds() - spent < 0.25
    assert child.logged("session_closed") == []


def test_client_that_closes_its_side_has_left(serve: Serve) -> None:
    child = serve()
    leaving, other = child.clients([1, 2])
    leaving.half_close()
    leaving.expect_closed()
    child.source().send(b"1|B\n")
    other.expect(b"1|B\n")
    child.await_logged("session_closed")
    (line,) = child.logged("session_closed")
    assert (line["user"], line["reason"], line["level"]) == (1, "left", "debug")


def test_thousand_sessions_of_one_user_come_and_go(serve: Serve) -> None:
    child = serve()
    process = Process(child.process.pid)
    (staying,) = child.clients([7])
    source = child.source()
    child.await_logged("source_connected")
    descriptors = process.descriptors()
    for wave in range(10):
        devices = child.clients([7] * 100)
        line = b"%d|P|1|7\n" % (wave + 1)
        source.send(line)
        for device in (staying, *devices):
            device.expect(line)
        for device in devices[::2]:
            device.close()
        for device in devices[1::2]:
            device.reset()
    until(lambda: process.descriptors() == descriptors, "every descriptor to be freed")


def test_stop_amid_clients_that_do_not_read_and_pending_handshakes() -> None:
    """All readers get the stream up to the same event; the others end with the drain timeout."""
    arguments = ["--log-level", "debug", "--drain-timeout", "1s", "--client-buffer", "64KiB"]
    with Child(*arguments).ready() as child:
        inboxes = [client.read_in_background() for client in child.clients(range(5))]
        stopped = [NarrowClient(child.client_address, 100 + index) for index in range(5)]
        pending = [Client(child.client_address) for _ in range(50)]
        child.await_logged("session_opened", 10)
        source = child.source()
        stream = joined(broadcasts(1, 300_001))
        source.send_in_background(stream)
        until(lambda: inboxes[0].size > 50_000, "the load to begin")
        child.signal(signal.SIGTERM)
        received = {inbox.all() for inbox in inboxes}
        assert len(received) == 1
        (data,) = received
        assert stream.startswith(data)
        assert data.endswith(b"\n")
        assert child.status() == 0
        reasons = Counter(line["reason"] for line in child.logged("session_closed"))
        assert reasons == {"finished": len(inboxes), "stopped": len(stopped)}
        for peer in pending:
            peer.expect_closed()
        assert "Traceback" not in child.stderr()
