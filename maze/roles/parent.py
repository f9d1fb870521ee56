"""The parent: starts an ingest and edges as processes, and keeps them running.

It opens the listening sockets and passes them on, so that what waits in a socket's queue outlives a
process. Every edge has a client socket of its own on the same port (SO_REUSEPORT): the kernel
spreads the clients over them. If the client port is a Unix socket, or was passed on by a
supervisor, there is one socket, from which all edges accept.
"""

import os
import shutil
import signal
import socket as system
import tempfile
import time
from collections.abc import Callable, Sequence

import gevent
import structlog
from gevent.event import Event
from gevent.socket import socket

from maze.admin.listener import AdminPort
from maze.core import IMPLEMENTATION
from maze.errors import ListenError, TemporaryFolderError
from maze.net.peer import endpoint_name, endpoint_of
from maze.net.unix_socket import SocketFile
from maze.roles.child_process import ChildProcess
from maze.roles.parent_view import ParentView
from maze.settings.options import Settings
from maze.settings.port import PortSettings
from maze.settings.stop_times import StopTimes

log = structlog.get_logger()

END_SECONDS = 2.0
"""Longest wait for the end of the processes once they were killed, unless a drain ends before."""

MAX_FOLDER_BYTES = 100
"""Maximum length of the temporary folder's path; that of a Unix socket in it has 107 bytes."""

PROGRESS_SECONDS = 1.0
"""Time between two reports while the processes start."""


