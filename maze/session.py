"""A session: one connected user client, its queue and its writer.

Payloads come from the router, which must never wait, and leave through the
writer, which does nothing else. What the client says after its id is read and
thrown away by a watcher of the event loop, which also notices that the client
left; so an idle session costs no second greenlet.
"""

from __future__ import annotations

import os
from enum import StrEnum
from typing import TYPE_CHECKING

import gevent
import structlog
from gevent.queue import SimpleQueue
from gevent.socket import socket

from maze.core import Recipient
from maze.net import current_greenlet

if TYPE_CHECKING:
    from maze.clients import ClientPort
    from maze.router import Router

log = structlog.get_logger()

SEND_BYTES = 48 * 1024
"""Payloads are joined up to about this size: a send costs 4 us whatever it carries
up to some 50 KB, and more from 64 KiB on (measured on loopback)."""
DISCARD_BYTES = 64 * 1024


class CloseReason(StrEnum):
    """Why a session ended."""

    LEFT = "left"
    """the client closed its connection, or its sending half"""
    RESET = "reset"
    """the connection broke"""
    STALLED = "stalled"
    """the client took nothing for the stall timeout"""
    SLOW = "slow"
    """too much waited for the client, and the policy is to disconnect it"""
    FINISHED = "finished"
    """the server stopped, and the client had taken all it was to get"""
    STOPPED = "stopped"
    """the server stopped before the client had taken all it was to get"""
    FAILED = "failed"
    """by a fault of the server, whose traceback is in the log"""


class Payload:
    """Bytes that wait in the queues of one or more sessions; counted once."""

    __slots__ = ("_router", "data", "holders")

    def __init__(self, data: bytes, router: Router) -> None:
        self.data = data
        self.holders = 0
        self._router = router

    def release(self) -> None:
        """One session needs it no longer."""
        self.holders -= 1
        if not self.holders:
            self._router.give_back(len(self.data))


LOUD = {CloseReason.STALLED, CloseReason.SLOW, CloseReason.STOPPED}
"""the server ended the session and bytes were lost: logged as a warning"""


class Session:
    """One connected user client."""

    def __init__(self, user: int, sock: socket, peer: str, port: ClientPort) -> None:
        self.user = user
        self.peer = peer
        self.queued_bytes = 0
        self.sent_bytes = 0
        self._sock = sock
        self._port = port
        self._queue: SimpleQueue[Payload | None] = SimpleQueue()
        self._recipient = Recipient(user, self)
        self._greenlet = current_greenlet()
        self._watcher = gevent.get_hub().loop.io(sock.fileno(), 1)
        self._closed_for: CloseReason | None = None

    def serve(self) -> None:
        """Send whatever is pushed, until the session is closed."""
        self._port.enter(self)
        self._port.router.connect(self._recipient)
        self._watcher.start(self._discard)
        log.debug("session_opened", user=self.user, client=self.peer)
        try:
            self._write()
        except TimeoutError:
            self.close(CloseReason.STALLED)
        except OSError as error:
            self.close(CloseReason.RESET, error=error.strerror)
        finally:
            self.close(CloseReason.FAILED)  # by an error of ours, whose traceback follows

    def push(self, payload: Payload) -> None:
        """Queue a payload; never waits."""
        self.queued_bytes += len(payload.data)
        self._queue.put(payload)

    def finish(self) -> None:
        """Close the session once everything queued is sent."""
        self._queue.put(None)

    def close(self, reason: CloseReason, **details: object) -> None:
        """End the session now, and free its queue; may be called from anywhere, and twice."""
        if self._closed_for is not None:
            return
        self._closed_for = reason
        self._watcher.stop()
        self._watcher.close()
        lost_bytes = self.queued_bytes
        while not self._queue.empty():
            if payload := self._queue.get():
                self._release(payload)
        self._port.router.disconnect(self._recipient)
        self._port.leave(self, reason)
        write = log.warning if reason in LOUD else log.debug
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

    def _write(self) -> None:
        """Join what has queued up and send it; at once when idle, in large pieces when busy."""
        limit = self._port.settings.client_buffer
        self._sock.settimeout(self._port.settings.stall_timeout)
        queue = self._queue
        while (payload := queue.get()) is not None:
            payloads = [payload]
            size = len(payload.data)
            while size < SEND_BYTES and not queue.empty():
                following = queue.get()
                if following is None:
                    queue.put(None)
                    break
                payloads.append(following)
                size += len(following.data)
            try:
                self._send(_joined(payloads))
            finally:
                for each in payloads:
                    self._release(each)
            if self.queued_bytes <= limit:
                self._port.router.has_room(self)
        self.close(CloseReason.FINISHED)

    def _send(self, data: bytes) -> None:
        """Send it all; TimeoutError if the client takes nothing for the stall timeout."""
        sent = self._sock.send(data)
        self.sent_bytes += sent
        rest = memoryview(data)[sent:]
        while rest:
            sent = self._sock.send(rest)
            self.sent_bytes += sent
            rest = rest[sent:]

    def _release(self, payload: Payload) -> None:
        self.queued_bytes -= len(payload.data)
        payload.release()

    def _discard(self) -> None:
        """Called by the event loop when the client said something, or left."""
        try:
            received = os.read(self._sock.fileno(), DISCARD_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self.close(CloseReason.RESET, error=error.strerror)
            return
        if received:
            self._port.discarded_bytes += len(received)
        else:
            self.close(CloseReason.LEFT)


def _joined(payloads: list[Payload]) -> bytes:
    if len(payloads) == 1:
        return payloads[0].data
    return b"".join([payload.data for payload in payloads])
