"""One run: start a form, play a stream, break something, and check everything."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import gevent
from end_to_end.peers import until

from simulator.play.resuming import leavings
from simulator.stream.oracle import MIN_BLOCK, Prepared, prepare
from simulator.stream.workload import Workload

from . import checks
from . import plan as plans
from .clients import ChaosClient
from .forms import FORMS
from .injecting import await_snapshot, inject, kill_active
from .plan import Plan
from .processes import SERVER, WATCHED_SERVER
from .source import ChaosSource

CLIENTS, MANY_CLIENTS = 30, 300
USERS = 2_000
MIX = (3.0, 2.0, 0.3, 2.0, 3.0)
EVENTS = {plans.IDLE: 12_000, plans.STEADY: 35_000, plans.FAST: 120_000}
TRIM_EVENTS = 200_000
RATES = {plans.IDLE: 10_000.0, plans.STEADY: 10_000.0, plans.FAST: None}
TRIM_RATE = 30_000.0
AHEAD_EVENTS = 4_000
"""Events by which the source may be ahead of the slowest client while the journal is trimmed: fewer
than are kept, which are all that follow the older of two snapshots."""

IDLE_SHARE, HELD_SHARE = 0.5, 0.8
"""Shares of the stream that are sent before the fault has ended."""

MARGIN_EVENTS = 2_000
"""More events than a source may have sent beyond what it says."""

RUN_SECONDS = 120.0
STRICT_SECONDS = {"sentinel": 10.0}
"""Maximum time until everything is served again after a fault, if that is checked."""

DEFAULT_STRICT_SECONDS = 5.0

OPTIONS = {
    plans.SNAPSHOT: ("--snapshot-events", "1000"),
    plans.TRIM: ("--snapshot-events", "20000", "--journal-retain-bytes", "1MiB"),
}
"""Options of the journal that bring a moment about."""


class Result(NamedTuple):
    """What a run has measured."""

    seconds: float
    recovery: float
    """Seconds from the end of the fault until every client had an event sent after it."""
    resumes: int
    breaks: int
    resent: int

    def __str__(self) -> str:
        return (
            f"{self.seconds:.1f} s, served again after {self.recovery:.2f} s, "
            f"{self.resumes} resumes, {self.breaks} breaks, {self.resent} events sent again"
        )


class Run:
    """One run of a plan in an empty folder.

    ``mutants`` have the programs of servers that lack a safeguard, by name. ``many_clients`` resume
    at once if that is the plan's moment. The first ``staying`` clients stay at their edge, each at
    another one, and the source does not wait for them. A strict run also fails if service resumes
    too late, or if a server blocks its event loop.
    """

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        mutants: dict[str, Sequence[str]] | None = None,
        many_clients: int = MANY_CLIENTS,
        *,
        staying: int = 0,
        is_strict: bool = False,
    ) -> None:
        self._plan = plan
        self._staying = staying
        self._many_clients = many_clients
        self._random = plan.random
        self._workload = self._make_workload()
        self._is_strict = is_strict
        self._mutants = mutants or {}
        self._form = FORMS[plan.form](folder, OPTIONS.get(plan.moment, ()), self._program_of)
        self._clients: list[ChaosClient] = []
        self._source: ChaosSource | None = None

    def run(self) -> Result:
        """Run; raise AssertionError if any check fails."""
        began = time.monotonic()
        error = AssertionError(f"the run was not done within {RUN_SECONDS} s")
        try:
            with gevent.Timeout(RUN_SECONDS, error):
                recovery = self._play()
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self._describe()}") from error
        finally:
            self._close()
        if self._is_strict:
            allowed = STRICT_SECONDS.get(self._plan.form, DEFAULT_STRICT_SECONDS)
            assert recovery <= allowed, f"served again only after {recovery:.1f} s"
        assert self._source
        return Result(
            time.monotonic() - began,
            recovery,
            sum(client.resumed for client in self._clients),
            sum(client.breaks for client in self._clients),
            self._source.resent_events,
        )

    def _program_of(self, name: str) -> Sequence[str]:
        # The parent serves nobody, and its children could not be watched.
        is_watched = self._is_strict and name != "parent"
        return self._mutants.get(name, WATCHED_SERVER if is_watched else SERVER)

    def _make_workload(self) -> Workload:
        plan = self._plan
        clients = self._many_clients if plan.moment == plans.RESUMING else CLIENTS
        events = TRIM_EVENTS if plan.moment == plans.TRIM else EVENTS[plan.load]
        return Workload(events, clients, USERS, seed=plan.seed, mix=MIX)

    def _play(self) -> float:
        """Play the stream and break something; return the time until all was served again."""
        workload = self._workload
        prepared = prepare(workload, MIN_BLOCK, lambda _: None)
        self._connect(prepared)
        source = self._source = self._make_source(prepared)
        watch = checks.Watch(self._form, self._plan, self._clients)
        self._await_moment()
        inject(self._form, self._plan, self._random)
        ended = self._release()
        until(self._has_all, "every client to have everything", RUN_SECONDS)
        checks.check_one_writes(self._form)
        until(self._form.is_whole, "everything to serve again", RUN_SECONDS)
        assert source.lost is None, source.lost
        assert source.answered is None, source.answered
        watch.stop()
        self._stop()
        checks.check_clients(self._clients)
        watch.check()
        checks.check_endings(self._form, self._plan)
        checks.check_logs(self._form, self._plan)
        checks.check_journal(self._form, workload, self._plan)
        return max(0.0, max(client.served_at for client in self._clients) - ended)

    def _connect(self, prepared: Prepared) -> None:
        """Connect all clients; wait until each knows its position."""
        addresses = self._form.client_addresses
        users = self._workload.connected
        leaving = leavings(users, self._plan.seed, len(users) // 3, 0.2)
        for index, (user, expected) in enumerate(zip(users, prepared.expectations, strict=True)):
            stays = index < self._staying
            edge = index if stays else self._random.randrange(len(addresses))
            leaves = () if stays else leaving.get(user, ())
            client = ChaosClient(user, expected, leaves, addresses, edge, self._plan.random)
            client.stays = stays
            self._clients.append(client)
        until(lambda: all(client.position for client in self._clients), "the first positions")

    def _make_source(self, prepared: Prepared) -> ChaosSource:
        plan, events = self._plan, self._workload.events
        is_trim = plan.moment == plans.TRIM
        share = IDLE_SHARE if plan.load == plans.IDLE else HELD_SHARE

        def is_ahead(sent: int) -> bool:
            slowest = min(client.next for client in self._clients if not client.stays)
            return sent > slowest + AHEAD_EVENTS

        return ChaosSource(
            self._form.source_addresses,
            prepared.feeds[0],
            TRIM_RATE if is_trim else RATES[plan.load],
            last=events,
            limit=int(share * events),
            waits=is_ahead if is_trim else lambda sent: False,
        )

    def _await_moment(self) -> None:
        """Wait for the moment of the plan, and bring it about."""
        draw, source = self._random.random, self._source
        assert source
        share = 0.1 + 0.3 * draw()
        limit = share * self._workload.events
        until(lambda: max(client.next for client in self._clients) > limit, "the clients to read")
        match self._plan.moment:
            case plans.SNAPSHOT:
                await_snapshot(self._form)
            case plans.TRIM if self._plan.fault != plans.TRIM_STOP:
                writer = self._form.processes.get(self._form.active())
                writer = writer or self._form.processes["parent"]
                until(lambda: writer.logged("snapshot_taken") >= 2, "two snapshots")
                gevent.sleep(draw())
            case plans.TAKEOVER:
                kill_active(self._form)
                gevent.sleep(1.5 * draw())
            case plans.RESUMING:
                self._hop()
                gevent.sleep(0.2 * draw())
        if self._plan.load == plans.IDLE:
            until(lambda: source.is_held, "the source to pause")

    def _hop(self) -> None:
        for client in self._clients:
            client.hop()

    def _release(self) -> float:
        """Let the source send the rest; return the time."""
        assert self._source
        if self._plan.target == "edge" or self._random.random() < 0.3:
            until(self._form.is_whole, "everything to serve again", RUN_SECONDS)
            self._hop()
        for client in self._clients:
            client.awaited = self._source.sent_events + MARGIN_EVENTS
        self._source.release()
        return time.monotonic()

    def _has_all(self) -> bool:
        """Whether all is done; raise AssertionError if something has gone wrong for good."""
        assert self._source
        for client in self._clients:
            assert not client.wrong, f"user {client.user}: {client.wrong}"
            assert not client.differs, f"user {client.user} has received other bytes than its own"
        assert self._source.lost is None, self._source.lost
        checks.check_endings(self._form, self._plan)
        return self._source.done and all(client.complete for client in self._clients)

    def _stop(self) -> None:
        for client in self._clients:
            client.greenlet.kill()
        waiting = [name for name in self._form.ingests if name != self._form.active()]
        for name, status in self._form.stop().items():
            allowed = {0, -signal.SIGTERM} if name in waiting else {0}
            assert status in allowed, f"{name} stopped with status {status}"

    def _describe(self) -> str:
        """Describe the state of a failed run."""
        lines = [client.describe() for client in self._clients if not client.complete][:5]
        if source := self._source:
            lines.append(
                f"source: {source.sent_events} events sent, everything below "
                f"{source.acknowledged} acknowledged, {source.reconnects} reconnects"
            )
        for process in self._form.processes.values():
            lines.append(f"{process.name}: {process.starts} starts, endings {process.endings}")
        lines.append(f"journal: {self._form.store.state()}")
        return "\n".join(lines)

    def _close(self) -> None:
        players: list[ChaosClient | ChaosSource] = [*self._clients]
        if self._source:
            players.append(self._source)
        for player in players:
            player.greenlet.kill()
            player.connection.close()
        self._form.close()
