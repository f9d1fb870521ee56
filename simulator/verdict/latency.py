"""Compute delivery latency: the time from when an event can be delivered until it arrives.

An event can be delivered when the source has written it and every event with a lower number to its
socket. During the play, only a time and an offset are recorded for each call. The latency of each
event is computed afterwards, so that measuring costs nothing per delivery. Times are taken before a
source writes and after a client reads, so that errors make latency look worse, never better.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from simulator.play.timestamps import Timestamps
from simulator.stream.oracle import Oracle
from simulator.stream.workload import Chunk, Workload
from simulator.verdict.results import Latency

PERCENTILES = (50.0, 90.0, 99.0, 99.9)
_BUCKETS_PER_DECADE = 20
"""Buckets of the histogram per factor of ten."""

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]


def measure(
    workload: Workload,
    chunks: Sequence[Chunk],
    source: Timestamps,
    clients: Sequence[tuple[int, Timestamps]],
    behind: float,
) -> Latency | None:
    """Return the latency of all deliveries to these users; None without deliveries.

    The users must have received everything.
    """
    ready = _ready_offsets(workload.events, chunks)
    parts = []
    for timestamps, (sequences, ends) in zip(
        [timestamps for _, timestamps in clients],
        _own_events(workload, [user for user, _ in clients]),
        strict=True,
    ):
        parts.append(_times_of(ends, timestamps) - _times_of(ready[sequences], source))
    latencies = np.concatenate(parts) if parts else np.empty(0)
    if not latencies.size:
        return None
    # The logarithmic buckets need values above 0.
    latencies = np.maximum(latencies, 1e-9)
    return Latency(
        deliveries=latencies.size,
        clients=len(clients),
        percentiles={
            rank: float(np.percentile(latencies, rank, method="higher")) for rank in PERCENTILES
        },
        largest=float(latencies.max()),
        buckets=_buckets(latencies),
        behind=behind,
    )


def _times_of(ends: Whole, timestamps: Timestamps) -> Floats:
    """Return the time at which each offset was reached. None exceeds the last recorded offset."""
    places = np.searchsorted(np.frombuffer(timestamps.offsets, np.int64), ends)
    times: Floats = np.frombuffer(timestamps.times, np.float64)[places]
    return times


def _ready_offsets(events: int, chunks: Sequence[Chunk]) -> Whole:
    """Return for each sequence number the source's offset after it and all lower ones."""
    ends = np.zeros(events + 1, np.int64)
    offset = 0
    for chunk in chunks:
        lines = chunk.data.splitlines(keepends=True)
        sequences = np.fromiter((_sequence(line, events) for line in lines), np.int64, len(lines))
        reached = offset + np.cumsum(np.fromiter(map(len, lines), np.int64, len(lines)))
        # The first of several lines with one number counts, so it is assigned last.
        ends[sequences[::-1]] = np.where(ends[sequences] == 0, reached, ends[sequences])[::-1]
        offset += len(chunk.data)
    ends[0] = 0
    ready: Whole = np.maximum.accumulate(ends)
    return ready


def _sequence(line: bytes, events: int) -> int:
    digits = line.partition(b"|")[0]
    number = int(digits) if digits.isdigit() else 0
    return number if number <= events else 0


def _own_events(workload: Workload, users: Sequence[int]) -> Iterator[tuple[Whole, Whole]]:
    """Yield for each user the numbers of its events, and their end offsets in its stream."""
    oracle = Oracle(users)
    sequences: list[list[Whole]] = [[] for _ in users]
    lengths: list[list[Whole]] = [[] for _ in users]
    for step in workload.steps():
        length = np.fromiter(map(len, step.lines), np.int64, len(step.lines))
        for client, indices in enumerate(oracle.route(step)):
            own = np.array(indices, np.int64)
            sequences[client].append(own + step.first)
            lengths[client].append(length[own])
    for own_sequences, own_lengths in zip(sequences, lengths, strict=True):
        yield np.concatenate(own_sequences), np.cumsum(np.concatenate(own_lengths))


def _buckets(latencies: Floats) -> list[tuple[float, float, int]]:
    places = np.floor(np.log10(latencies) * _BUCKETS_PER_DECADE).astype(np.int64)
    first = int(places.min())
    counts = np.bincount(places - first)
    edges = 10.0 ** (np.arange(first, first + counts.size + 1) / _BUCKETS_PER_DECADE)
    return [
        (float(low), float(high), int(count))
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
