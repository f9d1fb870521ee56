"""Play the stream: send as the sources and receive as the clients, in one loop.

The loop uses non-blocking sockets and one thread, so that it is simpler than what it measures.
Every wait is bounded.
"""

import heapq
import logging
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from itertools import zip_longest

from simulator.errors import ConnectError
from simulator.play.acknowledgements import Acknowledgement, read_first
from simulator.play.client import Client
from simulator.play.conduct import PLAIN, Conduct, Timing
from simulator.play.connecting import Address, connect_client, connect_source
from simulator.play.peers import Peers
from simulator.play.preflight import check_admitted
from simulator.play.resending import ResendingSource
from simulator.play.restarting import RestartSchedule
from simulator.play.resuming import ResumingClient
from simulator.play.source import Source
from simulator.play.timestamps import Timestamps
from simulator.play.tls import buffered, hang_up
from simulator.play.unsteady import RETURN, STALL, UnsteadySession
from simulator.stream.oracle import Prepared

log = logging.getLogger("simulator")

LOST_SOURCE_TIMEOUT = 2.0
"""Maximum time without progress before a play with a lost source ends; seconds."""

_UNTIMED_INTERVAL = 0.01
"""Time between reads of clients that are not timed, while others are; seconds."""

_RECONNECT_INTERVAL = 0.05
"""Time between attempts of a resuming client to connect; seconds."""

_QUIET_SECONDS = 1.0
"""Time in which no resuming client receives anything before the sources leave; seconds. When they
leave, the server forgets positions, even of clients that are still catching up."""

_TICK = 0.1
"""Maximum time of a select; seconds. Timeouts are checked after each."""

Progress = Callable[[float, int, int], None]


