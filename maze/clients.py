"""The client port: accepts clients, reads their ids, and keeps their sessions."""

import time
from collections import Counter, deque
from typing import Any

import gevent
from gevent import Greenlet
from gevent.event import Event
from gevent.socket import socket

from maze.core import MISSED, REACHED, IdLine, is_http_request, parse_id_line
from maze.gate import Gate
from maze.handshake import HandshakeError, HandshakeReason
from maze.net import current_greenlet, send_at_once
from maze.peer import Address, Peer
from maze.places import Places
from maze.registration import Registration
from maze.router import Router
from maze.session import CloseReason, Session
from maze.settings import Settings
from maze.slices import Slices
from maze.transport import Connection

HTTP_LINE_BYTES = 4 * 1024
"""Longest line recognised as an HTTP request line; a longer one is an id that is too long."""

CLOSED_AT_ONCE = 20
"""sessions closed before others run; one in a thousand audiences takes 0.2 ms"""


class ClientPort:
    """Accepts clients and keeps their sessions."""

    def __init__(
        self, settings: Settings, router: Router, registration: Registration, gate: Gate
    ) -> None:
        self.settings = settings
        self.router = router
        self._registration = registration
        self.gate = gate
        self.places = Places(settings)
        self.sessions: dict[Session, None] = {}
        self._handshakes: set[Greenlet[..., Any]] = set()
        self.handshake_rejects = gate.rejects.counts
        self.sessions_closed: Counter[CloseReason] = Counter()
        self.sent_bytes_of_closed = 0
        self.discarded_bytes = 0
        self._readable: deque[Session] = deque()
        self._reading = Slices(self._read_next)
        self._empty = Event()
        self._empty.set()
        self._finishing = False

    def handle(self, sock: socket, address: Address) -> None:
        """Serve one connection; the StreamServer spawns a greenlet for it."""
        if self._finishing:  # accepted before the port was closed, and served only now
            return
        peer = Peer(address)
        if not self.places.greet(address, peer):
            return
        send_at_once(sock)
        greenlet = current_greenlet()
        self._handshakes.add(greenlet)
        try:
            connection, deadline = self.gate.admit(sock, address, self.gate.deadline())
            id_line = self._handshake(connection, deadline)
            self.gate.check_user(connection, id_line.user)
        except HandshakeError as error:
            self.gate.rejects.record(error, peer)
            return
        except Exception:  # it costs this client and no other
            self.gate.rejects.fail(peer)
            return
        finally:
            self._handshakes.discard(greenlet)
            self._registration.forget(sock.fileno())
        if self._finishing:  # it ran on before the end of its greenlet reached it
            return
        if not self.places.has_room_for(
            id_line.user, self.router.session_count(id_line.user), peer
        ):
            return
        self.places.recognise(address)
        Session(id_line.user, connection, peer, self, _mark_for(id_line)).serve()

    def enter(self, session: Session) -> None:
        """A session has begun."""
        self.sessions[session] = None
        self._empty.clear()

    def read_soon(self, session: Session) -> None:
        """Have the session read what its client sent; a turn of the event loop reads for a few."""
        self._readable.append(session)
        self._reading.begin()

    def _read_next(self) -> bool:
        self._readable.popleft().read()
        return bool(self._readable)

    def leave(self, session: Session, reason: CloseReason) -> None:
        """A session has ended."""
        del self.sessions[session]
        self.sessions_closed[reason] += 1
        self.sent_bytes_of_closed += session.sent_bytes
        if not self.sessions:
            self._empty.set()

    def finish(self, timeout: float) -> None:
        """Let every session send what it has, for at most ``timeout`` seconds, and end it."""
        self._finishing = True
        for greenlet in list(self._handshakes):
            greenlet.kill(block=False)
        for session in list(self.sessions):
            session.finish()
        self._empty.wait(timeout)
        for count, session in enumerate(list(self.sessions), start=1):
            session.close(CloseReason.FINISHED if session.has_taken_all() else CloseReason.STOPPED)
            if not count % CLOSED_AT_ONCE:
                gevent.sleep(0)

    def _handshake(self, connection: Connection, deadline: float) -> IdLine:
        """Return the client's id line; discard what follows it in the same segment."""
        limit = self.settings.handshake_limit
        received = b""
        while b"\n" not in received:
            most = HTTP_LINE_BYTES if received[:1].isalpha() else limit
            if len(received.removesuffix(b"\r")) > most:
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
        self.discarded_bytes += len(rest)
        if is_http_request(line + b"\n", HTTP_LINE_BYTES):
            raise HandshakeError(HandshakeReason.HTTP, received)
        line = line.removesuffix(b"\r")
        if len(line) > limit:
            raise HandshakeError(HandshakeReason.TOO_LONG, received)
        id_line = parse_id_line(line)
        if id_line is None:
            raise HandshakeError(HandshakeReason.BAD_USER, received)
        return id_line


def _mark_for(id_line: IdLine) -> bytes:
    """Return the mark that begins the client's first position line; empty if it asked for none."""
    if id_line.position is not None:
        return MISSED  # the server keeps no events for clients that come back
    return REACHED if id_line.asks else b""
