"""Play the stream: send as the sources and receive as the clients, in one loop.

The loop uses non-blocking sockets and one thread, so that it is simpler than what it measures.
Every wait is bounded.
"""

import heapq
import logging
import selectors
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from simulator.errors import ConnectError
from simulator.play.client import Client
from simulator.play.connecting import Address, connect_client
from simulator.play.preflight import check_admitted
from simulator.play.source import WRITE_BYTES, Source
from simulator.play.timestamps import Timestamps
from simulator.play.tls import buffered
from simulator.play.unsteady import RETURN, STALL, Habit, UnsteadySession
from simulator.stream.oracle import Expectation, Prepared
from simulator.stream.workload import Chunk

log = logging.getLogger("simulator")

LOST_SOURCE_TIMEOUT = 2.0
"""Maximum time without progress before a play with a lost source ends; seconds."""

_UNTIMED_INTERVAL = 0.01
"""Time between reads of clients that are not timed, while others are; seconds."""

_TICK = 0.1
"""Maximum time of a select; seconds. Timeouts are checked after each."""

Progress = Callable[[float, int, int], None]


@dataclass(frozen=True)
class Timing:
    """The waits of a play in seconds, and the rate of each source in events per second."""

    timeout: float
    settle: float = 0.0
    linger: float = 0.0
    rate: float | None = None
    stall: float = 0.0


@dataclass(frozen=True)
class Conduct:
    """How clients and sources behave, beyond sending and receiving."""

    timed: frozenset[int] = frozenset()  # users whose deliveries are timed
    habits: Mapping[int, Habit] = field(default_factory=dict)
    cut: int = WRITE_BYTES  # maximum bytes per write of a source
    leave: bool = False  # whether sources leave when they have sent everything
    ahead: int = 0  # how far a sequence number sent may exceed the number of lines sent
    log_lines: bool = False


