"""More connections and data than the limits allow: the excess is refused, memory stays bounded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from end_to_end.peers import Client, Peer, joined, until
from end_to_end.running import Child

Serve = Callable[..., Child]

MIB = 1 << 20


def _status(child: Child, name: str) -> int:
    """Return a memory size in bytes from ``/proc/PID/status``."""
    status = Path(f"/proc/{child.process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def _resident_bytes(child: Child) -> int:
    return _status(child, "VmRSS")


def _peak_bytes(child: Child) -> int:
    return _status(child, "VmHWM")


def _descriptors(child: Child) -> int:
    return len(list(Path(f"/proc/{child.process.pid}/fd").iterdir()))


def _play(child: Child, blocks: Iterable[bytes]) -> dict[str, int]:
    """Send a stream; return the log line that the server writes once it is routed."""
    source = child.source()
    for block in blocks:
        source.send(block)
    source.half_close()
    child.await_logged("source_disconnected")
    source.close()
    (line,) = child.logged("source_disconnected")
    return line


def test_300_half_open_handshakes_of_which_100_may_wait(serve: Serve) -> None:
    child = serve("--max-handshakes", "100", "--handshake-timeout", "1h")
    clients = child.clients(range(20))
    waiting = [Client(child.client_address) for _ in range(300)]
    try:
        for client in waiting[100:]:
            client.expect_closed()
        child.source().send(b"1|B\n")
        for client in clients:
            client.expect(b"1|B\n")
        assert {line["reason"] for line in child.logged("client_refused")} == {"max_handshakes"}
        waiting[0].send(b"7\n")
        child.await_logged("session_opened", 21)
        child.clients([8])
    finally:
        for client in waiting:
            client.close()


def test_2000_clients_too_many_are_closed_at_once_in_the_middle_of_a_stream(serve: Serve) -> None:
    child = serve("--max-clients", "50")
    inboxes = [client.read_in_background() for client in child.clients(range(50))]
    lines = joined(b"%d|B\n" % number for number in range(1, 100_001))
    before = _descriptors(child)
    begin = time.monotonic()
    sending = child.source().send_in_background(lines)
    for _ in range(40):
        surplus = [Peer(child.client_address) for _ in range(50)]
        for peer in surplus:
            peer.expect_closed()
            peer.close()
    assert _descriptors(child) <= before + 1, "more descriptors than the source's"
    sending.join()
    for inbox in inboxes:
        until(lambda inbox=inbox: inbox.size >= len(lines), "everything to arrive")  # type: ignore[misc]
        assert inbox.so_far() == lines
    refused = child.logged("client_refused")
    assert len(refused) <= 1 + time.monotonic() - begin, "more than one line a second"
    assert {line["reason"] for line in refused} == {"max_clients"}


def _follows(count: int) -> Iterator[bytes]:
    """Yield ``count`` different follows, each by another user."""
    block = 20_000
    for first in range(1, count + 1, block):
        numbers = range(first, min(first + block, count + 1))
        yield joined(b"%d|F|%d|%d\n" % (number, number + 10, number % 7) for number in numbers)


def test_million_follows_too_many_take_no_memory_and_are_notified(serve: Serve) -> None:
    child = serve("--max-users", "1000", "--max-follows", "2000")
    (client,) = child.clients([3])
    inbox = client.read_in_background()
    before = _resident_bytes(child)
    begin = time.monotonic()
    count = 1_000_000
    line = _play(child, _follows(count))
    assert line["graph_full"] == count - 1_000
    assert _peak_bytes(child) - before < 40 * MIB
    expected = joined(b"%d|F|%d|3\n" % (n, n + 10) for n in range(3, count + 1, 7))
    until(lambda: inbox.size == len(expected), "every follow to be notified")
    assert inbox.so_far() == expected
    lines = len(child.logged("follow_not_kept"))
    assert lines <= 1 + time.monotonic() - begin, "more than one line a second"


def test_100_megabytes_behind_a_gap_take_4(serve: Serve) -> None:
    child = serve("--reorder-bytes", "4MiB")
    (client,) = child.clients([1])
    inbox = client.read_in_background()
    before = _resident_bytes(child)
    count, width = 25_000, 4_000

    def blocks() -> Iterator[bytes]:
        """Yield a stream without odd numbers, so that each event waits behind a gap."""
        for first in range(2, count, 100):
            numbers = range(first, first + 100)
            yield joined(b"%0*d|B\n" % (width - 3, 2 * number) for number in numbers)

    line = _play(child, blocks())
    assert line["skipped"] > count // 2
    assert _peak_bytes(child) - before < 40 * MIB
    until(lambda: inbox.size == joined_size(blocks()), "everything to be delivered")


def joined_size(blocks: Iterable[bytes]) -> int:
    return sum(map(len, blocks))
