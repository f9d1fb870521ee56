"""Faults to order, against a receiver in the plainest words of the protocol."""

import re
from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest
from brute_force import Model, streams
from hypothesis import given, settings
from hypothesis import strategies as st
from running import parameters

from simulator.errors import ParameterError
from simulator.stream.faults import Faults, missing_numbers
from simulator.stream.oracle import prepare
from simulator.stream.workload import Workload

pytestmark = pytest.mark.realtime

NUMBER = rb"0*\d{1,18}"
VALID = re.compile(rb"(?:%b)\|(?:[FUP]\|%b\|%b|B|S\|%b)\r?\n" % ((NUMBER,) * 4))
LEADING = re.compile(rb"(%b)(?:\||\r?\n)" % NUMBER)


class Receiver:
    """Puts what sources send in order; None is held for a number that is used up."""

    def __init__(self, limit: int) -> None:
        self.routed: list[bytes] = []
        self.seen: Counter[str] = Counter()
        self._limit = limit
        self._next = 1
        self._held: dict[int, bytes | None] = {}

    def take(self, line: bytes) -> None:
        leading = LEADING.match(line)
        if leading is None:
            self.seen["no number"] += 1
            return
        number, event = int(leading[1]), line if VALID.fullmatch(line) else None
        if number < self._next:
            self.seen["stale"] += 1
        elif number not in self._held:
            self._held[number] = event
            self.seen["used up"] += event is None
        elif self._held[number] is None and event is not None:
            self._held[number] = event
            self.seen["took the place"] += 1
        elif event is not None:
            self.seen["duplicate" if self._held[number] == event else "conflict"] += 1

    def route(self, *, end: bool = False) -> None:
        """Between two reads; at the end, and when too much is held, gaps are given up."""
        self._route()
        while len(self._held) > (0 if end else self._limit):
            self._next = min(self._held)
            self._route()

    def _route(self) -> None:
        while self._next in self._held:
            event = self._held.pop(self._next)
            self._next += 1
            if event is not None:
                self.routed.append(event)


def interleaved(feeds: list[list[bytes]], random: Random) -> Iterator[list[bytes]]:
    """Reads of random size from one source after another, each in its own order."""
    rest = [list(feed) for feed in feeds]
    while any(rest):
        feed = random.choice([feed for feed in rest if feed])
        size = random.choice([1, 2, 10, 100])
        yield feed[:size]
        del feed[:size]


def received(workload: Workload, seed: int) -> tuple[dict[int, list[bytes]], Receiver]:
    feeds, _ = prepare(workload, 4096, lambda _done: None)
    lines = [b"".join(chunk.data for chunk in chunks).splitlines(keepends=True) for chunks in feeds]
    receiver = Receiver(limit=workload.batch * 2 + 100)
    for read in interleaved(lines, Random(seed)):
        for line in read:
            receiver.take(line)
        receiver.route()
    receiver.route(end=True)
    model = Model()
    delivered: dict[int, list[bytes]] = {user: [] for user in workload.connected}
    for line in receiver.routed:
        for user in model.audience(line, delivered):
            delivered[user].append(line)
    return delivered, receiver


def expected(workload: Workload) -> dict[int, list[bytes]]:
    """As `streams`, with what has no valid line left out."""
    model = Model()
    delivered: dict[int, list[bytes]] = {user: [] for user in workload.connected}
    for step in workload.steps():
        for line in step.lines:
            if VALID.fullmatch(line):
                for user in model.audience(line, delivered):
                    delivered[user].append(line)
    return delivered


@settings(deadline=None, max_examples=60)
@given(
    workload=st.builds(
        Workload,
        events=st.integers(1, 700),
        clients=st.integers(1, 5),
        users=st.integers(5, 12),
        batch=st.integers(1, 60),
        seed=st.integers(0, 2**32),
        crlf=st.booleans(),
        faults=st.builds(
            Faults,
            duplicates=st.sampled_from([0, 5, 50]),
            conflicts=st.sampled_from([0, 5, 50]),
            malformed=st.sampled_from([0, 5, 50, 100]),
            gaps=st.integers(0, 6),
        ),
        sources=st.integers(1, 3),
    ),
    seed=st.integers(0, 2**32),
)
def test_however_it_is_read_the_same_is_delivered(workload: Workload, seed: int) -> None:
    delivered, _ = received(workload, seed)
    assert delivered == expected(workload)


def test_every_kind_of_fault_is_there() -> None:
    faults = Faults(duplicates=10, conflicts=10, malformed=20, gaps=5)
    workload = Workload(events=5_000, clients=2, users=9, batch=80, faults=faults)
    _, receiver = received(workload, seed=1)
    kinds = ("no number", "stale", "used up", "took the place", "duplicate", "conflict")
    assert all(receiver.seen[kind] > 20 for kind in kinds), receiver.seen
    silenced = sum(not VALID.fullmatch(line) for step in workload.steps() for line in step.lines)
    assert silenced == pytest.approx(500 + len(workload.missing), rel=0.2)


def test_the_oracle_knows_of_the_faults() -> None:
    workload = Workload(
        events=3_000, clients=3, users=7, faults=Faults(duplicates=5, malformed=20, gaps=9)
    )
    _, expectations = prepare(workload, 4096, lambda _done: None)
    for expectation, lines in zip(expectations, expected(workload).values(), strict=True):
        assert (expectation.bytes, expectation.events) == (sum(map(len, lines)), len(lines))
        assert expectation.last_line == lines[-1]
        assert expectation.last_number == int(lines[-1].partition(b"|")[0])


def test_no_faults_change_nothing() -> None:
    workload = Workload(events=300, clients=3, users=7)
    assert expected(workload) == streams(workload)


def test_missing_numbers_are_numbers_of_the_stream() -> None:
    missing = missing_numbers(gaps=50, events=1_000, seed=3)
    assert list(missing) == sorted(set(missing))
    assert 50 <= len(missing) <= 150
    assert missing[0] >= 1
    assert missing[-1] <= 1_000
    assert missing_numbers(3, 1, seed=1) == (1,)


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        ("--malformed 101", "--malformed: '101' is not a percentage from 0 to 100"),
        ("--duplicates x", "'x' is not a percentage"),
        ("--sources 17", "17 is not from 1 to 16"),
        ("--cuts 0", "0 is not at least 1"),
        ("--latency --rate 5 --gaps 1", "--latency cannot be combined with --gaps or --sources"),
        ("--latency --rate 5 --sources 2", "--latency cannot be combined with"),
        ("--concurrency-level 5 --leaving 3 --returning 3", "add up to 6 clients, more than"),
        ("--concurrency-level 5 --stalling 3 --resuming 3", "add up to 6 clients, more than"),
        ("--away-time -1", "--away-time: -1 is not at least 0"),
        ("--server-options x", "--server-options needs --serve"),
        ("--serve --server-options '", "No closing quotation"),
    ],
)
def test_what_cannot_be_is_refused(flags: str, part: str) -> None:
    with pytest.raises(ParameterError) as caught:
        parameters(*flags.split())
    assert part in str(caught.value)


def test_a_server_of_our_own_admits_all_sources() -> None:
    given = parameters("--serve", "--sources", 3, "--server-options", "--line-limit '1 KiB'")
    assert given.server_options == ("--line-limit", "1 KiB", "--max-sources", "3")
