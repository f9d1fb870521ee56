"""The command line of the server; see ``python -m maze.serve --help``."""

import os
import signal
import sys
from collections.abc import Sequence
from functools import partial

try:
    import gevent
    import structlog
except ModuleNotFoundError as missing:
    sys.exit(
        f"maze: {missing.name} is not installed for {sys.executable}: use .venv/bin/python, which "
        "`make .venv` creates, or run `pip install -r requirements.txt`"
    )

from maze.admin import Admin
from maze.admin.relay import Relay
from maze.errors import MazeError, SettingsError
from maze.log.configure import configure as configure_log
from maze.log.excepthooks import log_uncaught
from maze.log.line_writer import LineWriter
from maze.log.processors import RATE_LIMIT
from maze.process.allocator import tune_memory
from maze.process.diagnostics import Diagnostics
from maze.process.reload import Reloader
from maze.process.rlimits import raise_descriptor_limit
from maze.process.sd_notify import Supervisor
from maze.roles.child import Child
from maze.server import ADDRESS_FIELDS, MazeServer, Server
from maze.settings.combinations import edges_fault, journal_fault, rejects_fault
from maze.settings.options import Settings
from maze.settings.parser import parse_settings, read_settings, unknown_variables

log = structlog.get_logger()

PARENT_SECONDS = 0.2
"""Time in which the parent of a child that got SIGTERM says that all processes drain."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT, then drain; a second signal exits at once.

    Return the exit status: 0 after an orderly stop; 1 if a port, the reject file or the journal
    cannot be opened, or the server failed; 2 if options contradict each other, or TLS options or
    files cannot be used; 3 if another process has begun to write the journal. Other wrong settings
    raise SystemExit with status 2.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # so that SIGINT before the start has no traceback
    settings = read_settings(arguments)
    try:
        child = Child.from_environment(os.environ)
    except SettingsError as error:
        print(f"maze: {error}", file=sys.stderr)
        return error.status
    if child:
        child.ignore_terminal()
    writer = configure_log(
        settings.log_level, settings.log_format, process=child.name if child else None
    )
    log_uncaught()
    for name, hint in unknown_variables(os.environ).items():
        log.warning("variable_unknown", variable=name, hint=hint)
    try:
        if settings.edges:
            return _run_parent(settings, sys.argv[1:] if arguments is None else arguments)
        server = _server_of(settings, child)
        if child:
            server.inherit(child.listeners)
            child.begin(partial(_drain_child, server), server.stop)
        reloader = Reloader(server, lambda: parse_settings(arguments))
        gevent.signal_handler(signal.SIGHUP, reloader.reload)
        admin: Admin | Relay | None = None
        if child:
            admin = Relay(server, writer, child.questions)
        elif settings.admin_port:
            admin = Admin(server, writer)
        _serve(server, admin, writer, child)
    except MazeError as error:
        writer.close()  # so that this line comes after the log
        print(f"maze: {error}", file=sys.stderr)
        return error.status
    finally:
        writer.close()
    return server.status


def _server_of(settings: Settings, child: Child | None) -> Server:
    """Create the server of a role. Raise MazeError."""
    if settings.role == "all":
        return MazeServer(settings)
    if settings.role == "edge":
        from maze.roles.edge import EdgeServer  # noqa: PLC0415, roles take 2 MB

        return EdgeServer(settings, child.name if child else "")
    from maze.roles.ingest import FeedServer, IngestServer  # noqa: PLC0415

    return FeedServer(settings) if settings.feed else IngestServer(settings)


def _run_parent(settings: Settings, arguments: Sequence[str]) -> int:
    """Run an ingest and edges as processes of their own; return the exit status."""
    from maze.roles.parent import Parent  # noqa: PLC0415, roles take 2 MB

    if fault := journal_fault(settings) or edges_fault(settings) or rejects_fault(settings):
        raise SettingsError(fault)
    raise_descriptor_limit()
    parent = Parent(settings, arguments)
    parent.stop_on_signals()
    supervisor = Supervisor()
    status = parent.run(supervisor.report, supervisor.ready)
    supervisor.stopping()
    return status


def _drain_child(server: Server) -> None:
    """Drain with the other processes; a process that does not serve yet ends at once."""
    if server.state in ("starting", "replaying"):
        os._exit(0)
    server.drain(with_feed=True)


def _serve(
    server: Server, admin: Admin | Relay | None, writer: LineWriter, child: Child | None
) -> None:
    raise_descriptor_limit()
    tune_memory()
    supervisor = Supervisor()
    try:
        if admin:
            admin.start()
            if server.journaling:
                server.journaling.on_wait = admin.announce
        server.start(supervisor.report)
        if admin:
            admin.announce()
        if child:
            child.tell_ready()
        _run(server, supervisor, writer, child)
    finally:
        if admin:
            admin.stop()


def _run(server: Server, supervisor: Supervisor, writer: LineWriter, child: Child | None) -> None:
    """Handle signals and notify the supervisor until the server has stopped."""
    _stop_on_signal(server, supervisor, child)
    gevent.signal_handler(signal.SIGUSR2, Diagnostics(server, writer).write)
    supervisor.ready(_status(server))
    reporter = gevent.spawn(_report_suppressed)
    server.wait()
    reporter.kill(block=False)
    RATE_LIMIT.report_suppressed(is_end=True)
    supervisor.stopping()


def _report_suppressed() -> None:
    """Report, once a second, suppressed log lines that no later line has reported."""
    while True:
        gevent.sleep(1.0)
        RATE_LIMIT.report_suppressed()


def _status(server: Server) -> str:
    """Return the status line for the supervisor."""
    addresses = server.addresses
    return ", ".join(
        "{} on {} port {}".format(name, *addresses[name])
        for name in ADDRESS_FIELDS
        if name in addresses
    )


def _stop_on_signal(server: Server, supervisor: Supervisor, child: Child | None) -> None:
    """Drain the server on the first SIGTERM or SIGINT, and exit on the second.

    A child leaves SIGINT to its parent. If SIGTERM was sent to the parent as well, the child drains
    as the parent says, with the other processes.
    """
    stopping = False

    def on_signal(number: int) -> None:
        nonlocal stopping
        if stopping:
            os._exit(128 + number)
        stopping = True
        supervisor.stopping()
        if child:
            gevent.sleep(PARENT_SECONDS)
        server.drain()

    for number in (signal.SIGTERM,) if child else (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, on_signal, number)


if __name__ == "__main__":
    sys.exit(main())
