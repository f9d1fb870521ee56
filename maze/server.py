"""``MazeServer``: puts the parts together; start, drain, stop."""

import time

import gevent
import structlog
from gevent.event import Event

from maze.clients import ClientPort
from maze.core import TWIN
from maze.limits import clients_that_fit
from maze.net import ListenError, Port
from maze.rejects import RejectLog
from maze.router import Router
from maze.settings import Settings
from maze.source import SourcePort

log = structlog.get_logger()

STALL_MARGIN = 5.0
"""A client that is there but takes nothing is the session's to close, after the stall timeout:
the system, which would take it for one that vanished, has to be later."""


class MazeServer:
    """A Follower Maze server; one to a process is usual, but several can live in one hub."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.rejects = RejectLog()
        self.router = Router(settings, self.rejects)
        self.clients = ClientPort(settings, self.router)
        self.source = SourcePort(settings, self.router, self.rejects)
        self._client_port = Port(
            "client",
            settings.client_host,
            settings.client_port,
            settings.backlog,
            self.clients.handle,
            peer_timeout=max(settings.peer_timeout, settings.stall_timeout + STALL_MARGIN),
            places=self.clients.places,
        )
        self._source_port = Port(
            "source",
            settings.source_host,
            settings.source_port,
            settings.backlog,
            self.source.handle,
            peer_timeout=settings.peer_timeout,
        )
        self._router_greenlet = gevent.Greenlet(self._route)
        self._stopped = Event()
        self.failed = False
        """the router died of an exception; whoever runs the server should exit with an error"""

    @property
    def source_address(self) -> tuple[str, int]:
        """Where sources connect; known once the server has started."""
        return self._source_port.address

    @property
    def client_address(self) -> tuple[str, int]:
        """Where clients connect; known once the server has started."""
        return self._client_port.address

    def start(self) -> None:
        """Listen on both ports, clients first. Raises ListenError."""
        self.clients.places.max_clients = clients_that_fit(self.settings)
        self._router_greenlet.start()
        try:
            self._client_port.open()
            self._source_port.open()
        except ListenError:
            self._close()
            raise
        log.info(
            "ready",
            core=TWIN,
            source_host=self.source_address[0],
            source_port=self.source_address[1],
            client_host=self.client_address[0],
            client_port=self.client_address[1],
        )

    def wait(self) -> None:
        """Wait until the server has stopped."""
        self._stopped.wait()

    def drain(self) -> None:
        """Accept and read no more, hand out what is ready, let every session send it, stop.

        Takes at most the drain timeout.
        """
        timeout = self.settings.drain_timeout
        log.info("draining", sessions=len(self.clients.sessions), timeout_seconds=timeout)
        self._close_ports()
        deadline = time.monotonic() + timeout
        self.router.drained(timeout)
        self.clients.finish(max(0.0, deadline - time.monotonic()))
        self.stop()

    def stop(self) -> None:
        """Stop at once; what is queued is lost."""
        self._close()
        log.info("stopped", routed_events=self.router.routed_events)
        self._stopped.set()

    def _close(self) -> None:
        self._close_ports()
        self.clients.finish(0)
        if self._router_greenlet is not gevent.getcurrent():
            self._router_greenlet.kill(block=False)

    def _close_ports(self) -> None:
        self._client_port.close()
        self._source_port.close()
        self.source.close()

    def _route(self) -> None:
        try:
            self.router.run()
        except Exception:
            log.critical("router_failed", exc_info=True)
            self.failed = True
            self.stop()
