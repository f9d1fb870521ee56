"""A session: one connected user client, and its writer.

The router pushes payloads into the outbox and has them flushed: what the kernel
takes at once is sent there and then, without a switch of greenlets, which costs
more than a short send itself. Only where the kernel's buffer is full the
session's own greenlet, the writer, wakes, waits for room and sends the rest.

What the client says after its id is read and thrown away by a watcher of the
event loop, which also notices that the client left; so an idle session costs
no second greenlet.
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

from maze.net.connection import Connection
from maze.net.peer import Peer
from maze.net.sockets import current_greenlet, has_vanished
from maze.pipeline.implementation import Outbox, QueuedMemory

log = structlog.get_logger()

STALL_CHECKS = 4
"""how often within the stall timeout is asked what a client has acknowledged"""
MAX_POLL_SECONDS = 0.05
"""seconds between two questions whether a client has all that was sent before the end"""


class CloseReason(StrEnum):
    """Why a session ended."""

    LEFT = "left"
    """the client closed its connection, or its sending half"""
    RESET = "reset"
    """the connection broke"""
    VANISHED = "vanished"
    """the client, or the way to it, is not there any more: it does not answer"""
    STALLED = "stalled"
    """the client took nothing for the stall timeout"""
    HOLDING = "holding"
    """the client held up the others for longer than the hold timeout"""
    SLOW = "slow"
    """too much waited for the client, and the policy is to disconnect it"""
    FINISHED = "finished"
    """the server stopped, and the client had taken all it was to get"""
    STOPPED = "stopped"
    """the server stopped before the client had taken all it was to get"""
    OPERATOR = "operator"
    """an operator disconnected it, through the admin port"""
    FAILED = "failed"
    """by a fault of the server, whose traceback is in the log"""


WARNING_REASONS = {
    CloseReason.STALLED,
    CloseReason.HOLDING,
    CloseReason.SLOW,
    CloseReason.STOPPED,
    CloseReason.OPERATOR,
}
"""the server ended the session and bytes may be lost: logged as a warning"""


class StalledError(Exception):
    """The client took nothing for the stall timeout."""


class Registry(Protocol):
    """What a session needs of whoever keeps the sessions."""

    queued_memory: QueuedMemory
    stall_timeout: float
    discarded_bytes: int

    def enter(self, session: Session, /) -> None:
        """The session has begun: from now on it gets its payloads."""

    def leave(self, session: Session, reason: CloseReason, /) -> None:
        """The session has ended."""

    def on_progress(self, session: Session, /) -> None:
        """The session has sent something."""

    def read_soon(self, session: Session, /) -> None:
        """Have the session read what its client sent."""


class Session(Outbox):
    """One connected user client."""

    __slots__ = (
        "_closed",
        "_fin",
        "_finishing",
        "_greenlet",
        "_registry",
        "_watcher",
        "_woken",
        "mark",
        "opened_at",
        "peer",
    )

    def __init__(
        self, user: int, connection: Connection, peer: Peer, registry: Registry, mark: bytes = b""
    ) -> None:
        super().__init__(user, connection, SimpleQueue(), registry.queued_memory)
        self.peer = peer
        self.mark = mark
        """the mark that begins the client's first position line; empty if it did not ask for one"""
        self.opened_at = monotonic()
        self._registry = registry
        self._greenlet = current_greenlet()
        self._watcher = gevent.get_hub().loop.io(connection.descriptor, 1)
        self._woken = Event()
        self._finishing = False
        self._fin = 0
        self._closed = False

    def serve(self) -> None:
        """Send whatever is pushed, until the session is closed."""
        self._registry.enter(self)
        log.debug("session_opened", user=self.user, client=self.peer)
        try:
            self._watcher.start(self._on_readable)
            if not self.connection.direct:
                # What came together with the id may be in no buffer of the kernel's.
                gevent.get_hub().loop.run_callback(self._on_readable)
            if self.queued_bytes:
                self._woken.set()
            self._write()
        except GreenletExit:
            self.close(CloseReason.STOPPED)  # is nothing if it was closed from elsewhere
        except Exception as error:
            self.on_error(error)

    def close_when_sent(self) -> None:
        """Close the session once all that is queued is sent."""
        self._finishing = True
        self._woken.set()

    def taken_bytes(self) -> int:
        """How much the client's system has acknowledged; with TLS a little less."""
        return self.sent_bytes - self._unacknowledged_bytes()

    def has_taken_all(self) -> bool:
        """Whether the client's system has acknowledged all that was queued."""
        if self.queued_bytes:
            return False
        return self._unacknowledged_bytes() <= self._fin

    def close(self, reason: CloseReason, **details: object) -> None:
        """End the session now, and free its queue; may be called from anywhere, and twice."""
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
        """Wake the writer."""
        self._woken.set()

    def on_error(self, error: Exception) -> None:
        """End the session for an error, which costs this client and no other."""
        if isinstance(error, StalledError):
            self.close(CloseReason.STALLED)
        elif isinstance(error, OSError):
            reason = CloseReason.VANISHED if has_vanished(error) else CloseReason.RESET
            self.close(reason, error=error.strerror)
        else:
            log.error("session_failed", user=self.user, client=self.peer, exc_info=error)
            self.close(CloseReason.FAILED)

    def _write(self) -> None:
        """Send what the kernel did not take at once, until the session is to finish."""
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
        """Tell the client that no more comes, and wait until its system has all that was sent.

        Closed before, what is on the way is lost if the client says anything meanwhile.
        """
        with suppress(OSError):  # reset already: the loop finds out
            self.connection.shutdown()
            self._fin = 1  # the end itself is acknowledged like a byte
        pause = 0.001
        while not self.has_taken_all():
            gevent.sleep(pause)
            pause = min(2 * pause, MAX_POLL_SECONDS)

    def _unacknowledged_bytes(self) -> int:
        """What was sent and is on its way; of a session that has ended that is nothing."""
        return 0 if self._closed else self.connection.unacknowledged_bytes()

    def _wait_until_writable(self) -> None:
        """Wait for room; StalledError if the client takes nothing for the stall timeout.

        The kernel reports room only once a third of the send buffer is free, so a client
        that takes a little all the time is known by what it has acknowledged.
        """
        step = self._registry.stall_timeout / STALL_CHECKS
        checks = 0
        unacknowledged = self.connection.unacknowledged_bytes()
        while checks < STALL_CHECKS:
            try:
                self.connection.wait_writable(step)
            except TimeoutError:
                before, unacknowledged = unacknowledged, self.connection.unacknowledged_bytes()
                checks = checks + 1 if unacknowledged == before else 0
            else:
                return
        raise StalledError

    def _on_readable(self) -> None:
        """Called by the event loop when the client sent something, or left.

        Thousands may leave in one turn of the loop, so reading is left to the registry.
        """
        if not self._closed:
            self._watcher.stop()
            self._registry.read_soon(self)

    def read(self) -> None:
        """Read and discard what the client sent; close the session if it left."""
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
            if self.connection.unsent_bytes and not self.writing:  # the transport's own answers
                self.writing = True
                self.on_blocked()
