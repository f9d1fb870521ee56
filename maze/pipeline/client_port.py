"""The client port: accepts clients and reads their id lines."""

import time
from typing import Any

from gevent import Greenlet
from gevent.socket import socket

from maze.core import MISSED, REACHED, IdLine, is_http_request, parse_id_line
from maze.listener.access import Access
from maze.listener.connection_limits import ConnectionLimits
from maze.listener.refusals import HandshakeError, HandshakeReason
from maze.listener.registration_wait import Registration
from maze.net.connection import Connection
from maze.net.peer import Address, Peer
from maze.net.sockets import current_greenlet, send_at_once
from maze.pipeline.registry import Sessions
from maze.pipeline.session import Session
from maze.settings.options import Settings

HTTP_LINE_BYTES = 4 * 1024
"""Maximum length of a line recognised as an HTTP request line. A longer one is rejected as an id
that is too long."""


class ClientPort:
    """The port for user clients: performs their handshakes and serves their sessions."""

    def __init__(
        self, settings: Settings, sessions: Sessions, registration: Registration, access: Access
    ) -> None:
        self.settings = settings
        self._sessions = sessions
        self._registration = registration
        self.access = access
        self.limits = ConnectionLimits(settings)
        self._handshakes: set[Greenlet[..., Any]] = set()
        self._finishing = False

    def handle(self, sock: socket, address: Address) -> None:
        """Serve one connection. The listener calls this in a greenlet of its own."""
        if self._finishing:  # the connection was accepted before the port closed
            return
        peer = Peer(address)
        if not self.limits.begin_handshake(address, peer):
            return
        send_at_once(sock)
        greenlet = current_greenlet()
        self._handshakes.add(greenlet)
        try:
            connection, deadline = self.access.authorize(sock, address)
            id_line = self._handshake(connection, deadline)
            self.access.check_user(connection, id_line.user)
        except HandshakeError as error:
            self.access.rejects.record(error, peer)
            return
        except Exception:  # affects this connection only
            self.access.rejects.fail(peer)
            return
        finally:
            self._handshakes.discard(greenlet)
            self._registration.unwatch(sock.fileno())
        if self._finishing:  # ``close`` was called, but has not ended this greenlet yet
            return
        user = id_line.user
        if not self.limits.has_room_for(user, self._sessions.count_of(user), peer):
            return
        self.limits.end_handshake(address)
        Session(user, connection, peer, self._sessions, _mark_for(id_line)).serve()

    def close(self) -> None:
        """End all handshakes; no session begins from now on."""
        self._finishing = True
        for greenlet in list(self._handshakes):
            greenlet.kill(block=False)

    def _handshake(self, connection: Connection, deadline: float) -> IdLine:
        """Return the client's id line; discard what was received after it."""
        limit = self.settings.handshake_limit
        received = b""
        while b"\n" not in received:
            if len(received.removesuffix(b"\r")) > _max_line_bytes(received, limit):
                raise HandshakeError(HandshakeReason.TOO_LONG, received)
            connection.settimeout(max(0.0, deadline - time.monotonic()))
            try:
                data = connection.recv(limit + 2)
            except (TimeoutError, BlockingIOError):
                raise HandshakeError(HandshakeReason.TIMEOUT, received) from None
            except OSError:
                data = b""
            if not data:
                raise HandshakeError(HandshakeReason.LEFT, received)
            received += data
        line, _, rest = received.partition(b"\n")
        self._sessions.discarded_bytes += len(rest)
        line = line.removesuffix(b"\r")
        if len(line) <= _max_line_bytes(line, limit) and is_http_request(line + b"\n", len(line)):
            raise HandshakeError(HandshakeReason.HTTP, received)
        if len(line) > limit:
            raise HandshakeError(HandshakeReason.TOO_LONG, received)
        id_line = parse_id_line(line)
        if id_line is None:
            raise HandshakeError(HandshakeReason.BAD_USER, received)
        return id_line


def _max_line_bytes(start: bytes, limit: int) -> int:
    """Return the maximum length of a line, given its start: a letter may begin an HTTP request."""
    return HTTP_LINE_BYTES if start[:1].isalpha() else limit


def _mark_for(id_line: IdLine) -> bytes:
    """Return the mark that begins the client's first position line; empty if it asked for none."""
    if id_line.position is not None:
        return MISSED  # no events are kept for clients that reconnect
    return REACHED if id_line.asks else b""
