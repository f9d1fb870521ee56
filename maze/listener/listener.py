"""A listening port: gevent's stream server, with bounds, calm, and an eye on peers that vanish.

A connection that has no place is closed at once. The system is told to probe
a peer that is silent, so that one that vanished without a word is found out.

gevent pauses after an accept that failed and tries again, longer each time,
with a traceback on stderr for each. Here an accept that fails for want of
descriptors or memory pauses accepting for a moment, with one log line a second;
whoever is connected is served meanwhile. One that fails because the port itself
is broken is a failure of the server. It must never know who connects.
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
from maze.net.peer import Address
from maze.settings.port import PortSettings

Handler = Callable[[socket, Address], None]

log = structlog.get_logger()

EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
"""want of descriptors, of the process or the system, or of memory: the connection stays queued"""

PAUSE_SECONDS = 0.1
"""after which it is tried again; a try costs one call of the system"""

MAX_IDLE_SECONDS = 32_767  # MAX_TCP_KEEPIDLE in <net/tcp.h>


class Listener(StreamServer):
    """A listening port, with a greenlet for each connection that has a place."""

    max_accept = 10
    """connections in one turn of the event loop, which runs some fifty greenlets a turn: with
    gevent's hundred, new connections pile up before whoever is connected, router and source too"""

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
        super().__init__((port.host, port.number), handle, backlog=backlog)
        self._port = port
        self._fail = fail
        self._peer_timeout = peer_timeout
        self._limits = limits
        self._registration = registration
        self._descriptor = -1
        self.pauses = 0
        """how often accepting had to pause"""

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host and port; the port is the one really used once this is open."""
        host, port = cast(Address, self.address)[:2]
        return host, port

    def open(self) -> None:
        """Begin to accept. Raises ListenError."""
        try:
            self.start()
        except OSError as error:
            host, port = self.endpoint
            # gevent adds the address to the system's message, in brackets.
            why = str(error.strerror).partition(": (")[0]
            raise ListenError(
                f"cannot listen on {host} port {port}: {why}; "
                f"{self._port.flag('host')} and {self._port.flag('port')} choose another address"
            ) from None

    def start_accepting(self) -> None:
        """Accept connections, and watch the accept queue for clients that may have sent an id."""
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
        """Accept one connection; None if there is none, or if it cannot be accepted now."""
        try:
            return super().do_read()
        except OSError as error:
            if self.is_fatal_error(error):
                self.stop_accepting()
                self._fail("port_failed", port=self._port.name)
            else:
                self._on_accept_error(error)
            return None

    def do_handle(self, sock: socket, address: Address) -> None:
        """Serve a connection in a greenlet of its own, if there is a place for it."""
        if self._limits is None or self._limits.acquire(address):
            if self._peer_timeout is not None:
                probe_silent_peer(sock, self._peer_timeout)
            if self._registration is not None:
                self._registration.watch(sock.fileno())
            super().do_handle(sock, address)
        else:
            sock.close()

    def do_close(self, sock: socket, address: Address) -> None:
        """Close a connection that was served."""
        if self._registration is not None:
            self._registration.unwatch(sock.fileno())
        super().do_close(sock, address)
        if self._limits is not None:
            self._limits.release(address)

    def _resume(self) -> None:
        if self.started:
            self.start_accepting()

    def _on_accept_error(self, error: OSError) -> None:
        if error.errno not in EXHAUSTED:  # it is that connection's, which is gone (accept(2))
            log.debug("accept_failed", port=self._port.name, error=error.strerror)
            return
        self.stop_accepting()
        self.pauses += 1
        gevent.spawn_later(PAUSE_SECONDS, self._resume)
        log.warning("accepting_paused", port=self._port.name, error=error.strerror)


def probe_silent_peer(sock: socket, seconds: float) -> None:
    """Have the system break the connection once the peer has not answered for so long.

    A peer that has nothing to say is asked by keepalive probes, the first after
    half the time. One that was sent something has to acknowledge it in time, and
    to open its window again if it had closed it (TCP_USER_TIMEOUT in tcp(7)).
    """
    options = {
        "TCP_KEEPIDLE": min(MAX_IDLE_SECONDS, max(1, int(seconds / 2))),
        "TCP_KEEPINTVL": max(1, int(seconds / 6)),
        "TCP_KEEPCNT": 3,
        "TCP_USER_TIMEOUT": int(seconds * 1000),
    }
    with contextlib.suppress(OSError):  # it was reset meanwhile: whoever serves it will see
        sock.setsockopt(system.SOL_SOCKET, system.SO_KEEPALIVE, 1)
        for name, value in options.items():
            if hasattr(system, name):  # not every system has all of them
                sock.setsockopt(system.IPPROTO_TCP, getattr(system, name), value)
