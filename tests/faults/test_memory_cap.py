"""A server whose address space is capped, under several kinds of load at once."""

from __future__ import annotations

import random
import resource
from collections.abc import Callable

import gevent
from end_to_end.peers import Client
from end_to_end.running import Child

from .peers import Flood, NarrowClient, together
from .process import MB, Process

Serve = Callable[..., Child]

ALLOWANCE = 192 * MB
"""Address space allowed for batches, queues and the reorder buffer, beyond that of a ready server.
"""


def test_capped_memory_suffices_under_all_loads_at_once(serve: Serve) -> None:
    """With RLIMIT_AS, an allocation over the cap would fail and end the server."""
    child = serve(
        *("--total-buffer", "32MiB", "--reorder-limit", "50000", "--stall-timeout", "1s"),
        *("--max-sources", "2"),
    )
    process = Process(child.process.pid)
    cap = process.mapped_bytes() + ALLOWANCE
    resource.prlimit(child.process.pid, resource.RLIMIT_AS, (cap, cap))
    (reader,) = child.clients([1])
    stopped = [NarrowClient(child.client_address, user) for user in range(2, 12)]
    child.await_logged("session_opened", 11)
    flood = Flood(width=250, total_bytes=200 * MB)
    source, noisy = child.source(), child.source()
    child.await_logged("source_connected", 2)
    noise = random.Random(4).randbytes(5 * MB).replace(b"\n\n", b"\n")
    junk = b"\n".join(b"x" + line[:200] for line in noise.split(b"\n")) + b"\n"
    noisy.send_in_background(junk)
    pending = [Client(child.client_address) for _ in range(200)]
    for peer in pending:
        peer.send(b"1")
    together(gevent.spawn(flood.send, source), gevent.spawn(flood.receive, reader))
    assert child.process.poll() is None
    child.await_logged("session_closed", len(stopped))
    assert {line["reason"] for line in child.logged("session_closed")} == {"stalled"}
