"""The stream: deterministic, well-formed, shuffled within batches only, of the mix asked for."""

import hashlib
import re
from collections import Counter
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.stream.oracle import prepare
from simulator.stream.workload import (
    EVEN_MIX,
    LETTERS,
    ORIGINAL_MIX,
    STEP_EVENTS,
    Mix,
    Shuffler,
    Workload,
)

GRAMMAR = re.compile(rb"(\d+)\|(?:[FUP]\|(\d+)\|(\d+)|B|S\|(\d+))\n")


def ordered(workload: Workload) -> list[bytes]:
    return [line for step in workload.steps() for line in step.lines]


def wire(workload: Workload) -> list[bytes]:
    (chunks,), _ = prepare(workload, 65536, lambda _done: None)
    lines = [chunk.data.splitlines(keepends=True) for chunk in chunks]
    assert [len(part) for part in lines] == [chunk.events for chunk in chunks]
    return [line for part in lines for line in part]


def sequences(lines: list[bytes]) -> list[int]:
    return [int(line.partition(b"|")[0]) for line in lines]


def segments(order: list[int]) -> list[int]:
    """The sizes of the shortest runs that are permutations of their own places."""
    highest = accumulate(order, max)
    ends = [place for place, most in enumerate(highest, 1) if place == most]
    return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]


@pytest.mark.parametrize(
    ("mix", "digest"),
    [
        (ORIGINAL_MIX, "79409b552a59f668307a0ad17f7bb1c5181adff1a496c107b3959c277ae033c7"),
        (EVEN_MIX, "2e7d1ada20497aa8c267d8cf77eeffc6cc3b8fb40179d807d595dc4229d1de41"),
    ],
)
def test_the_bytes_are_the_same_everywhere(mix: Mix, digest: str) -> None:
    workload = Workload(events=30_000, clients=10, users=100, batch=70, seed=42, mix=mix)
    assert hashlib.sha256(b"".join(wire(workload))).hexdigest() == digest
    assert workload.connected == (37, 26, 31, 54, 61, 44, 47, 49, 12, 67)


def test_the_seed_matters() -> None:
    streams = {b"".join(ordered(Workload(100, 1, 10, seed=seed))) for seed in range(5)}
    assert len(streams) == 5


def test_every_line_is_well_formed_and_every_sequence_number_there_once() -> None:
    lines = wire(Workload(events=25_000, clients=3, users=7))
    users: set[int] = set()
    for line in lines:
        match = GRAMMAR.fullmatch(line)
        assert match
        users.update(int(field) for field in match.groups()[1:] if field)
    assert users == set(range(1, 8))
    assert sorted(sequences(lines)) == list(range(1, 25_001))


@pytest.mark.parametrize("batch", [1, 2, 100, 30_000])
def test_the_order_is_shuffled_within_batches_only(batch: int) -> None:
    order = sequences(wire(Workload(events=45_000, clients=1, users=10, batch=batch)))
    assert sorted(order) == list(range(1, 45_001))
    assert max(segments(order)) <= batch
    assert (order == sorted(order)) == (batch == 1)


def test_batches_have_random_sizes_up_to_the_largest() -> None:
    sizes = Counter(segments(sequences(wire(Workload(40_000, 1, 10, batch=8)))))
    assert set(sizes) == set(range(1, 9))


def test_the_shuffler_keeps_nothing_back() -> None:
    shuffler = Shuffler(Workload(events=13, clients=1, users=1, batch=5, seed=1))
    lines = [b"%d|B\n" % number for number in range(1, 14)]
    parts = [shuffler.add(lines[:6]), shuffler.add(lines[6:]), shuffler.rest()]
    assert sorted(b"".join(part.data for part in parts).split()) == sorted(
        line.strip() for line in lines
    )
    assert shuffler.rest().events == 0


def test_the_rarest_kind_of_the_original_mix_has_its_share() -> None:
    draws = Counter(Workload(events=1, clients=1, users=1)._kind_of_draw)
    for kind, weight in enumerate(ORIGINAL_MIX):
        share = draws[kind] / draws.total()
        assert share == pytest.approx(weight / sum(ORIGINAL_MIX), rel=0.005)


@pytest.mark.parametrize(
    "mix", [ORIGINAL_MIX, EVEN_MIX, (5, 0, 1, 0, 4), (0, 0, 0, 0.25, 0), (0, 0, 1, 0, 3)]
)
def test_the_mix_is_respected(mix: Mix) -> None:
    lines = ordered(Workload(events=40_000, clients=1, users=10, mix=mix))
    seen = Counter(line.split(b"|")[1].strip()[0] for line in lines)
    for letter, weight in zip(LETTERS, mix, strict=True):
        share = weight / sum(mix)
        assert seen[letter] / 40_000 == pytest.approx(share, abs=0.01 if 0 < share < 1 else 0)


def test_a_shorter_stream_is_a_prefix_and_neither_clients_nor_batches_matter() -> None:
    long = ordered(Workload(events=STEP_EVENTS + 500, clients=2, users=50))
    short = ordered(Workload(events=STEP_EVENTS + 7, clients=9, users=50, batch=3))
    assert long[: len(short)] == short


def test_any_event_can_be_made_alone() -> None:
    workload = Workload(events=STEP_EVENTS + 5, clients=2, users=50)
    lines = ordered(workload)
    for sequence in (1, STEP_EVENTS, STEP_EVENTS + 1, STEP_EVENTS + 5):
        assert workload.line(sequence) == lines[sequence - 1]
    assert workload.line(0) is None
    assert workload.line(STEP_EVENTS + 6) is None


def test_lines_end_in_cr_lf_if_asked() -> None:
    lines = ordered(Workload(events=50, clients=1, users=5))
    with_cr = ordered(Workload(events=50, clients=1, users=5, crlf=True))
    assert with_cr == [line.replace(b"\n", b"\r\n") for line in lines]


@given(users=st.integers(1, 300), data=st.data(), seed=st.integers())
def test_connected_users_are_distinct_users(users: int, data: st.DataObject, seed: int) -> None:
    clients = data.draw(st.integers(1, users))
    connected = Workload(1, clients, users, seed=seed).connected
    assert len(connected) == len(set(connected)) == clients
    assert set(connected) <= set(range(1, users + 1))
