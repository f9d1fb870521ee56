"""A session: one connected user client, and its writer.

The router pushes payloads into the outbox and flushes it. What the kernel accepts at once is sent
without a switch of greenlets, which would cost more than a short send. When the kernel's buffer is
full, the session's own greenlet, the writer, wakes, waits until the socket is writable, and sends
the rest.

A watcher of the event loop reports data that the client sends after its id, and the end of its
connection. The data is read and discarded. An idle session therefore needs no second greenlet.
"""

from __future__ import annotations

from contextlib import suppress
from enum import StrEnum
from time import monotonic
from typing import Protocol

import gevent
import structlog
from gevent import GreenletExit
from gevent.event import Event
from gevent.queue import SimpleQueue

from maze.core import IdLine
from maze.net.connection import Connection
from maze.net.peer import Peer
from maze.net.sockets import current_greenlet, has_vanished
from maze.pipeline.implementation import Outbox, QueuedMemory

log = structlog.get_logger()

STALL_CHECKS = 4
"""Checks within the stall timeout of how much a client has acknowledged."""
MAX_POLL_SECONDS = 0.05
"""Longest pause between two checks whether a client has acknowledged everything, before its session
ends."""


class CloseReason(StrEnum):
    """Why a session ended."""

    LEFT = "left"
    """The client closed its connection, or its sending half."""
    RESET = "reset"
    """The connection broke."""
    VANISHED = "vanished"
    """The client no longer answers: its host or the network path to it is gone."""
    STALLED = "stalled"
    """The client took nothing for the stall timeout."""
    HOLDING = "holding"
    """The client held up the others for longer than the hold timeout."""
    BEHIND = "behind"
    """Events for the client were dropped before they were sent."""
    SLOW = "slow"
    """The session exceeded a bound, and the policy for slow clients is to disconnect them."""
    FINISHED = "finished"
    """The server stopped after the client had taken everything queued for it."""
    STOPPED = "stopped"
    """The server stopped before the client had taken everything queued for it."""
    OPERATOR = "operator"
    """An operator disconnected the client through the admin port."""
    FAILED = "failed"
    """An exception ended the session; the traceback is in the log."""


WARNING_REASONS = {
    CloseReason.STALLED,
    CloseReason.HOLDING,
    CloseReason.BEHIND,
    CloseReason.SLOW,
    CloseReason.STOPPED,
    CloseReason.OPERATOR,
}
"""Reasons logged as a warning: the server ended the session, and bytes may be lost."""


class StalledError(Exception):
    """The client took nothing for the stall timeout."""


class Registry(Protocol):
    """The part of the registry of sessions that a session uses."""

    queued_memory: QueuedMemory
    stall_timeout: float
    discarded_bytes: int

    def enter(self, session: Session, /) -> None:
        """Add a session that begins."""

    def leave(self, session: Session, reason: CloseReason, /) -> None:
        """Remove a session that has ended."""

    def on_progress(self, session: Session, /) -> None:
        """Called when the session has sent something."""

    def read_soon(self, session: Session, /) -> None:
        """Schedule a call of the session's ``read``."""


