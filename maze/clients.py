"""The client port: accepts clients, reads their ids, and keeps their sessions."""

import time
from collections import Counter
from enum import StrEnum
from typing import Any

import structlog
from gevent import Greenlet
from gevent.event import Event
from gevent.socket import socket

from maze.core import parse_number
from maze.logs import Throttle, shown
from maze.net import Address, current_greenlet, peer_name
from maze.places import Places
from maze.router import Router
from maze.session import CloseReason, Session
from maze.settings import Settings

log = structlog.get_logger()


class HandshakeReason(StrEnum):
    """Why a client was not let in."""

    BAD_USER = "bad_user"
    """the line is not a user id"""
    TOO_LONG = "too_long"
    """the line is longer than the limit"""
    TIMEOUT = "timeout"
    """the line did not come in time"""
    LEFT = "left"
    """the client left before it had sent its line"""


class HandshakeError(Exception):
    """A client did not send a user id; carries the reason and what it sent."""

    def __init__(self, reason: HandshakeReason, received: bytes) -> None:
        super().__init__(reason)
        self.reason = reason
        self.received = received


class ClientPort:
    """Accepts clients and keeps their sessions."""

    def __init__(self, settings: Settings, router: Router) -> None:
        self.settings = settings
        self.router = router
        self.places = Places(settings)
        self.sessions: dict[Session, None] = {}
        self._handshakes: set[Greenlet[..., Any]] = set()
        self.handshake_rejects: Counter[HandshakeReason] = Counter()
        self.sessions_closed: Counter[CloseReason] = Counter()
        self.discarded_bytes = 0
        self._throttle = Throttle()
        self._empty = Event()
        self._empty.set()

    def handle(self, sock: socket, address: Address) -> None:
        """Serve one connection; the StreamServer spawns a greenlet for it."""
        if not self.places.greet(address):
            return
        peer = peer_name(address)
        greenlet = current_greenlet()
        self._handshakes.add(greenlet)
        try:
            user = self._handshake(sock)
        except HandshakeError as error:
            self._reject(error, peer)
            return
        finally:
            self._handshakes.discard(greenlet)
        if not self.router.has_room_for(user):
            self.places.refuse_for_follows(address)
            return
        self.places.recognise(address)
        Session(user, sock, peer, self).serve()

    def enter(self, session: Session) -> None:
        """A session has begun."""
        self.sessions[session] = None
        self._empty.clear()

    def leave(self, session: Session, reason: CloseReason) -> None:
        """A session has ended."""
        del self.sessions[session]
        self.sessions_closed[reason] += 1
        if not self.sessions:
            self._empty.set()

    def finish(self, timeout: float) -> None:
        """Let every session send what it has, for at most ``timeout`` seconds, and end it."""
        for greenlet in list(self._handshakes):
            greenlet.kill(block=False)
        for session in list(self.sessions):
            session.finish()
        self._empty.wait(timeout)
        for session in list(self.sessions):
            session.close(CloseReason.STOPPED)

    def _handshake(self, sock: socket) -> int:
        """The user id the client sends; what follows it in the same segment is discarded."""
        limit = self.settings.handshake_limit
        received = b""
        deadline = time.monotonic() + self.settings.handshake_timeout
        while b"\n" not in received:
            if len(received.removesuffix(b"\r")) > limit:
                raise HandshakeError(HandshakeReason.TOO_LONG, received)
            sock.settimeout(max(0.0, deadline - time.monotonic()))
            try:
                data = sock.recv(limit + 2)
            except (TimeoutError, BlockingIOError):
                raise HandshakeError(HandshakeReason.TIMEOUT, received) from None
            except OSError:
                data = b""
            if not data:
                raise HandshakeError(HandshakeReason.LEFT, received)
            received += data
        line, _, rest = received.partition(b"\n")
        self.discarded_bytes += len(rest)
        line = line.removesuffix(b"\r")
        if len(line) > limit:
            raise HandshakeError(HandshakeReason.TOO_LONG, received)
        user = parse_number(line)
        if user is None:
            raise HandshakeError(HandshakeReason.BAD_USER, received)
        return user

    def _reject(self, error: HandshakeError, peer: str) -> None:
        self.handshake_rejects[error.reason] += 1
        suppressed = self._throttle.admit(error.reason)
        if suppressed is not None:
            write = log.debug if error.reason is HandshakeReason.LEFT else log.warning
            write(
                "handshake_rejected",
                reason=error.reason.value,
                client=peer,
                received=shown(error.received),
                **({"suppressed": suppressed} if suppressed else {}),
            )
