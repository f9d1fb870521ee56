"""One listening port: gevent's stream server with connection limits and keepalive probes.

A connection over the limits is closed at once. The kernel probes silent peers, so that a peer
that has vanished is detected.

When accept fails, gevent waits longer each time before it tries again, and writes a traceback to
stderr each time. Here, if accept fails because the process lacks descriptors or memory, accepting
pauses for 0.1 s, at most one line a second is logged, and connected peers are still served. If
accept fails because the port itself is broken, the server stops. This module must not depend on
what a connection is for.
"""

import contextlib
import errno
import socket as system
from collections.abc import Callable
from typing import cast

import gevent
import structlog
from gevent.server import StreamServer
from gevent.socket import socket

from maze.errors import ListenError
from maze.listener.connection_limits import ConnectionLimits
from maze.listener.registration_wait import Registration
from maze.net.peer import UNIX_PEER, Address, endpoint_name, endpoint_of
from maze.net.unix_socket import SocketFile
from maze.settings.port import PortSettings

Handler = Callable[[socket, Address], None]

log = structlog.get_logger()

EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
"""Errors of accept when descriptors or memory run out; the connection stays in the queue."""

PAUSE_SECONDS = 0.1
"""Time until the next accept after one of these errors; an attempt costs one system call."""

MAX_IDLE_SECONDS = 32_767
"""Maximum that Linux allows for TCP_KEEPIDLE (MAX_TCP_KEEPIDLE in <net/tcp.h>)."""


class Listener(StreamServer):
    """A listening port that serves each connection within the limits in its own greenlet."""

    max_accept = 10
    """Maximum connections accepted per turn of the event loop, which runs about 50 greenlets a
    turn. With gevent's default of 100, the router, the source and connected clients would wait
    behind new connections."""

    def __init__(
        self,
        port: PortSettings,
        handle: Handler,
        *,
        backlog: int,
        fail: Callable[..., None],
        peer_timeout: float | None = None,
        limits: ConnectionLimits | None = None,
        registration: Registration | None = None,
    ) -> None:
        self._file = SocketFile(port.path)
        super().__init__((port.host, port.number), handle, backlog=backlog)
        self._backlog = backlog
        self._port = port
        self._fail = fail
        self._peer_timeout = peer_timeout
        self._limits = limits
        self._registration = registration
        self._descriptor = -1
        self.pauses = 0
        """How often accepting has paused."""

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host and port. If the port is 0, the real one is known once the listener is open.

        That of a Unix socket is ``unix:PATH`` and 0.
        """
        if self._port.path and not self.started:
            return self._port.host, 0
        return endpoint_of(cast(Address | str, self.address))

    def inherit(self, descriptor: int) -> None:
        """Use a socket that listens already."""
        self.set_listener(socket(fileno=descriptor))

    def open(self) -> None:
        """Begin to accept connections; raise ListenError if the address cannot be used."""
        try:
            self.start()
        except OSError as error:
            # gevent adds the address to the system's message, in brackets.
            reason = str(error.strerror or error).partition(": (")[0]
            raise ListenError(
                f"cannot listen on {endpoint_name(self.endpoint)}: {reason}; {self._port.remedy}"
            ) from None

    def init_socket(self) -> None:
        """Bind the socket, and listen."""
        if self._file.path and not hasattr(self, "socket"):
            self.set_listener(self._file.listen(self._backlog))
        super().init_socket()

    def close(self) -> None:
        """Stop listening; remove the file of a Unix socket that was made here."""
        self._file.remove()
        super().close()

    def start_accepting(self) -> None:
        """Accept connections; watch the accept queue for clients that may have sent an id."""
        super().start_accepting()
        if self._registration is not None:
            self._descriptor = self.socket.fileno()
            self._registration.watch(self._descriptor)

    def stop_accepting(self) -> None:
        """Stop accepting, and stop watching the accept queue."""
        if self._registration is not None:
            self._registration.unwatch(self._descriptor)
            self._descriptor = -1
        super().stop_accepting()

    def do_read(self) -> tuple[socket, Address] | None:  # type: ignore[override]
        """Accept one connection; return None if there is none or accept fails."""
        try:
            accepted = super().do_read()
            if accepted and not isinstance(accepted[1], tuple):  # the peer on a Unix socket
                return accepted[0], UNIX_PEER
            return accepted
        except OSError as error:
            if self.is_fatal_error(error):
                self.stop_accepting()
                self._fail("port_failed", port=self._port.name)
            else:
                self._on_accept_error(error)
            return None

    def do_handle(self, sock: socket, address: Address) -> None:
        """Serve a connection in its own greenlet, or close it if it is over a limit."""
        if self._limits is None or self._limits.acquire(sock, address):
            if self._peer_timeout is not None:
                probe_silent_peer(sock, self._peer_timeout)
            if self._registration is not None:
                self._registration.watch(sock.fileno())
            super().do_handle(sock, address)
        else:
            sock.close()

    def do_close(self, sock: socket, address: Address) -> None:
        """Close a connection that has been served, and stop counting it."""
        if self._registration is not None:
            self._registration.unwatch(sock.fileno())
        super().do_close(sock, address)
        if self._limits is not None:
            self._limits.release(sock)

    def _resume(self) -> None:
        if self.started:
            self.start_accepting()

    def _on_accept_error(self, error: OSError) -> None:
        if error.errno not in EXHAUSTED:  # the connection broke in the accept queue: accept(2)
            log.debug("accept_failed", port=self._port.name, error=error.strerror)
            return
        self.stop_accepting()
        self.pauses += 1
        gevent.spawn_later(PAUSE_SECONDS, self._resume)
        log.warning("accepting_paused", port=self._port.name, error=error.strerror)


def probe_silent_peer(sock: socket, seconds: float) -> None:
    """Make the kernel break the connection when the peer has not answered for ``seconds``.

    The kernel sends keepalive probes to an idle peer, the first after half that time. A peer that
    was sent data must acknowledge it, and reopen a closed window, within that time
    (TCP_USER_TIMEOUT in tcp(7)).
    """
    options = {
        "TCP_KEEPIDLE": min(MAX_IDLE_SECONDS, max(1, int(seconds / 2))),
        "TCP_KEEPINTVL": max(1, int(seconds / 6)),
        "TCP_KEEPCNT": 3,
        "TCP_USER_TIMEOUT": int(seconds * 1000),
    }
    with contextlib.suppress(OSError):  # reset meanwhile; the next read or write reports it
        sock.setsockopt(system.SOL_SOCKET, system.SO_KEEPALIVE, 1)
        for name, value in options.items():
            if hasattr(system, name):  # some systems lack some of these options
                sock.setsockopt(system.IPPROTO_TCP, getattr(system, name), value)