class Parent:
    """Runs ``edges`` edges and their ingest. ``arguments`` are those of the command line.

    ``sockets`` are the descriptors of sockets that listen already, by port.
    """

    def __init__(
        self, settings: Settings, arguments: Sequence[str], sockets: dict[str, int]
    ) -> None:
        self._settings = settings
        self._arguments = arguments
        self._folder = ""
        self._sockets: list[socket] = []
        self._files: list[SocketFile] = []
        self.processes: list[ChildProcess] = []
        """The ingest, then the edges."""
        self.view = ParentView(settings, self.processes)
        self._inherited = sockets
        self._admin = AdminPort(self.view, sockets.get("admin")) if settings.admin_port else None
        self._refusal: int | None = None
        self._is_stopping = False
        self._stopped = Event()
        self.on_stop: Callable[[StopTimes], None] = lambda times: None
        """Called when the drain begins, with its times."""
        self._end: float | None = None

    def run(self, report: Callable[[str], None], on_ready: Callable[[str], None]) -> int:
        """Start all processes, and wait until all have ended; return the exit status.

        ``report`` is told what happens until all are ready, and then ``on_ready`` is called with a
        status line. Raise ListenError or TemporaryFolderError.
        """
        self._report = report
        settings = self._settings
        source = self._listen(settings.source, 1)[0]
        clients = self._listen(settings.client, settings.edges)
        self._folder = _temporary_folder()
        try:
            if self._admin:
                self._admin.start()
                self._admin.announce()  # now, because the ingest may wait long for the lease
            self.view.start()
            if not self._is_stopping:
                self._start(source, clients, on_ready)
            self._stopped.wait()
        finally:
            self.view.stop()
            if self._admin:
                self._admin.stop()
            for process in self.processes:
                process.kill()
            end = self._end or time.monotonic() + END_SECONDS
            for process in self.processes:
                process.ended.wait(_seconds_to(end))
            self._remove_files()
            shutil.rmtree(self._folder, ignore_errors=True)
        return self._refusal or 0

    def stop_on_signals(self) -> None:
        """Drain on the first SIGTERM or SIGINT, and exit on the second; pass on SIGHUP."""
        for number in (signal.SIGTERM, signal.SIGINT):
            gevent.signal_handler(number, self._on_stop_signal, number)
        gevent.signal_handler(signal.SIGHUP, self._on_reload_signal)

    def drain(self) -> None:
        """Let the ingest and all edges come to one position, then end.

        They end a little earlier than the parent has to: one that has not is killed.
        """
        self._is_stopping = True
        self.view.state = "draining"
        times = StopTimes.of(time.monotonic(), self._settings.drain_timeout)
        self._end = times.log
        self.on_stop(times)
        log.info("draining", processes=len(self.processes))
        for ingest in self.processes[:1]:  # none if the parent has not started any yet
            seconds = _seconds_to(times.journal)
            if self._settings.is_in_redis:  # edges cannot learn from Redis that nothing follows
                ingest.drain(seconds / 2)
                ingest.ended.wait(seconds / 2)
            else:
                ingest.drain(seconds)
        for edge in self.processes[1:]:
            edge.drain(_seconds_to(times.journal))
        for listener in self._sockets:
            listener.close()  # so that who connects now is refused at once
        self._remove_files()
        for process in self.processes:
            process.ended.wait(_seconds_to(times.rejects))
        for process in self.processes:
            if not process.ended.is_set():
                log.warning("process_killed", process=process.name)
                process.kill()
        log.info("stopped")
        self._stopped.set()

    def _start(
        self, source: socket, clients: list[socket], on_ready: Callable[[str], None]
    ) -> None:
        ingest = self._add("ingest", self._ingest_arguments(), {"source": source})
        self._wait(ingest)
        if self._is_stopping:
            return
        edges = [
            self._add(f"edge-{number}", self._edge_arguments(), {"client": listener})
            for number, listener in enumerate(clients, 1)
        ]
        for edge in edges:
            self._wait(edge)
        if not self._is_stopping:
            self.view.state = "ready"
            source_host, source_port = endpoint_of(source.getsockname())
            client_host, client_port = endpoint_of(clients[0].getsockname())
            log.info(
                "ready",
                core=IMPLEMENTATION,
                edges=len(edges),
                source_host=source_host,
                source_port=source_port,
                client_host=client_host,
                client_port=client_port,
            )
            on_ready(f"an ingest and {len(edges)} edges")

    def _add(self, name: str, arguments: list[str], listeners: dict[str, socket]) -> ChildProcess:
        number = len(self.processes)
        process = ChildProcess(
            name,
            number,
            [*self._arguments, *arguments],
            listeners,
            folder="" if number else self._folder,
            on_refusal=self._on_refusal,
        )
        self.processes.append(process)
        process.start()
        return process

    def _wait(self, process: ChildProcess) -> None:
        """Wait until a process is ready for the first time, or the parent stops."""
        while not (process.ready.is_set() or self._is_stopping):
            self._report(f"{process.name} is starting")
            gevent.wait([process.ready, self._stopped], timeout=PROGRESS_SECONDS, count=1)

    def _ingest_arguments(self) -> list[str]:
        """Return the options of the ingest; later ones override earlier ones."""
        settings = self._settings
        arguments = ["--role", "ingest", "--edges", "0", "--admin-port", "0"]
        if not settings.is_in_redis:
            arguments += ["--feed", f"unix:{self._folder}/feed"]
        if settings.journal is None:
            arguments += ["--journal", f"{self._folder}/journal", "--journal-sync", "off"]
            policy = "keep" if settings.keeps_stream else "reset"
            arguments += ["--on-source-disconnect", policy]
        return arguments

    def _edge_arguments(self) -> list[str]:
        """Return the options of an edge."""
        arguments = ["--role", "edge", "--edges", "0", "--admin-port", "0", "--rejects", "none"]
        if not self._settings.is_in_redis:
            arguments += ["--feed", f"unix:{self._folder}/feed", "--journal", "none"]
        return [*arguments, "--source-acks", "off"]

    def _listen(self, port: PortSettings, count: int) -> list[socket]:
        """Return sockets that listen on the same port. Raise ListenError.

        There is only one, which the processes share, if it is a Unix socket or was passed on.
        """
        if port.name in self._inherited:
            self._sockets.append(socket(fileno=self._inherited[port.name]))
            return self._sockets[-1:] * count
        address = (port.host, port.number)
        try:
            if port.path:
                file = SocketFile(port.path)
                self._sockets.append(file.listen(self._settings.backlog))
                self._files.append(file)
                return self._sockets[-1:] * count
            if port.number:
                _listener(address, 0, shares=False).close()  # with SO_REUSEPORT, no port is taken
            for _ in range(count):
                listener = _listener(address, self._settings.backlog, shares=count > 1)
                address = listener.getsockname()[:2]
                self._sockets.append(listener)
        except OSError as error:
            raise ListenError(
                f"cannot listen on {endpoint_name((port.host, port.number))}: "
                f"{error.strerror or error}; {port.remedy}"
            ) from None
        return self._sockets[-count:]

    def _remove_files(self) -> None:
        """Remove the files of Unix sockets."""
        for file in self._files:
            file.remove()

    def _on_refusal(self, status: int) -> None:
        """Stop, because a process cannot start; it has said why."""
        if self._refusal is None:
            self._refusal = status or 1
            self._is_stopping = True
            self._stopped.set()

    def _on_stop_signal(self, number: int) -> None:
        if self._is_stopping:
            for process in self.processes:
                process.kill()
            self._remove_files()
            shutil.rmtree(self._folder, ignore_errors=True)
            os._exit(128 + number)
        self.drain()

    def _on_reload_signal(self) -> None:
        for process in self.processes:
            process.reload()


def _temporary_folder() -> str:
    """Make a folder for the feed's socket and a journal. Raise TemporaryFolderError."""
    try:
        folder = tempfile.mkdtemp(prefix="maze-")
    except OSError as error:
        text = f"--edges cannot make a temporary folder: {error.strerror}"
        raise TemporaryFolderError(f"{text}; set TMPDIR to another folder") from None
    if len(os.fsencode(folder)) > MAX_FOLDER_BYTES:
        os.rmdir(folder)
        text = f"--edges cannot use {folder}: the path of a Unix socket in it is too long"
        raise TemporaryFolderError(f"{text}; set TMPDIR to another folder")
    return folder


def _seconds_to(moment: float) -> float:
    """Return the seconds until a moment of ``time.monotonic``, or 0 if it has passed."""
    return max(0.0, moment - time.monotonic())


def _listener(address: tuple[str, int], backlog: int, *, shares: bool) -> socket:
    """Return a socket that is bound to an address and, with a ``backlog``, listens."""
    family = system.AF_INET6 if ":" in address[0] else system.AF_INET
    listener = socket(family)
    try:
        listener.setsockopt(system.SOL_SOCKET, system.SO_REUSEADDR, 1)
        if shares:
            listener.setsockopt(system.SOL_SOCKET, system.SO_REUSEPORT, 1)
        listener.bind(address)
        if backlog:
            listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener
