"""``Server`` and ``MazeServer``: the parts of a server, its start and its stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import gevent
import structlog
from gevent.event import Event
from gevent.socket import socket

from maze.core import IMPLEMENTATION, Position
from maze.errors import MazeError, SettingsError
from maze.listener.access import Access
from maze.listener.listener import Listener
from maze.listener.registration_wait import Registration
from maze.listener.system_limits import check_accept_queue, clients_that_fit
from maze.listener.tls_context import Contexts, load_contexts
from maze.log.reject_file import RejectFileWriter
from maze.log.reject_log import RejectLog
from maze.net.peer import Address
from maze.pipeline.client_port import ClientPort
from maze.pipeline.intake import Intake
from maze.pipeline.router import Router
from maze.pipeline.source import SourcePort
from maze.settings.combinations import combination_fault
from maze.settings.option_types import ANY_NAME
from maze.settings.options import Settings
from maze.settings.port import PortSettings
from maze.settings.stop_times import StopTimes

if TYPE_CHECKING:
    from maze.pipeline.journaling import Journaling

log = structlog.get_logger()

Report = Callable[[Position], None]
"""Called with the position reached while the journal is read."""

ADDRESS_FIELDS = {
    "source": ("source_host", "source_port"),
    "client": ("client_host", "client_port"),
    "feed": ("feed_host", "feed_port"),
}
"""The fields of the log event ``ready``, by port."""

STALL_MARGIN = 5.0
"""Minimum seconds by which the peer timeout of clients exceeds the stall timeout. So a client that
is alive but does not read is closed as stalled, before the kernel breaks its connection as if it
had vanished."""


class Server:
    """What servers of every role have: a router, sessions, and ports that open and close.

    Several can run in one process, on one event loop.
    """

    intake: Intake | None = None
    """What is between the sources and the router; None if events come from a feed."""
    source: SourcePort | None = None
    """The port for event sources, if there is one."""

    def __init__(self, settings: Settings) -> None:
        """Create the parts that every role has.

        Raise SettingsError if TLS options or files cannot be used or options contradict each other.
        """
        if fault := combination_fault(settings):
            raise SettingsError(fault)
        self.contexts = load_contexts(settings)
        self.settings = settings
        self.rejects = RejectLog()
        self.registration = Registration()
        self.router = Router(settings, self.rejects, self.registration, self.fail)
        self.sessions = self.router.sessions
        self.clients = ClientPort(
            settings,
            self.sessions,
            self.registration,
            Access(settings.client, settings, self.contexts.client, self.registration),
        )
        self._listeners: dict[str, Listener] = {}
        """By name, in the order in which they are opened."""
        self._router_greenlet = gevent.Greenlet(self._route)
        self._stopping = False
        self._started = Event()
        self._stopped = Event()
        self.is_recovered = False
        """Whether the ports are open or about to be: what peers have sent is not to be lost."""
        self.stop_times: StopTimes | None = None
        """When each part of the stop has to be over; None before it begins."""
        self.on_stop: Callable[[StopTimes], None] = lambda times: None
        """Called when a stop begins, and if it gets less time."""
        self.state = "starting"
        """``starting``, ``replaying``, ``ready``, ``draining`` or ``stopped``."""
        self.failed = False
        """Whether the router, the decoder or the graph raised an exception, or a port broke. If so,
        the process should exit with an error, so that its supervisor restarts it."""
        self.status = 0
        """Exit status of the process."""

    @property
    def journaling(self) -> Journaling | None:
        """The journal that this server writes, if there is one."""
        return self.intake.journaling if self.intake else None

    @property
    def is_standby(self) -> bool:
        """Whether another process writes the journal, and this one waits to take over."""
        return self.journaling is not None and self.journaling.is_standby

    @property
    def waiting_events(self) -> int:
        """Number of events that wait behind a missing one."""
        return self.intake.reorder.waiting if self.intake else 0

    @property
    def trouble(self) -> str | None:
        """Why no more events come at present; None if they can."""
        trouble = self.journaling and self.journaling.trouble
        return f"journal: {trouble}" if trouble else None

    def feed_status(self) -> dict[str, object] | None:
        """Return what is known of the feed; None if there is none."""
        return None

    def add_client_port(self) -> None:
        """Listen for user clients once the server starts."""
        settings = self.settings
        self._listeners["client"] = Listener(
            settings.client,
            self.clients.handle,
            backlog=settings.backlog,
            fail=self.fail,
            peer_timeout=max(settings.peer_timeout, settings.stall_timeout + STALL_MARGIN),
            limits=self.clients.limits,
            # Over TLS a client cannot send its id before the server has answered its hello.
            registration=None if self.clients.access.context else self.registration,
        )

    def add_listener(self, port: PortSettings, handle: Callable[[socket, Address], None]) -> None:
        """Listen on a port for other servers once this one starts."""
        settings = self.settings
        self._listeners[port.name] = Listener(
            port,
            handle,
            backlog=settings.backlog,
            fail=self.fail,
            peer_timeout=settings.peer_timeout,
        )

    def add_source_port(self, intake: Intake) -> SourcePort:
        """Listen for event sources once the server starts."""
        settings = self.settings
        self.add_listener(settings.source, self._serve_source)
        return SourcePort(
            settings,
            intake,
            self.rejects,
            self.registration,
            Access(settings.source, settings, self.contexts.source),
        )

    @property
    def addresses(self) -> dict[str, tuple[str, int]]:
        """Host and port of every port by name, known once the server has started."""
        return {name: listener.endpoint for name, listener in self._listeners.items()}

    @property
    def accepting_pauses(self) -> dict[str, int]:
        """How often accepting has paused, by port."""
        return {name: listener.pauses for name, listener in self._listeners.items()}

    def inherit(self, listeners: dict[str, int]) -> None:
        """Use listening sockets that another process has opened, by port."""
        for name, descriptor in listeners.items():
            self._listeners[name].inherit(descriptor)

    def start(
        self,
        report: Callable[[str], None] = lambda progress: None,
        on_recovered: Callable[[], None] = lambda: None,
    ) -> None:
        """Read the journal, if there is one; then listen.

        ``report`` is told what the server does meanwhile; ``on_recovered`` is called before the
        ports are opened. Raise JournalUnusableError, ListenError or RejectFileError if the server
        cannot start.
        """
        settings = self.settings
        if settings.source_names == ANY_NAME:
            log.warning(
                "any_certificate_is_a_source",
                authority=settings.source_tls_ca,
                allows="anyone with a certificate of this authority may send events",
            )
        self.clients.limits.max_clients = clients_that_fit(settings)
        check_accept_queue(settings)
        if settings.rejects:
            self.rejects.file = RejectFileWriter(
                settings.rejects, settings.rejects_size, settings.rejects_files
            )
        try:
            self.recover(partial(_report_progress, report))
            self.is_recovered = True
            on_recovered()
            self._router_greenlet.start()
            for listener in self._listeners.values():
                listener.open()
        except MazeError as error:
            self.status = error.status
            self.begin_stop(0.0)
            self._close()
            self._close_journal()
            raise
        self.state = "ready"
        addresses: dict[str, object] = {}
        for name, (host, port) in self.addresses.items():
            addresses |= zip(ADDRESS_FIELDS[name], (host, port), strict=True)
        log.info("ready", core=IMPLEMENTATION, **addresses)
        self._started.set()

    def await_start(self) -> None:
        """Wait until all ports are open, or the server has stopped."""
        gevent.wait([self._started, self._stopped], count=1)

    def recover(self, report: Report) -> None:
        """Continue where the journal ends, if there is one. Raise JournalUnusableError."""
        if self.intake and self.intake.journaling:
            self.state = "replaying"
            self.intake.recover(report)

    def use_contexts(self, contexts: Contexts) -> None:
        """Use these TLS contexts for new connections."""
        self.contexts = contexts
        self.clients.access.context = contexts.client
        if self.source:
            self.source.access.context = contexts.source

    def trace(self, traces: bool) -> None:
        """Turn the debug log of each chunk and batch on or off."""
        self.router.batches.traces = traces
        if self.source:
            self.source.traces = traces

    def wait(self) -> None:
        """Wait until the server has stopped and the reject file is written, or time is over."""
        self._stopped.wait()
        if self.rejects.file is not None:
            self.rejects.file.close(_seconds_to(self.begin_stop().rejects))

    def begin_stop(self, timeout: float | None = None, *, total: float | None = None) -> StopTimes:
        """Begin the time of a stop, unless one with an earlier end has begun; return its times.

        ``timeout`` is the drain timeout, by default that of the settings. ``total`` is the time for
        everything; see ``StopTimes``.
        """
        timeout = self.settings.drain_timeout if timeout is None else timeout
        times = StopTimes.of(time.monotonic(), timeout, total)
        if self.stop_times is None or times.end < self.stop_times.end:
            self.stop_times = times
            self.on_stop(times)
        return self.stop_times

    def drain(self, *, with_feed: bool = False) -> None:
        """Stop accepting and reading, route the events that are ready, flush all sessions, stop.

        All of this ends at the stop times; ``begin_stop`` may have begun them. With ``with_feed``,
        the ingest stops as well, and what it still has is routed, too. A server whose ports are
        being opened drains once they are open. Do nothing if the server drains already.
        """
        self.await_start()
        if self.state in ("draining", "stopped"):
            return
        self.state = "draining"
        times = self.begin_stop()
        timeout = self.settings.drain_timeout
        log.info("draining", sessions=len(self.sessions), timeout_seconds=timeout)
        self._close_ports()
        try:
            if with_feed:
                self.expect_end()
            else:
                self.close_upstream()
            self.router.drain(_seconds_to(times.clients))
            self.finish_feed(_seconds_to(times.clients))
            self.clients.close()
            self.sessions.close(_seconds_to(times.clients))
        finally:
            self.stop()

    def finish_feed(self, timeout: float) -> None:
        """Wait until edges have got everything, for at most ``timeout`` seconds."""

    def close_feed(self) -> None:
        """End the connections of edges."""

    def expect_end(self) -> None:
        """Drain only once everything has come from a feed that ends."""

    def close_upstream(self) -> None:
        """Take no more events from a feed."""

    def stop(self) -> None:
        """Stop at once; queued events are lost."""
        if self._stopping:
            return
        self._stopping = True
        self.state = "stopped"
        if self.stop_times is None:
            self.begin_stop(0.0)
        try:
            self._close()
            self._close_journal()
        finally:
            self._log_lost_events()
            log.info("stopped", routed_events=self.router.stats.routed_events)
            self._stopped.set()

    def _log_lost_events(self) -> None:
        ready, waiting = self.router.unrouted_events, self.waiting_events
        if ready or waiting:
            log.warning("events_not_routed", ready_events=ready, waiting_events=waiting)

    def fail(self, event: str, *, exit_status: int = 1, **details: object) -> None:
        """Log ``error`` or the exception being handled, and stop: later deliveries could be wrong.

        Return at once, so that the event loop's callbacks may call this, too.
        """
        if self.failed:
            return
        self.failed = True
        self.status = exit_status
        log.critical(event, exc_info="error" not in details, **details)
        gevent.spawn(self.stop)

    def _close(self) -> None:
        self._close_ports()
        for listener in self._listeners.values():
            listener.close()
        self.close_upstream()
        self.close_feed()
        self.clients.close()
        self.sessions.close(0)
        self._router_greenlet.kill(block=False)

    def _close_journal(self) -> None:
        """Commit what was put and close the journal, unless its time is over before."""
        if self.intake and self.intake.journaling:
            self.intake.journaling.close(_seconds_to(self.begin_stop().journal))

    def _close_ports(self) -> None:
        """Stop accepting clients and sources, and stop reading from sources."""
        for name in ("client", "source"):
            if listener := self._listeners.get(name):
                listener.close()
        if self.source:
            self.source.close()

    def _route(self) -> None:
        try:
            self.router.run()
        except Exception:
            self.fail("router_failed")

    def _serve_source(self, sock: socket, address: Address) -> None:
        assert self.source
        try:
            self.source.handle(sock, address)
        except Exception:
            self.fail("source_failed")


class MazeServer(Server):
    """A server that does everything in one process."""

    intake: Intake
    source: SourcePort

    def __init__(self, settings: Settings) -> None:
        """Create the parts; see ``Server``. Raise JournalUnusableError, too."""
        super().__init__(settings)
        self.intake = Intake(settings, self.rejects, self.router, self.fail)
        self.add_client_port()
        self.source = self.add_source_port(self.intake)

    @property
    def source_address(self) -> tuple[str, int]:
        """Host and port for sources, known once the server has started."""
        return self.addresses["source"]

    @property
    def client_address(self) -> tuple[str, int]:
        """Host and port for clients, known once the server has started."""
        return self.addresses["client"]


def _seconds_to(moment: float) -> float:
    """Return the seconds until a moment of ``time.monotonic``, or 0 if it has passed."""
    return max(0.0, moment - time.monotonic())


def _report_progress(report: Callable[[str], None], position: Position) -> None:
    """Report up to which position the journal has been read."""
    log.info("journal_replaying", position=str(position))
    report(f"reading the journal, at {position}")
