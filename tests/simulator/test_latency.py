"""Latency from timestamps that are made up, against the definition in the plainest words."""

import re
from bisect import bisect_left

import pytest
from brute_force import streams
from running import judged, parameters
from servers import Server

from simulator.errors import ParameterError
from simulator.play.timestamps import Timestamps
from simulator.run import sample
from simulator.stream.oracle import prepare
from simulator.stream.workload import Chunk, Workload
from simulator.verdict.latency import measure

WORKLOAD = Workload(events=400, clients=4, users=8, batch=9)
STRIDE = 50
"""bytes in each call of the source and the clients"""


def marked(size: int, began: float, step: float) -> tuple[Timestamps, list[tuple[int, float]]]:
    """Calls of STRIDE bytes each, `step` seconds apart."""
    timestamps, calls = Timestamps(), []
    for number, offset in enumerate([*range(STRIDE, size, STRIDE), size]):
        timestamps.add(began + number * step, offset)
        calls.append((offset, began + number * step))
    return timestamps, calls


def time_of(calls: list[tuple[int, float]], end: int) -> float:
    return calls[bisect_left(calls, (end, 0.0))][1]


def ready_times(chunks: list[Chunk], calls: list[tuple[int, float]]) -> dict[int, float]:
    """When each number and all lower ones had been handed over, one by one."""
    sent: dict[int, float] = {}
    offset = 0
    for line in b"".join(chunk.data for chunk in chunks).splitlines(keepends=True):
        offset += len(line)
        sent[int(line.partition(b"|")[0])] = time_of(calls, offset)
    return {number: max(sent[lower] for lower in range(1, number + 1)) for number in sent}


def test_it_is_what_the_definition_says() -> None:
    (chunks,), expectations = prepare(WORKLOAD, 4096, lambda _done: None)
    source, source_calls = marked(sum(len(chunk.data) for chunk in chunks), 5.0, 0.25)
    ready = ready_times(chunks, source_calls)
    clients, wanted = [], []
    expected = zip(expectations, streams(WORKLOAD).items(), strict=True)
    for place, (expectation, (user, lines)) in enumerate(expected):
        timestamps, calls = marked(expectation.bytes, 100.0 + place, 0.125)
        clients.append((user, timestamps))
        offset = 0
        for line in lines:
            offset += len(line)
            wanted.append(time_of(calls, offset) - ready[int(line.partition(b"|")[0])])
    measured = measure(WORKLOAD, chunks, source, clients, behind=0.5)
    assert measured is not None
    assert (measured.deliveries, measured.clients, measured.behind) == (len(wanted), 4, 0.5)
    assert measured.largest == max(wanted)
    wanted.sort()
    for rank, seconds in measured.percentiles.items():
        below = sum(value <= seconds for value in wanted) / len(wanted)
        assert seconds in wanted
        assert below >= rank / 100
        assert below - rank / 100 < 20 / len(wanted)
    assert sum(count for _, _, count in measured.buckets) == len(wanted)
    for low, high, count in measured.buckets:
        assert sum(low <= value < high for value in wanted) == count


def test_nobody_and_nothing_is_no_latency() -> None:
    silent = Workload(events=20, clients=2, users=4, mix=(0, 1, 0, 0, 0))
    (chunks,), _ = prepare(silent, 4096, lambda _done: None)
    source, _ = marked(1000, 0.0, 1.0)
    assert measure(silent, chunks, source, [], 0.0) is None
    timestamps = [(user, Timestamps()) for user in silent.connected]
    assert measure(silent, chunks, source, timestamps, 0.0) is None


@pytest.mark.parametrize(("size", "picked"), [(1, [0]), (3, [0, 3, 6]), (10, range(10))])
def test_the_sample_is_spread_over_the_clients(size: int, picked: list[int]) -> None:
    workload = Workload(events=1, clients=10, users=20)
    users = workload.connected
    assert sample(users, size) == {users[place] for place in picked}
    assert sample(users, 50) == set(users)


RUN = ("--total-events", 400, "--concurrency-level", 5, "--number-of-users", 8, "--rate", 4000)


def test_the_table_shows_it() -> None:
    verdict, output = judged(Server(5), (*RUN, "--latency", "--latency-clients", 2))
    assert verdict.status == 0
    cells = (re.split(r" {2,}", line.strip()) for line in output.splitlines())
    rows = {name: value[0].split() for name, *value in cells if value}
    shown = [float(rows[f"latency {name}"][0]) for name in ("p50", "p90", "p99", "p99.9", "max")]
    assert shown == sorted(shown)
    assert shown[0] > 0
    assert shown[-1] < 5000
    assert rows["clients sampled"] == ["2"]


def test_who_did_not_receive_all_is_not_measured() -> None:
    server = Server(5, lambda *_: b"", last=400)
    verdict, output = judged(server, (*RUN, "--latency"))
    assert verdict.status == 1
    assert "no deliveries" in output


def test_without_a_rate_it_is_refused() -> None:
    with pytest.raises(ParameterError, match="--latency needs --rate"):
        parameters("--latency")
