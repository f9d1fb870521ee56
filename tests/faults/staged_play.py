"""Play a stream while servers stop and start; clients and source come back whenever they are cut.

The simulator's oracle compares every byte that each client receives over all its connections.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import repeat
from socket import socket
from typing import Any
from unittest.mock import patch

from end_to_end.peers import PATIENCE
from end_to_end.running import Child

from simulator.play import peers
from simulator.play.client import EndedError, receive
from simulator.play.conduct import Conduct, Timing
from simulator.play.connecting import Address, connect_client, connect_sources
from simulator.play.player import Play
from simulator.play.preflight import first_acknowledgements
from simulator.play.resuming import Position, ResumingClient
from simulator.stream.oracle import Expectation, block_size, prepare
from simulator.stream.workload import Workload
from simulator.verdict.diagnosis import diagnose

RATE = 20_000.0
"""Events a second; slow enough that servers stop and start in mid-stream."""

AHEAD = 0.15
"""Share of the stream that the source may send while a step is under way."""

STEP_SECONDS = 2 * PATIENCE
"""Maximum seconds of a step: a parent starts three processes, one after another."""

LOOK_SECONDS = 0.02
"""Time between two looks at what a step waits for."""

NOBODY = Address("127.0.0.1", 1, 1)
"""Where nobody listens."""

OVER = object()
"""What the generator of steps returns at its end."""

AWAY_SECONDS = 0.02
"""Time until a client that was cut comes back."""

Steps = Iterator[object]


class StagedPlay(Play):
    """A play, and steps that are taken while it goes on.

    ``steps`` is a generator: it yields whenever it waits for something.
    """

    def __init__(
        self, address: Address, workload: Workload, steps: Callable[[StagedPlay], Steps]
    ) -> None:
        conduct = Conduct(resuming=dict.fromkeys(workload.connected, ()), last=workload.events)
        timing = Timing(timeout=2 * STEP_SECONDS, linger=0.1, rate=RATE)
        super().__init__(address, workload.connected, timing, conduct)
        self._workload = workload
        self._steps = self._begin(steps)
        self._prepared = prepare(workload, block_size(workload.clients), lambda _events: None)
        self.addresses: Iterator[Address] | None = repeat(address)
        """Where clients and source connect, in turn; None while there is no server."""
        self._may_send = 0.0  # share of the events
        self._look_at = 0.0
        self.is_over = False
        """Whether all steps were taken."""

    def play(self) -> StagedPlay:
        """Play everything; every client comes with a position, and misses nothing."""
        with ExitStack() as stack:
            sources = stack.enter_context(connect_sources(self.address, 1))
            told = first_acknowledgements(sources, self.address)
            begin = Position(told[0].epoch, told[0].next)
            clients = [
                stack.enter_context(connect_client(self.address, user, asking=b"|" + bytes(begin)))
                for user in self._workload.connected
            ]
            made = patch.object(peers, "ResumingClient", _returning(begin))
            with made:
                self.run(sources, clients, self._prepared, self._progress, told)
        return self

    def _begin(self, steps: Callable[[StagedPlay], Steps]) -> Steps:
        # A client that is cut before the first answer comes back, but that would not be a resume.
        yield from self.until_resumes(0)
        yield from steps(self)

    def until_share(self, share: float) -> Steps:
        """Wait until a share of the events is sent; at their rate, the server has most of them."""
        self._may_send = share + AHEAD
        yield from self.until(lambda: self.sent_events >= share * self._workload.events)

    def until(self, condition: Callable[[], Any], server: Child | None = None) -> Steps:
        """Wait for a condition, often of a server, while the play goes on."""
        deadline = time.monotonic() + STEP_SECONDS
        while not condition():
            log = server.stderr()[-4_000:] if server else ""
            assert time.monotonic() < deadline, f"a step takes too long: {log}"
            yield None

    def until_ended(self, server: Child) -> Steps:
        """Wait until a server's process has ended in order."""
        yield from self.until(lambda: server.process.poll() is not None, server)
        assert server.status() == 0

    def until_ready(self, server: Child) -> Steps:
        """Wait until a server serves; if it has several processes, until all do."""
        yield from self.until(lambda: _lines_of_all(server), server)
        server.listens(_lines_of_all(server)[0])

    def until_resumes(self, count: int) -> Steps:
        """Wait until clients have come back so many times: those that were cut may not know yet."""
        yield from self.until(lambda: self.resumes >= count)

    def check(self) -> None:
        """Assert that all steps were taken, and that every client received exactly its bytes."""
        assert self.is_over
        failures = [client.evidence() for client in self.clients if client.failed]
        assert not failures, diagnose(self._workload, failures[:3])
        assert not self.source_faults
        assert self.source_lost is None

    @property
    def resumes(self) -> int:
        """How often clients came back with their position, without the first time."""
        return sum(client.resumed - 1 for client in self.clients)

    def _progress(self, now: float, sent: int, _received: int) -> None:
        if now >= self._look_at and not self.is_over:
            self._look_at = now + LOOK_SECONDS
            self.is_over = next(self._steps, OVER) is OVER
        self.address = next(self.addresses) if self.addresses else NOBODY
        is_held = not self.is_over and sent >= self._may_send * self._workload.events
        self._held_until = math.inf if is_held else 0.0


def _lines_of_all(server: Child) -> list[dict[str, Any]]:
    return [line for line in server.logged("ready") if "process" not in line]


class _ReturningClient(ResumingClient):
    """A client that comes back with its position whenever its connection ends."""

    _has_ended = False

    @property
    def acts_now(self) -> bool:
        return self._has_ended

    def _receive(self, target: bytearray | memoryview) -> int:
        try:
            return receive(self.connection, target)
        except EndedError:
            self._has_ended = True
            return 0

    def leave(self) -> float:
        self._has_ended = False
        self._disconnect(abortive=False)
        return AWAY_SECONDS


def _returning(begin: Position) -> Callable[..., _ReturningClient]:
    """Return what makes clients that connected with a position."""

    def make(
        user: int, connection: socket, expected: Expectation, *arguments: Any, **options: Any
    ) -> _ReturningClient:
        client = _ReturningClient(user, connection, expected, *arguments, **options)
        client.position = begin
        client.resume(connection)
        return client

    return make
