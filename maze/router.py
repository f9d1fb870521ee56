"""The router greenlet: takes what is ready, routes it, hands payloads to sessions.

Every back-pressure decision is made in this module and nowhere else. There is
one rule: **no batch is handed out while a session, or all sessions together,
hold more than they may.** With ``slow-client=wait`` the router waits; what is
ready piles up to the reorder limit, then the source is not read, then TCP tells
the source. With ``slow-client=disconnect`` the sessions that hold too much are
disconnected and nobody waits. A source is never paused for a gap: the missing
event is behind in the same stream.
"""

from __future__ import annotations

from collections.abc import Iterable

import gevent
from gevent.event import Event

from maze.core import Fanout, FollowGraph, Recipient, ReorderBuffer, Run
from maze.rejects import RejectLog
from maze.session import CloseReason, Payload, Session
from maze.settings import Settings

BATCH_EVENTS = 16_384
"""Events routed in one go. A chunk of 256 KiB holds about as many; more only adds latency."""


class Router:
    """Feeds sessions from the reorder buffer; one for the whole server."""

    def __init__(self, settings: Settings, rejects: RejectLog) -> None:
        self._settings = settings
        self._rejects = rejects
        self.reorder = ReorderBuffer(
            settings.first_sequence, settings.reorder_limit, settings.gap_policy
        )
        self.fanout = Fanout(FollowGraph())
        self.routed_events = 0
        self.queued_bytes = 0
        """bytes that wait for all sessions together, those that are shared counted once"""
        self._full: dict[Session, None] = {}
        self._work = Event()
        self._room = Event()
        self._source_may_read = Event()
        self._idle = Event()
        self._idle.set()

    # For the source port.

    def submit(self, runs: Iterable[Run], peer: str) -> None:
        """Put runs in order, and wait until the source may read on.

        Raises ReorderBufferFullError if a gap did not fill and the policy is to fail.
        """
        for run in runs:
            self._rejects.record(self.reorder.add(run), peer)
        self._rejects.record(self.reorder.enforce_limit(), peer)
        self._announce()
        if self._source_may_read.is_set():
            gevent.sleep(0)  # a source that never has to wait must not keep the others out
        else:
            self._source_may_read.wait()

    def end_stream(self, peer: str) -> None:
        """The last source has left: route all it sent, then forget the stream.

        With ``on-source-disconnect=keep`` nothing of this happens.
        """
        if self._settings.on_source_disconnect == "keep":
            return
        self._rejects.record(self.reorder.give_up_gaps(), peer)
        self._announce()
        self._idle.wait()
        self.fanout.graph.clear()
        self.reorder.reset()

    # For the client port.

    def connect(self, recipient: Recipient) -> None:
        """From the next batch on the recipient's session gets its payloads."""
        self.fanout.graph.connect(recipient)

    def disconnect(self, recipient: Recipient) -> None:
        """The recipient's session is gone; nobody waits for it any more."""
        self.fanout.graph.disconnect(recipient)
        self.has_room(recipient.session)

    def has_room(self, session: Session) -> None:
        """The session holds no more than it may."""
        if session in self._full:
            del self._full[session]
            if not self._full:
                self._room.set()

    def give_back(self, size: int) -> None:
        """That many queued bytes were sent, or belonged to sessions that are gone."""
        before = self.queued_bytes
        self.queued_bytes -= size
        if before > self._settings.total_buffer >= self.queued_bytes:
            self._room.set()

    # For the server.

    def drained(self, timeout: float) -> bool:
        """Wait until everything ready was handed out; False if that took longer."""
        return self._idle.wait(timeout)

    def run(self) -> None:
        """The router greenlet; it never returns."""
        while True:
            self._work.wait()
            self._work.clear()
            while self.reorder.ready:
                self._make_room()
                self._hand_out()
            self._source_may_read.set()
            self._idle.set()

    def _announce(self) -> None:
        if self.reorder.ready:
            self._idle.clear()
            self._work.set()
        self._let_source_read()

    def _let_source_read(self) -> None:
        waits_for_room = bool(self._full) or self._over_total()
        if not self.reorder.ready or (
            waits_for_room and self.reorder.ready < self._settings.reorder_limit
        ):
            self._source_may_read.set()
        else:
            self._source_may_read.clear()

    def _over_total(self) -> bool:
        return self.queued_bytes > self._settings.total_buffer

    def _make_room(self) -> None:
        if self._settings.slow_client == "disconnect":
            for session in list(self._full):
                session.close(CloseReason.SLOW)
            while self._over_total():
                fullest = max(self._sessions(), key=lambda session: session.queued_bytes)
                fullest.close(CloseReason.SLOW)
            return
        while self._full or self._over_total():
            self._room.clear()
            self._let_source_read()
            self._room.wait()

    def _sessions(self) -> Iterable[Session]:
        return (recipient.session for recipient in self.fanout.graph.recipients)

    def _hand_out(self) -> None:
        """Route one batch. Nothing here waits, so a batch reaches all sessions or none."""
        runs = self.reorder.take_ready(BATCH_EVENTS)
        limit = self._settings.client_buffer
        shared: Payload | None = None
        for session, data in self.fanout.route(runs):
            if shared is None or shared.data is not data:
                shared = Payload(data, self)
                self.queued_bytes += len(data)
            shared.holders += 1
            session.push(shared)
            if session.queued_bytes > limit:
                self._full[session] = None
        self.routed_events += sum(map(len, runs))
