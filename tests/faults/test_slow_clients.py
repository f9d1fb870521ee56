"""Clients that do not read, read very slowly, or all stop reading at once."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import gevent
import pytest
from end_to_end.peers import Client
from end_to_end.running import Child

from .latency import Pulse, p99
from .peers import Flood, NarrowClient, together
from .process import MB, Process
from .proxy import Proxy

Serve = Callable[..., Child]
REASONS = {"wait": "stalled", "disconnect": "slow"}

AHEAD = {"wait": sys.maxsize, "disconnect": 2 * MB}
"""Maximum bytes that the source is ahead of the reader. Under ``disconnect`` a reader that falls
too far behind would be disconnected."""

RESIDENT_LIMIT = 160 * MB
"""Limit on resident memory. The server and its batches take about 60 MB; an unbounded queue would
add 200 MB."""


def reasons(child: Child, user: int) -> list[str]:
    """Return why the user's sessions have ended."""
    return [line["reason"] for line in child.logged("session_closed") if line["user"] == user]


@pytest.mark.parametrize("policy", REASONS)
def test_client_that_never_reads_under_200_megabytes(serve: Serve, policy: str) -> None:
    child = serve("--slow-client", policy, "--stall-timeout", "1s")
    reader, _never = child.clients([1, 2])
    flood = Flood(width=250, total_bytes=200 * MB)
    source = child.source()
    together(gevent.spawn(flood.send, source, AHEAD[policy]), gevent.spawn(flood.receive, reader))
    assert Process(child.process.pid).peak_resident_bytes() < RESIDENT_LIMIT
    child.await_logged("session_closed")
    assert reasons(child, 2) == [REASONS[policy]]
    assert reasons(child, 1) == []


@pytest.mark.parametrize("policy", REASONS)
def test_client_that_reads_a_byte_a_second(serve: Serve, policy: str) -> None:
    """Its system acknowledges only whole segments, so the client looks as if it did not read."""
    child = serve("--slow-client", policy, "--stall-timeout", "2s")
    (reader,) = child.clients([1])
    flood = Flood(width=250, total_bytes=20 * MB)
    with Proxy(child.client_address, narrow=True) as network:
        slow = Client(network.address)
        slow.send(b"2\n")
        child.await_logged("session_opened", 2)
        network.piece, network.pause = 1, 1.0
        source = child.source()
        together(
            gevent.spawn(flood.send, source, AHEAD[policy]), gevent.spawn(flood.receive, reader)
        )
        child.await_logged("session_closed")
        assert reasons(child, 2) == [REASONS[policy]]
        assert reasons(child, 1) == []
        slow.close()
    assert Process(child.process.pid).peak_resident_bytes() < RESIDENT_LIMIT


def test_client_that_reads_byte_by_byte_is_never_stalled(serve: Serve) -> None:
    """The stall timeout begins again with every byte acknowledged, not with every send."""
    child = serve(
        *("--stall-timeout", "2s", "--hold-timeout", "1m"),
        *("--client-buffer", "64KiB", "--reorder-limit", "1000"),
    )
    (reader,) = child.clients([1])
    slow = NarrowClient(child.client_address, 2)
    child.await_logged("session_opened", 2)
    flood = Flood(width=250, total_bytes=2 * MB)
    source = child.source()
    sending = gevent.spawn(flood.send, source)
    reading = gevent.spawn(flood.receive, reader)
    received = bytearray()
    # For three stall timeouts the client's system acknowledges three segments a second. On a busy
    # machine the client catches up with what it should have read.
    begin = time.monotonic()
    while (passed := time.monotonic() - begin) < 3 * 2.0:
        received += slow.read(int(passed * 4_000) - len(received))
        gevent.sleep(0.01)
    assert reasons(child, 2) == []
    assert not reading.dead, "the reader did not have to wait for the slow client"
    blocks = iter(flood.blocks())
    first = next(blocks)
    assert received == first[: len(received)]
    slow.expect(first[len(received) :])
    for block in blocks:
        slow.expect(block)
    together(sending, reading)
    assert child.logged("session_closed") == []


@pytest.mark.parametrize("policy", REASONS)
def test_third_of_all_clients_stops_at_once(
    serve: Serve, policy: str, record_property: Callable[[str, object], None]
) -> None:
    """The limits on latency allow for a busy machine, but not for one wait per stopped client."""
    stall_timeout = {"wait": 1.0, "disconnect": 3600.0}[policy]
    child = serve(
        *("--slow-client", policy, "--stall-timeout", f"{stall_timeout}s"),
        *("--client-buffer", "256KiB"),
    )
    readers = child.clients(range(20))
    stopping = [NarrowClient(child.client_address, 100, window=1 << 16) for _ in range(10)]
    child.await_logged("session_opened", 30)
    pulse = Pulse(child.source(), [*readers, *stopping])
    pulse.run(0.5)  # warm-up
    normal = pulse.run(1.5)
    pulse.stop(len(stopping))
    troubled = pulse.run(2.0)
    child.await_logged("session_closed", len(stopping))
    assert reasons(child, 100) == [REASONS[policy]] * 10
    assert len(child.logged("session_closed")) == 10
    for name, latencies in (("normal", normal), ("troubled", troubled)):
        record_property(f"{name}_p99_ms", round(1_000 * p99(latencies), 2))
    if policy == "disconnect":
        assert p99(troubled) < 2 * p99(normal) + 0.25
    else:
        assert max(troubled) < 2 * stall_timeout + 10 * p99(normal)
    assert Process(child.process.pid).peak_resident_bytes() < RESIDENT_LIMIT
