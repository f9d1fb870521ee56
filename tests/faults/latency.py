"""Latency of events from the source to each client, while other clients misbehave."""

from __future__ import annotations

import time
from statistics import quantiles

import gevent
from end_to_end.peers import Client, Source, until

WIDTH = 1_000
BURST = 20
PERIOD = 0.01


class Pulse:
    """A steady stream of broadcasts, 2 MB a second, and its latency at each client."""

    def __init__(self, source: Source, clients: list[Client]) -> None:
        self.sent_at: list[float] = []
        self.latencies: list[float] = []
        self.received = [0 for _ in clients]
        self._source = source
        self._readers = [
            gevent.spawn(self._read, index, client) for index, client in enumerate(clients)
        ]

    def stop(self, count: int) -> None:
        """Stop reading at the last ``count`` clients."""
        for reader in self._readers[-count:]:
            reader.kill()
        del self._readers[-count:], self.received[-count:]

    def run(self, seconds: float) -> list[float]:
        """Send for ``seconds`` and wait until all events have arrived; return the latencies."""
        latencies = list[float]()
        self.latencies = latencies
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            first = len(self.sent_at) + 1
            lines = [b"%0*d|B\n" % (WIDTH - 3, first + index) for index in range(BURST)]
            self.sent_at += [time.monotonic()] * BURST
            self._source.sock.sendall(b"".join(lines))
            gevent.sleep(PERIOD)
        until(self._all_arrived, "every event to arrive at every reader", seconds=60.0)
        return latencies

    def _all_arrived(self) -> bool:
        assert not any(reader.ready() for reader in self._readers), "a reader was disconnected"
        return min(self.received) == len(self.sent_at)

    def _read(self, index: int, client: Client) -> None:
        half = b""
        while data := client._receive(1 << 18):
            now = time.monotonic()
            half += data
            whole = len(half) // WIDTH
            for offset in range(whole):
                number = self.received[index] + 1 + offset
                line = half[offset * WIDTH : (offset + 1) * WIDTH]
                assert line == b"%0*d|B\n" % (WIDTH - 3, number), f"{line!r} is not {number}"
                self.latencies.append(now - self.sent_at[number - 1])
            half = half[whole * WIDTH :]
            self.received[index] += whole


def p99(latencies: list[float]) -> float:
    return quantiles(latencies, n=100)[-1]