class Session(Outbox):
    """One connected user client. The greenlet that creates it also runs ``serve``."""

    __slots__ = (
        "_closed",
        "_fin_bytes",
        "_finishing",
        "_greenlet",
        "_registry",
        "_watcher",
        "_woken",
        "asks",
        "opened_at",
        "peer",
        "position",
    )

    def __init__(
        self, id_line: IdLine, connection: Connection, peer: Peer, registry: Registry
    ) -> None:
        super().__init__(id_line.user, connection, SimpleQueue(), registry.queued_memory)
        self.peer = peer
        self.asks = id_line.asks
        """Whether the client asked for positions."""
        self.position = id_line.position
        """The position from which the client wants to continue, if it sent one."""
        self.opened_at = monotonic()
        self._registry = registry
        self._greenlet = current_greenlet()
        self._watcher = gevent.get_hub().loop.io(connection.descriptor, 1)
        self._woken = Event()
        self._finishing = False
        self._fin_bytes = 0
        self._closed = False

    def serve(self) -> None:
        """Register the session, then send what is pushed until the session is closed."""
        log.debug("session_opened", user=self.user, client=self.peer)
        self._registry.enter(self)
        if self._closed:  # the registry could not take it
            return
        try:
            self._watcher.start(self._on_readable)
            if not self.connection.direct:
                # Data that came with the id may already be decrypted, and no longer in the socket.
                gevent.get_hub().loop.run_callback(self._on_readable)
            if self.queued_bytes:
                self._woken.set()
            self._write()
        except GreenletExit:
            self.close(CloseReason.STOPPED)  # does nothing if another greenlet closed the session
        except Exception as error:
            self.on_error(error)

    def close_when_sent(self) -> None:
        """Close the session once everything queued is sent and acknowledged."""
        self._finishing = True
        self._woken.set()

    def taken_bytes(self) -> int:
        """Return how many bytes the client's kernel has acknowledged; over TLS, a little fewer."""
        return self.sent_bytes - self._unacknowledged_bytes()

    def has_taken_all(self) -> bool:
        """Return whether the client's kernel has acknowledged everything queued."""
        if self.queued_bytes:
            return False
        return self._unacknowledged_bytes() <= self._fin_bytes

    def close(self, reason: CloseReason, **details: object) -> None:
        """End the session now and free its queue.

        Any greenlet may call this. Further calls do nothing.
        """
        if self._closed:
            return
        self._closed = True
        self._watcher.stop()
        self._watcher.close()
        lost_bytes = self.discard()
        self._registry.leave(self, reason)
        write = log.warning if reason in WARNING_REASONS else log.debug
        write(
            "session_closed",
            reason=reason.value,
            user=self.user,
            client=self.peer,
            sent_bytes=self.sent_bytes,
            lost_bytes=lost_bytes,
            **details,
        )
        if self._greenlet is not current_greenlet():
            self._greenlet.kill(block=False)

    def on_blocked(self) -> None:
        """Wake the writer. Called when the kernel accepts no more for now."""
        self._woken.set()

    def on_error(self, error: Exception) -> None:
        """End the session because of an error, which affects no other session."""
        if isinstance(error, StalledError):
            self.close(CloseReason.STALLED)
        elif isinstance(error, OSError):
            reason = CloseReason.VANISHED if has_vanished(error) else CloseReason.RESET
            self.close(reason, error=error.strerror)
        else:
            log.error("session_failed", user=self.user, client=self.peer, exc_info=error)
            self.close(CloseReason.FAILED)

    def _write(self) -> None:
        """Send what the kernel did not accept at once; finish after ``close_when_sent``."""
        while not self._finishing:
            self._woken.wait()
            self._woken.clear()
            self.writing = True
            while not self.advance():
                self._registry.on_progress(self)
                self._wait_until_writable()
            self.writing = False
            self._registry.on_progress(self)
        self._end()
        self.close(CloseReason.FINISHED)

    def _end(self) -> None:
        """Shut the connection down and wait until the client's kernel has acknowledged everything.

        If the connection were closed earlier, bytes in flight would be lost as soon as the client
        sends something.
        """
        with suppress(OSError):  # the connection is reset; ``read`` closes the session
            self.connection.shutdown()
            self._fin_bytes = 1  # a FIN is acknowledged like a byte
        poll_seconds = 0.001
        while not self.has_taken_all():
            gevent.sleep(poll_seconds)
            poll_seconds = min(2 * poll_seconds, MAX_POLL_SECONDS)

    def _unacknowledged_bytes(self) -> int:
        """Return how many bytes sent are not acknowledged yet; 0 once the session has ended."""
        return 0 if self._closed else self.connection.unacknowledged_bytes()

    def _wait_until_writable(self) -> None:
        """Wait until the kernel accepts more.

        Raise StalledError if the client takes nothing for the stall timeout. The kernel reports a
        socket as writable only once a third of its send buffer is free, so a client that is slow
        but not stalled is recognised by what it has acknowledged.
        """
        step_seconds = self._registry.stall_timeout / STALL_CHECKS
        checks = 0
        unacknowledged = self.connection.unacknowledged_bytes()
        while checks < STALL_CHECKS:
            try:
                self.connection.wait_writable(step_seconds)
            except TimeoutError:
                before, unacknowledged = unacknowledged, self.connection.unacknowledged_bytes()
                checks = checks + 1 if unacknowledged == before else 0
            else:
                return
        raise StalledError

    def _on_readable(self) -> None:
        """Called by the event loop when the client has sent something or has left.

        Thousands of clients may leave in one turn of the loop, so the registry schedules the read.
        """
        if not self._closed:
            self._watcher.stop()
            self._registry.read_soon(self)

    def read(self) -> None:
        """Read and discard what the client has sent; close the session if the client has left."""
        if self._closed:
            return
        try:
            size = self.connection.discard()
        except BlockingIOError:
            size = 0
        except Exception as error:
            self.on_error(error)
            return
        if size < 0:
            finished = self._finishing and self.has_taken_all()
            self.close(CloseReason.FINISHED if finished else CloseReason.LEFT)
        else:
            self._registry.discarded_bytes += size
            self._watcher.start(self._on_readable)
            if self.connection.unsent_bytes and not self.writing:  # TLS may have replied to it
                self.writing = True
                self.on_blocked()
