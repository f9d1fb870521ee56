"""The oracle against the brute-force model, and the digests against its bytes."""

import pytest
from brute_force import streams
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.stream.oracle import (
    MAX_BLOCK,
    MIN_BLOCK,
    Expectation,
    Oracle,
    block_size,
    digest,
    prepare,
)
from simulator.stream.workload import Workload

weight = st.integers(0, 5)
workloads = st.builds(
    lambda clients, strangers, **rest: Workload(clients=clients, users=clients + strangers, **rest),
    clients=st.integers(1, 8),
    strangers=st.integers(0, 6),
    events=st.integers(1, 400),
    batch=st.integers(1, 50),
    seed=st.integers(0, 2**64),
    mix=st.tuples(weight, weight, weight, weight, weight).filter(any),
    crlf=st.booleans(),
)


def digests(stream: bytes, block: int) -> list[bytes]:
    return [
        digest(stream[start : start + block]).digest() for start in range(0, len(stream), block)
    ]


@settings(deadline=None, max_examples=80)
@given(workload=workloads, block=st.integers(1, 300))
def test_the_oracle_agrees_with_the_model(workload: Workload, block: int) -> None:
    _, expectations = prepare(workload, block, lambda _done: None)
    for lines, expected in zip(streams(workload).values(), expectations, strict=True):
        stream = b"".join(lines)
        assert expected.digests == digests(stream, block)
        assert (expected.bytes, expected.events) == (len(stream), len(lines))


def test_it_agrees_over_several_steps() -> None:
    workload = Workload(events=45_000, clients=4, users=9)
    told: list[int] = []
    _, expectations = prepare(workload, MAX_BLOCK, told.append)
    for lines, expected in zip(streams(workload).values(), expectations, strict=True):
        assert expected.digests == digests(b"".join(lines), MAX_BLOCK)
    assert told == [20_000, 40_000, 45_000]


def test_a_part_of_the_users_can_be_routed_alone() -> None:
    workload = Workload(events=2_000, clients=6, users=12)
    some = workload.connected[2:4]
    oracle = Oracle(some)
    for step in workload.steps():
        for user, indices in zip(some, oracle.route(step), strict=True):
            assert [step.lines[index] for index in indices] == streams(workload)[user]


def test_blocks_have_the_size_that_they_have() -> None:
    expected = Expectation(10)
    expected.add(b"x" * 25, 3)
    expected.finish()
    assert [expected.size_of(number) for number in range(4)] == [10, 10, 5, 0]
    assert len(expected.digests) == 3


@pytest.mark.parametrize("size", [0, 10, 20])
def test_no_digest_for_an_empty_last_block(size: int) -> None:
    expected = Expectation(10)
    expected.add(b"x" * size, 1)
    expected.finish()
    assert len(expected.digests) == size // 10


@pytest.mark.parametrize(
    ("clients", "size"),
    [(1, MAX_BLOCK), (1_000, MAX_BLOCK), (2_000, 32_768), (10_000, 4_096), (10**6, MIN_BLOCK)],
)
def test_all_buffers_together_stay_small(clients: int, size: int) -> None:
    assert block_size(clients) == size