class Play:
    """One play of the stream to connected clients. Its public fields hold the outcome."""

    def __init__(
        self,
        address: Address,
        users: Sequence[int],
        timing: Timing,
        conduct: Conduct = Conduct(),
    ) -> None:
        self.clients: list[Client] = []
        self.sessions: list[UnsteadySession] = []
        self.source_lost: str | None = None
        self.source_cut_off: str | None = None
        self.source_faults: list[str] = []
        self.received = 0
        self.sent_events = 0
        self.seconds = 0.0
        self.source_timestamps = Timestamps()
        self.behind = 0.0
        self.address = address
        self._users = users
        self._timing = timing
        self._conduct = conduct
        self._open = 0
        # Clients that wait for a message, and since when. The longest wait is first.
        self._waiting: dict[Client | UnsteadySession, float] = {}
        self._waits_count_from = 0.0
        self._now = 0.0
        self._sources: list[Source] = []
        self._stalled: list[tuple[float, int, UnsteadySession]] = []
        self._held_until = 0.0
        self._next_untimed_read = 0.0

    def run(
        self,
        sources: Sequence[socket.socket],
        clients: Sequence[socket.socket],
        prepared: Prepared,
        progress: Progress,
    ) -> None:
        """Send and receive everything, then wait for the linger time.

        ``sources`` and ``clients`` are connections, one client for each user. Raise RefusedError
        if the server closes a source or every client before the first event.
        """
        with ExitStack() as stack:
            self._selector = stack.enter_context(selectors.DefaultSelector())
            self._untimed = stack.enter_context(selectors.DefaultSelector())
            self._opened = stack
            for connection, chunks in zip(sources, prepared.feeds, strict=True):
                self._add_source(connection, chunks)
            for user, connection, expected in zip(
                self._users, clients, prepared.expectations, strict=True
            ):
                self._add_client(user, connection, expected)
            all_clients = self.all_clients
            self._open = len(all_clients)
            self._waiting = {client: 0.0 for client in all_clients if not client.finished}
            for client in all_clients:
                self._selector_of(client).register(client.connection, selectors.EVENT_READ, client)
            if self._timing.settle:
                time.sleep(self._timing.settle)
            self._serve_ready(0.0)
            check_admitted(self._sources, all_clients, self.address)
            self._exchange(progress)
            self.source_lost = next((s.lost for s in self._sources if s.lost), None)
            self.source_cut_off = next((s.cut_off for s in self._sources if s.cut_off), None)
            self.behind = max(source.behind for source in self._sources)
            self._linger()
            self.source_faults = [source.answered for source in self._sources if source.answered]

    @property
    def all_clients(self) -> list[Client | UnsteadySession]:
        """All clients that are or were connected, once for each connection."""
        return [*self.clients, *self.sessions]

    @property
    def all_disconnected(self) -> bool:
        """Whether no client is still connected."""
        return not self._open

    def _add_source(self, connection: socket.socket, chunks: Sequence[Chunk]) -> None:
        source = Source(
            connection,
            chunks,
            self._timing.rate,
            cut=self._conduct.cut,
            timestamps=self.source_timestamps if self._conduct.timed else None,
            lines=self._conduct.log_lines,
        )
        self._sources.append(source)
        self._selector.register(connection, selectors.EVENT_READ, source)

    def _add_client(self, user: int, connection: socket.socket, expected: Expectation) -> None:
        habit = self._conduct.habits.get(user)
        if habit is not None:
            self.sessions.append(UnsteadySession(user, connection, expected, habit))
            return
        timestamps = Timestamps() if user in self._conduct.timed else None
        lines = self._conduct.log_lines
        self.clients.append(Client(user, connection, expected, timestamps=timestamps, lines=lines))

    def _selector_of(self, client: Client | UnsteadySession) -> selectors.BaseSelector:
        timed = isinstance(client, Client) and client.timestamps is not None
        return self._selector if timed or not self._conduct.timed else self._untimed

    def _exchange(self, progress: Progress) -> None:
        """Play until everything is sent, and every client has received everything or given up."""
        began = moved = self._waits_count_from = time.monotonic()
        tick = _UNTIMED_INTERVAL if self._conduct.timed else _TICK
        while self._open and (self._waiting or not self._all_sent):
            now = time.monotonic()
            pause = self._schedule(now)
            if self._serve_ready(min(pause or tick, tick)):
                moved = self._now
            now = self._now
            if pause and (self._stalled or not self._all_sent):
                # Clients may wait because the simulator paused: that time does not count.
                self._waits_count_from = now
            self._give_up(now, moved)
            self.sent_events = sum(source.sent_events for source in self._sources)
            progress(now, self.sent_events, self.received)
            if now - moved > LOST_SOURCE_TIMEOUT and any(s.cut_off for s in self._sources):
                log.debug("nothing moved for %.1f s", now - moved)
                break
        self.seconds = moved - began

    def _give_up(self, now: float, moved: float) -> None:
        """Give up clients that have waited too long, and all sources if nothing has moved."""
        timeout = self._timing.timeout
        while self._waiting:
            client, since = next(iter(self._waiting.items()))
            if now - max(since, self._waits_count_from) <= timeout:
                break
            del self._waiting[client]
            self._selector_of(client).unregister(client.connection)
            self._open -= 1
            client.give_up(timeout)
        if now - max(moved, self._waits_count_from) > timeout:
            for source in self._sources:
                source.give_up(timeout)

    @property
    def _all_sent(self) -> bool:
        return all(source.done for source in self._sources)

    def _schedule(self, now: float) -> float:
        """Watch what may move now; return the seconds until more may, or 0 if nothing is paused."""
        pauses = []
        while self._stalled and self._stalled[0][0] <= now:
            session = heapq.heappop(self._stalled)[2]
            self._selector_of(session).register(session.connection, selectors.EVENT_READ, session)
            self._receive(session)  # bytes that TLS had buffered before the stall
        if self._stalled:
            pauses.append(self._stalled[0][0] - now)
        for source in self._sources:
            pause = max(source.wait(now), self._held_until - now)
            if not source.done and pause:
                pauses.append(pause)
            self._watch(source, writable=not source.done and not pause)
        if self._conduct.leave and self._all_sent:
            # All together: if one left before another was admitted, the stream would end there.
            for source in self._sources:
                source.leave()
        return min(pauses, default=0.0)

    def _serve_ready(self, wait: float) -> int:
        """Read and write every ready connection once; return the number of bytes."""
        moved = self._read_untimed()
        ready = self._selector.select(wait)
        self._now = time.monotonic()
        for key, events in ready:
            if not isinstance(key.data, Source):
                moved += self._receive(key.data)
                continue
            source = key.data
            if events & selectors.EVENT_WRITE and not source.done:
                moved += source.write()
            if events & selectors.EVENT_READ and not source.read():
                self._selector.unregister(source.connection)
        return moved

    def _read_untimed(self) -> int:
        """Read untimed clients, but only at intervals, so that they do not delay timed ones."""
        now = time.monotonic()
        if not self._untimed.get_map() or now < self._next_untimed_read:
            return 0
        self._next_untimed_read = now + _UNTIMED_INTERVAL
        return sum(self._receive(key.data) for key, _ in self._untimed.select(0))

    def _receive(self, client: Client | UnsteadySession) -> int:
        size = client.read()
        while buffered(client.connection) and not (client.closed_by or client.acts_now):
            size += client.read()
        self.received += size
        if client.closed_by:
            self._selector_of(client).unregister(client.connection)
            self._open -= 1
        elif isinstance(client, UnsteadySession) and client.acts_now:
            self._act(client)
        if size and self._waiting.pop(client, None) is not None and not client.finished:
            self._waiting[client] = self._now
        if client.finished:
            self._waiting.pop(client, None)
        return size

    def _act(self, session: UnsteadySession) -> None:
        """Make a session stall, leave, or leave and return, according to its habit."""
        self._selector_of(session).unregister(session.connection)
        kind = session.act()
        if kind == STALL:
            session.stalled = self._timing.stall
            due = time.monotonic() + self._timing.stall
            heapq.heappush(self._stalled, (due, session.user, session))
            return
        self._open -= 1
        if kind == RETURN:
            self._reconnect(session)

    def _reconnect(self, first: UnsteadySession) -> None:
        """Begin the second session of a user, and hold back the sources for the settle time.

        No event is sent before the user id is in the server's socket, so the session must
        receive every event sent from then on.
        """
        known = max(source.lines_begun for source in self._sources) + self._conduct.ahead
        try:
            connection = self._opened.enter_context(connect_client(self.address, first.user))
        except ConnectError as error:
            # During the play, this is a fault of the server and part of the verdict.
            lost = first.again(first.connection, known)
            lost.closed_by = str(error)
            self.sessions.append(lost)
            return
        self._held_until = time.monotonic() + self._timing.settle
        session = first.again(connection, known)
        self.sessions.append(session)
        self._selector_of(session).register(connection, selectors.EVENT_READ, session)
        self._open += 1
        if not session.finished:
            self._waiting[session] = self._now

    def _linger(self) -> None:
        """Wait for bytes beyond the expected ones."""
        for source in self._sources:
            self._watch(source, writable=False)
        deadline = time.monotonic() + self._timing.linger
        while self._open and (left := deadline - time.monotonic()) > 0:
            self._serve_ready(min(left, _UNTIMED_INTERVAL))

    def _watch(self, source: Source, *, writable: bool) -> None:
        key = self._selector.get_map().get(source.connection)
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writable else 0)
        if key is not None and key.events != events:
            self._selector.modify(source.connection, events, source)