class Play:
    """One play of the stream to connected clients. Its public fields hold the outcome."""

    def __init__(
        self,
        address: Address,
        users: Sequence[int],
        timing: Timing,
        conduct: Conduct = PLAIN,
        restart: Callable[[], bool] = lambda: False,
    ) -> None:
        """``restart`` kills the server, starts it again, and returns whether it is ready."""
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
        self.reconnects = 0
        self.resent_events = 0
        self.address = address
        self._users = users
        self._timing = timing
        self._conduct = conduct
        self._restart = restart
        self._open = 0
        # Clients that wait for a message, and since when. The longest wait is first.
        self._waiting: dict[Client | UnsteadySession, float] = {}
        self._waits_count_from = 0.0
        self._now = 0.0
        self._sources: list[Source] = []
        # Clients that read nothing for now, and until when: the stalled, and those away.
        self._paused: list[tuple[float, int, UnsteadySession | ResumingClient]] = []
        self._moved = self._resumed_at = 0.0
        self._held_until = 0.0
        self._next_untimed_read = 0.0

    def run(
        self,
        sources: Sequence[socket.socket],
        clients: Sequence[socket.socket],
        prepared: Prepared,
        progress: Progress,
        acknowledged: Sequence[Acknowledgement] = (),
    ) -> None:
        """Send and receive everything, then wait for the linger time.

        ``sources`` and ``clients`` are connections, one client for each user. ``acknowledged`` has
        what each source that sends again was told when it connected. Raise RefusedError if the
        server closes a source or every client before the first event.
        """
        with ExitStack() as stack:
            self._selector = stack.enter_context(selectors.DefaultSelector())
            self._untimed = stack.enter_context(selectors.DefaultSelector())
            self._opened = stack
            make = Peers(self._timing, self._conduct, self.source_timestamps, self._connect_source)
            for connection, chunks, first in zip_longest(sources, prepared.feeds, acknowledged):
                self._sources.append(make.source(connection, chunks, first))
                self._selector.register(connection, selectors.EVENT_READ, self._sources[-1])
            for user, connection, expected in zip(
                self._users, clients, prepared.expectations, strict=True
            ):
                client = make.client(user, connection, expected)
                if isinstance(client, Client):
                    self.clients.append(client)
                else:
                    self.sessions.append(client)
            expected_bytes = sum(expected.bytes for expected in prepared.expectations)
            self._restarts = RestartSchedule(self._conduct.restarts, expected_bytes)
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
            self.reconnects = sum(source.reconnects for source in self._sources)
            self.resent_events = sum(source.resent_events for source in self._sources)
            self.source_faults = [source.answered for source in self._sources if source.answered]

    @property
    def all_clients(self) -> list[Client | UnsteadySession]:
        """All clients that are or were connected, once for each connection."""
        return [*self.clients, *self.sessions]

    @property
    def all_disconnected(self) -> bool:
        """Whether no client is still connected."""
        return not self._open

    def _connect_source(self) -> tuple[socket.socket, Acknowledgement]:
        connection = self._opened.enter_context(connect_source(self.address))
        return connection, read_first(connection)

    def _renew(self, source: ResendingSource, now: float) -> None:
        """Connect a source whose connection broke, if it is time."""
        if source.connection.fileno() >= 0:
            with suppress(KeyError):
                self._selector.unregister(source.connection)
            hang_up(source.connection)
        if source.reconnect(now):
            self._selector.register(source.connection, selectors.EVENT_READ, source)
            source.read()  # bytes that TLS had buffered behind the first acknowledgement
        # Connecting may have taken time, in which the simulator read nothing.
        self._waits_count_from = time.monotonic()

    def _selector_of(self, client: Client | UnsteadySession) -> selectors.BaseSelector:
        timed = isinstance(client, Client) and client.timestamps is not None
        return self._selector if timed or not self._conduct.timed else self._untimed

    def _exchange(self, progress: Progress) -> None:
        """Play until everything is sent, and every client has received everything or given up."""
        began = self._moved = self._waits_count_from = time.monotonic()
        tick = _UNTIMED_INTERVAL if self._conduct.timed else _TICK
        while self._open and (
            self._waiting or not self._all_sent or self._restarts.is_reached(self.received)
        ):
            now = time.monotonic()
            if self._restarts.due(now, self.received) and not self._restart_server():
                break
            pause = self._schedule(now)
            if self._serve_ready(min(pause or tick, tick)):
                self._moved = self._now
            now = self._now
            if pause and (self._paused or not self._all_sent):
                # Clients may wait because the simulator paused: that time does not count.
                self._waits_count_from = now
            self._give_up(now)
            self.sent_events = sum(source.sent_events for source in self._sources)
            progress(now, self.sent_events, self.received)
            idle = now - self._moved
            if idle > LOST_SOURCE_TIMEOUT and any(s.cut_off for s in self._sources):
                log.debug("nothing moved for %.1f s", idle)
                break
        self.seconds = self._moved - began

    def _restart_server(self) -> bool:
        """Kill the server and start it again, then drop all connections to the dead one."""
        if not all(client.position or client.closed_by for client in self._resuming):
            return True  # nobody can resume without a position: wait for it
        self._restarts.done()
        if not self._restart():
            return False
        for client in self._resuming:
            if client.connected and not client.closed_by:
                self._selector_of(client).unregister(client.connection)
                self._waiting.pop(client, None)
                draw = self._restarts.draw
                self.received += client.break_off(read_rest=draw() < 0.5)
                if client.closed_by:
                    self._open -= 1
                    continue
                self._waiting[client] = time.monotonic()
                self._pause(client, draw() * self._timing.away)
        for source in self._sources:
            if isinstance(source, ResendingSource):
                source.break_off()
        return True

    @property
    def _resuming(self) -> list[ResumingClient]:
        return [client for client in self.clients if isinstance(client, ResumingClient)]

    def _give_up(self, now: float) -> None:
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
        if now - max(self._moved, self._waits_count_from) > timeout:
            for source in self._sources:
                source.give_up(timeout)

    @property
    def _all_sent(self) -> bool:
        return all(source.done for source in self._sources)

    def _schedule(self, now: float) -> float:
        """Watch what may move now; return the seconds until more may, or 0 if nothing is paused."""
        pauses = []
        while self._paused and self._paused[0][0] <= now:
            client = heapq.heappop(self._paused)[2]
            if isinstance(client, ResumingClient):
                self._resume(client, now)
                continue
            self._selector_of(client).register(client.connection, selectors.EVENT_READ, client)
            self._receive(client)  # bytes that TLS had buffered before the stall
        if self._paused:
            pauses.append(self._paused[0][0] - now)
        for source in self._sources:
            if isinstance(source, ResendingSource) and source.broken:
                self._renew(source, now)
            pause = max(source.wait(now), self._held_until - now)
            if not source.done and pause:
                pauses.append(pause)
            self._watch(source, writable=source.writable and not pause)
        if self._conduct.leave and self._all_sent and self._may_leave(now):
            # All together: if one left before another was admitted, the stream would end there.
            for source in self._sources:
                source.leave()
        return min(pauses, default=0.0)

    def _may_leave(self, now: float) -> bool:
        """Whether all resuming clients are here, caught up, and stay from then on."""
        resuming = self._resuming
        here = all(client.connected or client.closed_by for client in resuming)
        idle = now - max(self._moved, self._resumed_at)
        if resuming and (not here or idle < _QUIET_SECONDS):
            return False
        if self._restarts.pending:
            self._restarts.hasten()  # what waits behind a gap comes only after the sources left
            return False
        for client in resuming:
            client.stay()
        return True

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
            if events & selectors.EVENT_WRITE and source.writable:
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
        elif client.acts_now:
            self._act(client)
        if size and self._waiting.pop(client, None) is not None and not client.finished:
            self._waiting[client] = self._now
        if client.finished:
            self._waiting.pop(client, None)
        return size

    def _act(self, client: Client | UnsteadySession) -> None:
        """Make a client stall, leave, or leave and return, as its habit says."""
        self._selector_of(client).unregister(client.connection)
        if isinstance(client, ResumingClient):
            self._pause(client, client.leave())
            return
        assert isinstance(client, UnsteadySession)
        kind = client.act()
        if kind == STALL:
            client.stalled = self._timing.stall
            self._pause(client, self._timing.stall)
            return
        self._open -= 1
        if kind == RETURN:
            self._reconnect(client)

    def _pause(self, client: UnsteadySession | ResumingClient, seconds: float) -> None:
        due = time.monotonic() + seconds
        if isinstance(client, ResumingClient):
            client.back_by = due + self._timing.timeout
        heapq.heappush(self._paused, (due, client.user, client))

    def _resume(self, client: ResumingClient, now: float) -> None:
        """Connect a client that was away, with its position. Try again if that fails."""
        try:
            connection = connect_client(self.address, client.user, asking=client.request)
        except ConnectError as error:
            if now < client.back_by:
                heapq.heappush(self._paused, (now + _RECONNECT_INTERVAL, client.user, client))
                return
            client.lose(str(error))
            self._waiting.pop(client, None)
            self._open -= 1
            return
        self._opened.enter_context(connection)
        client.resume(connection)
        self._selector_of(client).register(connection, selectors.EVENT_READ, client)
        self._waiting.pop(client, None)
        self._waiting[client] = self._resumed_at = now

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
        if source.connection.fileno() < 0:
            return  # it has to connect again
        key = self._selector.get_map().get(source.connection)
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writable else 0)
        if key is not None and key.events != events:
            self._selector.modify(source.connection, events, source)
