"""What a batch waits for, and how long. A socket pair stands for a client's connection."""

import socket as system
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from structlog.testing import capture_logs

from maze.listener import registration_wait
from maze.listener.registration_wait import Registration
from maze.net.time_slice import yield_to_event_loop

Pair = tuple[system.socket, system.socket]


@pytest.fixture(autouse=True)
def _bounded() -> Iterator[None]:
    with gevent.Timeout(30):
        yield


class Clock:
    """Monotonic time and processor time that advance only when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.worked = 50.0

    def monotonic(self) -> float:
        return self.now

    def thread_time(self) -> float:
        return self.worked

    def work(self, seconds: float) -> None:
        self.now += seconds
        self.worked += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(registration_wait, "time", fake)
    return fake


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = system.socketpair()
    with ours, theirs:
        yield ours, theirs


def waits(state: Registration) -> bool:
    """Return whether a batch waits; end its wait at once."""
    greenlet = gevent.spawn(state.wait)
    gevent.sleep(0)
    waiting = not greenlet.dead
    greenlet.kill()
    return waiting


def test_a_batch_waits_only_for_readable_unregistered_connections(pair: Pair) -> None:
    ours, theirs = pair
    state = Registration()
    assert not waits(state)
    state.watch(ours.fileno())
    assert not waits(state)
    theirs.send(b"1")
    assert waits(state)
    ours.recv(1)
    assert not waits(state)  # the byte was read, and is not a whole line
    theirs.close()
    assert waits(state)  # the next read will report the end of the stream
    state.unwatch(ours.fileno())
    assert not waits(state)


def test_watching_or_unwatching_twice_is_the_same_as_once(pair: Pair) -> None:
    ours, theirs = pair
    state = Registration()
    theirs.send(b"1")
    for _ in range(2):
        state.watch(ours.fileno())
    assert waits(state)
    for _ in range(2):
        state.unwatch(ours.fileno())
    assert not waits(state)
    state.watch(ours.fileno())
    assert waits(state)


def test_a_batch_waits_for_bytes_that_are_not_decrypted_yet() -> None:
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
    state.unwatch(ours.fileno())
    batch.join()
    assert state.overruns == 0


@pytest.fixture
def behind(pair: Pair, clock: Clock) -> Iterator[Registration]:
    """Watch a connection that stays readable, while each turn of the event loop takes 5 ms."""
    ours, theirs = pair
    state = Registration()
    state.watch(ours.fileno())
    theirs.send(b"1")

    def work() -> None:
        while True:
            clock.work(0.005)
            yield_to_event_loop()

    working = gevent.spawn(work)
    yield state
    working.kill()


def test_a_batch_waits_for_a_second_of_work_and_then_a_fifth_of_the_time(
    behind: Registration, clock: Clock
) -> None:
    began, waited = clock.now, 0.0
    while clock.now < began + 10:
        before = clock.now
        behind.wait()
        waited += clock.now - before
        clock.work(0.01)  # the batch itself
    assert waited <= 1 + 0.2 * 9 + 0.01
    assert waited >= 1 + 0.2 * 7
    assert behind.overruns > 100


def test_once_the_budget_is_used_up_most_batches_do_not_wait_at_all(
    behind: Registration, clock: Clock
) -> None:
    """If each batch waited for the little regained, a storm would double every event's latency."""
    behind.wait()
    waited: list[float] = []
    while len(waited) < 1000:
        before = clock.now
        behind.wait()
        waited.append(clock.now - before)
        clock.work(0.001)  # the batch itself
    assert sum(wait > 0 for wait in waited) <= 5
    assert max(waited) <= 0.06


def test_a_batch_that_waited_for_all_ends_the_shortage(
    behind: Registration, pair: Pair, clock: Clock
) -> None:
    behind.wait()
    clock.work(0.5)
    batch = gevent.spawn(behind.wait)
    gevent.sleep(0)
    behind.unwatch(pair[0].fileno())
    batch.join()
    assert behind.overruns == 1
    behind.watch(pair[0].fileno())
    assert waits(behind)


def test_time_in_which_a_batch_waits_is_not_regained(behind: Registration, clock: Clock) -> None:
    behind.wait()
    before = clock.now
    behind.wait()
    assert clock.now - before <= 0.01


def test_time_without_processor_time_does_not_use_up_the_budget(
    behind: Registration, clock: Clock
) -> None:
    batch = gevent.spawn(behind.wait)
    gevent.sleep(0)
    clock.now += 3600
    yield_to_event_loop()
    assert not batch.dead
    batch.join()
    assert behind.overruns == 1


def test_the_budget_is_warned_about_once_until_it_is_full_again(
    behind: Registration, clock: Clock
) -> None:
    with capture_logs() as lines:
        for _ in range(3):
            behind.wait()
            clock.now += 2.5  # half of the budget is regained
        assert len(lines) == 1
        clock.now += 5
        behind.wait()
    assert behind.overruns == 4
    warning = {"event": "registration_behind", "log_level": "warning", "waiting_connections": 1}
    assert lines == [warning] * 2


def test_a_source_waits_while_a_batch_does(behind: Registration) -> None:
    behind.wait_for_batch()
    batch = gevent.spawn(behind.wait)
    gevent.sleep(0)
    source = gevent.spawn(behind.wait_for_batch)
    gevent.sleep(0)
    assert not source.dead
    batch.join()
    source.join()


def test_a_descriptor_that_epoll_refuses_is_no_error(tmp_path: Path) -> None:
    state = Registration()
    with open(tmp_path / "file", "wb") as file:  # epoll refuses regular files
        state.watch(file.fileno())
        state.unwatch(file.fileno())
    assert not waits(state)
