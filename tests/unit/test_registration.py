"""What a batch waits for, and for how long; a socket pair stands for a client's connection."""

import socket as system
from collections.abc import Iterator
from types import SimpleNamespace

import gevent
import pytest
from structlog.testing import capture_logs

from maze import registration
from maze.net import A_MOMENT
from maze.registration import Registration

Pair = tuple[system.socket, system.socket]


@pytest.fixture(autouse=True)
def _bounded() -> Iterator[None]:
    with gevent.Timeout(30):
        yield


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clock by which the budget is regained; ``now`` sets it."""
    fake = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(registration, "time", SimpleNamespace(monotonic=lambda: fake.now))
    return fake


@pytest.fixture
def budget(monkeypatch: pytest.MonkeyPatch) -> int:
    """Steps; a tenth of it is regained a second."""
    monkeypatch.setattr(registration, "BURST_STEPS", 10)
    monkeypatch.setattr(registration, "STEPS_PER_SECOND", 1)
    return 10


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = system.socketpair()
    with ours, theirs:
        yield ours, theirs


def waits(state: Registration) -> bool:
    """Whether a batch has to wait; it waits no longer than to say so."""
    greenlet = gevent.spawn(state.wait)
    gevent.sleep(0)
    waiting = not greenlet.dead
    greenlet.kill()
    return waiting


def test_only_what_is_readable_and_not_registered_is_waited_for(pair: Pair) -> None:
    ours, theirs = pair
    state = Registration()
    assert not waits(state)
    state.watch(ours.fileno())
    assert not waits(state)
    theirs.send(b"1")
    assert waits(state)
    ours.recv(1)
    assert not waits(state)  # it was read, and is no whole line
    theirs.close()
    assert waits(state)  # whoever reads it will see that it has left
    state.forget(ours.fileno())
    assert not waits(state)


def test_to_watch_and_to_forget_twice_is_the_same_as_once(pair: Pair) -> None:
    ours, theirs = pair
    state = Registration()
    theirs.send(b"1")
    for _ in range(2):
        state.watch(ours.fileno())
    assert waits(state)
    for _ in range(2):
        state.forget(ours.fileno())
    assert not waits(state)
    state.watch(ours.fileno())
    assert waits(state)


def test_what_is_not_decrypted_yet_is_waited_for() -> None:
    state = Registration()
    with state.undecrypted():
        with state.undecrypted():
            assert waits(state)
        assert waits(state)
    assert not waits(state)


def test_a_batch_goes_on_when_all_are_registered(pair: Pair) -> None:
    ours, theirs = pair
    state = Registration()
    state.watch(ours.fileno())
    theirs.send(b"1")
    batch = gevent.spawn(state.wait)
    gevent.sleep(0)
    assert not batch.dead
    state.forget(ours.fileno())
    batch.join()
    assert state.overruns == 0


def test_the_budget_is_used_up_by_turns_accepts_and_reads_while_a_batch_waits(
    pair: Pair, budget: int, clock: SimpleNamespace
) -> None:
    ours, theirs = pair
    state = Registration()
    state.watch(ours.fileno())
    for _ in range(budget):
        state.count_step()  # no batch waits: this costs nothing
    theirs.send(b"1")
    turns = 0
    batch = gevent.spawn(state.wait)
    while not batch.dead:
        gevent.sleep(A_MOMENT)
        state.count_step()
        turns += 1
    assert turns == pytest.approx(budget / 2, abs=1)
    assert state.overruns == 1


def test_the_budget_is_regained_and_one_warning_tells_of_each_time_it_is_used_up(
    pair: Pair, budget: int, clock: SimpleNamespace
) -> None:
    ours, theirs = pair
    state = Registration()
    state.watch(ours.fileno())
    theirs.send(b"1")
    with capture_logs() as lines:
        for _ in range(3):
            state.wait()
            clock.now += 5  # half of it is back
        assert len(lines) == 1
        clock.now += 5
        state.wait()
    assert state.overruns == 4
    warning = {"event": "registration_behind", "log_level": "warning", "waiting_connections": 1}
    assert lines == [warning] * 2
