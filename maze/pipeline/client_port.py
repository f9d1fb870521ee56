"""The client port: accepts clients and reads their id lines."""

from typing import Any

from gevent import Greenlet
from gevent.socket import socket

from maze.listener.access import Access
from maze.listener.connection_limits import ConnectionLimits
from maze.listener.handshake_rejects import HandshakeError
from maze.listener.id_line import read_id_line, receive_id_line
from maze.listener.registration_wait import Registration
from maze.net.peer import Address, Peer
from maze.net.sockets import current_greenlet, send_at_once
from maze.pipeline.registry import Sessions
from maze.pipeline.session import Session
from maze.settings.options import Settings


class ClientPort:
    """The port for user clients: performs their handshakes and serves their sessions."""

    def __init__(
        self, settings: Settings, sessions: Sessions, registration: Registration, access: Access
    ) -> None:
        self._limit = settings.handshake_limit
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
        if not self.limits.begin_handshake(sock, peer):
            return
        send_at_once(sock)
        greenlet = current_greenlet()
        self._handshakes.add(greenlet)
        try:
            deadline = self.access.deadline()
            if self.access.is_proxy(address):
                address = self.access.real_address(sock, address, deadline)
                peer = peer.at(address)
                if not self.limits.identify(sock, address, peer):
                    return
            connection, deadline = self.access.authorize(sock, address, deadline)
            received = receive_id_line(connection, self._limit, deadline)
            self._sessions.discarded_bytes += len(received.partition(b"\n")[2])
            id_line = read_id_line(received, self._limit)
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
        user = id_line.user
        # If it is finishing, ``close`` was called, but has not ended this greenlet yet.
        if self._finishing or not self.limits.has_room_for(
            user, self._sessions.count_of(user), peer
        ):
            return
        self.limits.end_handshake(sock)
        Session(id_line, connection, peer, self._sessions).serve()

    def close(self) -> None:
        """End all handshakes; no session begins from now on."""
        self._finishing = True
        for greenlet in list(self._handshakes):
            greenlet.kill(block=False)
