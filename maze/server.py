"""``MazeServer``: the parts of the server, its start and its stop."""

import time
from collections.abc import Callable
from functools import partial

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
from maze.listener.tls_context import Context, load_contexts
from maze.log.line_writer import FLUSH_SECONDS
from maze.log.reject_file import RejectFileWriter
from maze.log.reject_log import RejectLog
from maze.net.peer import Address
from maze.pipeline.client_port import ClientPort
from maze.pipeline.intake import Intake
from maze.pipeline.router import Router
from maze.pipeline.source import SourcePort
from maze.settings.option_types import ANY_NAME
from maze.settings.options import Settings, journal_fault

log = structlog.get_logger()

STALL_MARGIN = 5.0
"""Minimum seconds by which the peer timeout of clients exceeds the stall timeout. So a client that
is alive but does not read is closed as stalled, before the kernel breaks its connection as if it
had vanished."""


class MazeServer:
    """A Follower Maze server. Several can run in one process, on one event loop."""

    def __init__(self, settings: Settings) -> None:
        """Create the parts.

        Raise SettingsError if TLS options or files cannot be used or options contradict each other,
        and JournalUnusableError if the journal cannot be opened.
        """
        if fault := journal_fault(settings):
            raise SettingsError(fault)
        source_context, client_context = load_contexts(settings)
        self.settings = settings
        self.rejects = RejectLog()
        self.registration = Registration()
        self.router = Router(settings, self.rejects, self.registration, self.fail)
        self.intake = Intake(settings, self.rejects, self.router, self.fail)
        self.sessions = self.router.sessions
        self.clients = ClientPort(
            settings,
            self.sessions,
            self.registration,
            Access(settings.client, settings, client_context, self.registration),
        )
        self.source = SourcePort(
            settings,
            self.intake,
            self.rejects,
            self.registration,
            Access(settings.source, settings, source_context),
        )
        self._client_listener = Listener(
            settings.client,
            self.clients.handle,
            backlog=settings.backlog,
            fail=self.fail,
            peer_timeout=max(settings.peer_timeout, settings.stall_timeout + STALL_MARGIN),
            limits=self.clients.limits,
            # Over TLS a client cannot send its id before the server has answered its hello.
            registration=None if client_context else self.registration,
        )
        self._source_listener = Listener(
            settings.source,
            self._serve_source,
            backlog=settings.backlog,
            fail=self.fail,
            peer_timeout=settings.peer_timeout,
        )
        self._router_greenlet = gevent.Greenlet(self._route)
        self._stopping = False
        self._stopped = Event()
        self._drain_deadline = 0.0
        self.state = "starting"
        """``starting``, ``replaying``, ``ready``, ``draining`` or ``stopped``."""
        self.failed = False
        """Whether the router, the decoder or the graph raised an exception, or a port broke. If so,
        the process should exit with an error, so that its supervisor restarts it."""

    @property
    def source_address(self) -> tuple[str, int]:
        """Host and port for sources, known once the server has started."""
        return self._source_listener.endpoint

    @property
    def client_address(self) -> tuple[str, int]:
        """Host and port for clients, known once the server has started."""
        return self._client_listener.endpoint

    @property
    def accepting_pauses(self) -> dict[str, int]:
        """How often accepting has paused, by port."""
        return {"source": self._source_listener.pauses, "client": self._client_listener.pauses}

    def start(self, report: Callable[[str], None] = lambda progress: None) -> None:
        """Read the journal, if there is one; listen on the client port, then on the source port.

        ``report`` is told what the server does meanwhile. Raise JournalUnusableError, ListenError
        or RejectFileError if the server cannot start.
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
            if self.intake.journaling:
                self.state = "replaying"
                self.intake.recover(partial(_report_progress, report))
            self._router_greenlet.start()
            self._client_listener.open()
            self._source_listener.open()
        except MazeError:
            self._close()
            self._close_journal()
            raise
        self.state = "ready"
        log.info(
            "ready",
            core=IMPLEMENTATION,
            source_host=self.source_address[0],
            source_port=self.source_address[1],
            client_host=self.client_address[0],
            client_port=self.client_address[1],
        )

    def use_contexts(self, contexts: tuple[Context, Context]) -> None:
        """Use these TLS contexts (source port, client port) for new connections."""
        self.source.access.context, self.clients.access.context = contexts

    def trace(self, traces: bool) -> None:
        """Turn the debug log of each chunk and batch on or off."""
        self.router.batches.traces = self.source.traces = traces

    def wait(self) -> None:
        """Wait until the server has stopped and the reject file is written.

        Writing may take the rest of the drain timeout, but at least two seconds.
        """
        self._stopped.wait()
        if self.rejects.file is not None:
            self.rejects.file.close(max(FLUSH_SECONDS, self._drain_deadline - time.monotonic()))

    def drain(self) -> None:
        """Stop accepting and reading, route the events that are ready, flush all sessions, stop.

        All of this takes at most the drain timeout.
        """
        self.state = "draining"
        timeout = self.settings.drain_timeout
        log.info("draining", sessions=len(self.sessions), timeout_seconds=timeout)
        self._close_ports()
        self._drain_deadline = time.monotonic() + timeout
        try:
            self.router.drain(timeout)
            self.clients.close()
            self.sessions.close(max(0.0, self._drain_deadline - time.monotonic()))
        finally:
            self.stop()

    def stop(self) -> None:
        """Stop at once; queued events are lost."""
        if self._stopping:
            return
        self._stopping = True
        self.state = "stopped"
        try:
            self._close()
            self._close_journal()
        finally:
            self._log_lost_events()
            log.info("stopped", routed_events=self.router.stats.routed_events)
            self._stopped.set()

    def _log_lost_events(self) -> None:
        ready, waiting = self.intake.unrouted_events, self.intake.reorder.waiting
        if ready or waiting:
            log.warning("events_not_routed", ready_events=ready, waiting_events=waiting)

    def fail(self, event: str, **details: object) -> None:
        """Log ``error`` or the exception being handled, and stop: later deliveries could be wrong.

        Return at once, so that the event loop's callbacks may call this, too.
        """
        if self.failed:
            return
        self.failed = True
        log.critical(event, exc_info="error" not in details, **details)
        gevent.spawn(self.stop)

    def _close(self) -> None:
        self._close_ports()
        self.clients.close()
        self.sessions.close(0)
        self._router_greenlet.kill(block=False)

    def _close_journal(self) -> None:
        """Commit what was put and close the journal.

        Allow the rest of the drain timeout, but at least FLUSH_SECONDS.
        """
        if self.intake.journaling:
            remaining = self._drain_deadline - time.monotonic()
            self.intake.journaling.close(max(FLUSH_SECONDS, remaining))

    def _close_ports(self) -> None:
        self._client_listener.close()
        self._source_listener.close()
        self.source.close()

    def _route(self) -> None:
        try:
            self.router.run()
        except Exception:
            self.fail("router_failed")

    def _serve_source(self, sock: socket, address: Address) -> None:
        try:
            self.source.handle(sock, address)
        except Exception:
            self.fail("source_failed")


def _report_progress(report: Callable[[str], None], position: Position) -> None:
    """Report up to which position the journal has been read."""
    log.info("journal_replaying", position=str(position))
    report(f"reading the journal, at {position}")
