"""The play alone, with servers of a few lines and a clock that the tests move."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from types import SimpleNamespace

import pytest

from simulator.play import player
from simulator.play.conduct import Conduct, Timing
from simulator.play.connecting import Address
from simulator.play.player import Play
from simulator.stream.oracle import prepare
from simulator.stream.workload import Workload

Pair = tuple[socket.socket, socket.socket]

NOWHERE = Address("127.0.0.1", 1, 1)
BROADCASTS = Workload(events=20, clients=2, users=2, batch=1, mix=(0, 0, 1, 0, 0))
LINES = [line for step in BROADCASTS.steps() for line in step.lines]


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(player, "_TICK", 0.001)
    monkeypatch.setattr(player, "time", SimpleNamespace(monotonic=clock, sleep=lambda _: None))
    return clock


class Peers:
    """A source's and two clients' connections, and the server's ends of them."""

    def __init__(self, stack: ExitStack) -> None:
        self.source, self.from_source = self._pair(stack)
        self.clients, self.to_clients = zip(*(self._pair(stack) for _ in range(2)), strict=True)

    def send(self, place: int, data: bytes) -> None:
        """To a client, who may have left."""
        with suppress(BrokenPipeError):
            self.to_clients[place].send(data)

    @staticmethod
    def _pair(stack: ExitStack) -> Pair:
        pair = socket.socketpair()
        for end in pair:
            stack.enter_context(end).setblocking(False)
        return pair

    def play(
        self, workload: Workload, timing: Timing, serve: Callable[[], None], cut: int = 4096
    ) -> Play:
        """A whole run, in which the server does something at every turn."""
        play = Play(NOWHERE, workload.connected, timing, Conduct(cut=cut))
        prepared = prepare(workload, 4096, lambda _done: None)
        play.run([self.source], self.clients, prepared, lambda *_: serve())
        return play


@pytest.fixture
def peers() -> Iterator[Peers]:
    with ExitStack() as stack:
        yield Peers(stack)


def test_nothing_is_sent_before_the_settle_time(
    clock: Clock, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        with pytest.raises(BlockingIOError):
            peers.from_source.recv(1)

    def serve() -> None:
        clock.now += 1

    monkeypatch.setattr("simulator.play.player.time.sleep", sleep)
    peers.play(BROADCASTS, Timing(timeout=1.0, settle=0.5), serve)
    assert slept == [0.5]
    assert peers.from_source.recv(4096) == b"".join(LINES)


def test_each_client_has_a_timeout_of_its_own(clock: Clock, peers: Peers) -> None:
    left = list(LINES)

    def serve() -> None:
        clock.now += 1
        if left:
            peers.send(0, left.pop(0))
            if not left:
                # Everything comes in the end, but long after anybody would have gone.
                peers.send(1, b"".join(LINES))

    first, second = peers.play(BROADCASTS, Timing(timeout=5.0), serve).clients
    assert not first.failed
    assert second.failed
    assert second.gave_up
    assert second.closed_by == (
        "connection given up by the client, 5 s after its last message, after 0 bytes"
    )


@pytest.mark.parametrize(("silence", "failed"), [(4, False), (7, True)])
def test_a_message_now_and_then_is_enough(
    clock: Clock, peers: Peers, silence: int, failed: bool
) -> None:
    left = list(LINES)

    def serve() -> None:
        clock.now += 1
        if left and clock.now % silence == 0:
            line = left.pop(0)
            for place in range(2):
                peers.send(place, line)

    play = peers.play(BROADCASTS, Timing(timeout=5.0), serve)
    assert [client.failed for client in play.clients] == [failed, failed]
    assert [client.gave_up for client in play.clients] == [failed, failed]


def test_a_server_that_takes_nothing_from_the_source(clock: Clock, peers: Peers) -> None:
    # Nobody waits for anything, and yet not all is well.
    unfollows = Workload(events=100_000, clients=2, users=2, mix=(0, 1, 0, 0, 0))

    def serve() -> None:
        clock.now += 1

    play = peers.play(unfollows, Timing(timeout=5.0), serve, cut=2**20)
    assert play.source_lost is not None
    assert play.source_lost.startswith("the server read nothing from the source for 5 s, after ")
