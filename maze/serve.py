"""The command line of the server; see ``python -m maze.serve --help``."""

import atexit
import os
import signal
import sys

if __name__ == "__main__":  # now, so that SIGINT during the imports below prints no traceback
    signal.signal(signal.SIGINT, signal.SIG_IGN if "MAZE_CHILD" in os.environ else signal.SIG_DFL)

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import NoReturn

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
from maze.net.peer import endpoint_name
from maze.process.allocator import tune_memory
from maze.process.certificate_watch import CertificateWatch
from maze.process.diagnostics import Diagnostics
from maze.process.exit_deadline import ExitDeadline
from maze.process.reload import Reloader
from maze.process.rlimits import raise_descriptor_limit
from maze.process.sd_notify import Supervisor
from maze.process.socket_activation import take_sockets
from maze.roles.child import VARIABLE, Child
from maze.server import ADDRESS_FIELDS, MazeServer, Server
from maze.settings.combinations import combination_fault
from maze.settings.given import describe
from maze.settings.options import Settings
from maze.settings.parser import (
    Options,
    complain,
    ignored_variables,
    parse_options,
    read_options,
    unknown_variables,
)

log = structlog.get_logger()

SERVICE_ADDRESS = (
    "it is not a port but the address of a Kubernetes Service; to avoid such variables, set "
    "enableServiceLinks: false in the pod's specification"
)
"""Why a variable is ignored."""

PARENT_SECONDS = 0.2
"""Time in which the parent of a child that got SIGTERM says that all processes drain."""


def main(arguments: Sequence[str] | None = None, *, ends_process: bool = False) -> int:
    """Serve until SIGTERM or SIGINT, then drain; a second signal exits at once.

    With ``--check-config``, only check the settings and print them. With ``ends_process``, end the
    process if the drain has not ended in time.

    Return the exit status: 0 after an orderly stop; 1 if a port, the reject file or the journal
    cannot be opened, the checked settings cannot be printed, or the server failed; 2 if options
    contradict each other, or TLS options or files cannot be used; 3 if another process has begun to
    write the journal. Other wrong settings raise SystemExit with status 2.
    """
    _end_on_signals()
    options = read_options(arguments)
    settings = options.settings
    try:
        child = Child.from_environment(os.environ)
        if child:
            child.ignore_terminal()
        sockets = take_sockets(os.environ, settings)
    except SettingsError as error:
        complain(str(error))
        return error.status
    if options.are_only_checked:
        return _check_config(options)
    writer = configure_log(
        settings.log_level, settings.log_format, process=child.name if child else None
    )
    log_uncaught()
    _warn_of_variables()
    try:
        if settings.edges:
            arguments = sys.argv[1:] if arguments is None else arguments
            return _run_parent(settings, arguments, sockets, writer, ends_process=ends_process)
        server = _server_of(settings, child)
        if ends_process:
            server.on_stop = ExitDeadline(writer, lambda: server.status).begin
        reloader = Reloader(server, lambda: parse_options(arguments).settings)
        return _run_server(server, child, sockets, reloader, writer)
    except MazeError as error:
        writer.close()  # so that this line comes after the log
        complain(str(error))
        return error.status
    finally:
        writer.close()


def run(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run ``main``, and end the process.

    It ends without freeing all objects one by one, which takes seconds if there are many follows.
    """
    try:
        status = main(arguments, ends_process=True)
    except SystemExit as end:
        if end.code != SettingsError.status:
            raise
        status = end.code  # Python 3.12 would change it if stderr could not be written
    atexit._run_exitfuncs()
    with suppress(OSError):
        if sys.stdout:  # None if it was closed
            sys.stdout.flush()
    os._exit(status)


def _end_on_signals() -> None:
    """End at once on a signal, without a traceback, until the server handles signals itself.

    A child leaves SIGINT to its parent.
    """
    if VARIABLE in os.environ:
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if os.getpid() == 1:  # Linux would ignore the signals
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _frame: os._exit(128 + number))


def _check_config(options: Options) -> int:
    """Print the options, or say what is wrong; return the exit status.

    Every fault in the settings has the status of wrong settings: nothing has failed.
    """
    from maze.process.check_config import check_settings  # noqa: PLC0415, it loads SQLite

    for name, hint in unknown_variables(os.environ).items():
        complain(f"warning: no option has the variable {name}; {hint}")
    for name, value in ignored_variables(os.environ).items():
        complain(f"warning: {name}={value} is ignored: {SERVICE_ADDRESS}")
    try:
        check_settings(options.settings)
    except MazeError as error:
        complain(str(error))
        return SettingsError.status
    return _print(describe(options.given))


def _print(text: str) -> int:
    """Write text to stdout, if it is open; return the exit status: 1 if it cannot be written."""
    if sys.stdout is None:
        return 0
    encoding = sys.stdout.encoding
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), end="", flush=True)
    except BrokenPipeError:  # whoever read the output has read enough
        return 0
    except OSError as error:
        complain(f"cannot write: {error.strerror}")
        return 1
    return 0


def _warn_of_variables() -> None:
    """Log the environment variables that are not read although their names begin with MAZE_."""
    for name, hint in unknown_variables(os.environ).items():
        log.warning("variable_unknown", variable=name, hint=hint)
    for name, value in ignored_variables(os.environ).items():
        log.warning("variable_ignored", variable=name, value=value, why=SERVICE_ADDRESS)


def _server_of(settings: Settings, child: Child | None) -> Server:
    """Create the server of a role. Raise MazeError."""
    if settings.role == "all":
        return MazeServer(settings)
    if settings.role == "edge":
        from maze.roles.edge import EdgeServer  # noqa: PLC0415, roles take 2 MB

        return EdgeServer(settings, child.name if child else "")
    from maze.roles.ingest import FeedServer, IngestServer  # noqa: PLC0415

    if not settings.feed:
        return IngestServer(settings)
    is_temporary = child is not None and child.has_in_folder(settings.journal)
    return FeedServer(settings, has_temporary_journal=is_temporary)


def _run_parent(
    settings: Settings,
    arguments: Sequence[str],
    sockets: dict[str, int],
    writer: LineWriter,
    *,
    ends_process: bool,
) -> int:
    """Run an ingest and edges as processes of their own; return the exit status."""
    from maze.roles.parent import Parent  # noqa: PLC0415, roles take 2 MB

    if fault := combination_fault(settings):
        raise SettingsError(fault)
    raise_descriptor_limit()
    parent = Parent(settings, arguments, sockets)
    if ends_process:
        parent.on_stop = ExitDeadline(writer, lambda: 0).begin
    parent.stop_on_signals()
    supervisor = Supervisor()
    status = parent.run(supervisor.report, supervisor.ready)
    supervisor.stopping()
    return status


def _run_server(
    server: Server,
    child: Child | None,
    sockets: dict[str, int],
    reloader: Reloader,
    writer: LineWriter,
) -> int:
    """Run a server in this process; return the exit status. Raise MazeError."""
    admin_socket = sockets.pop("admin", None)
    server.inherit(sockets)
    admin: Admin | Relay | None = None
    if child:
        server.inherit(child.listeners)
        child.begin(partial(_drain_child, server), server.stop)
        admin = Relay(server, writer, child.questions)
    elif server.settings.admin_port:
        admin = Admin(server, writer, admin_socket)
    gevent.signal_handler(signal.SIGHUP, reloader.reload)
    watch = CertificateWatch(server, reloader)
    watch.start()
    _serve(server, admin, writer, child)
    watch.stop()
    return server.status


def _drain_child(server: Server, seconds: float) -> None:
    """Drain with the other processes; a process that does not serve yet ends at once."""
    if not server.is_recovered:
        os._exit(0)
    server.begin_stop(total=seconds)
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
        server.start(supervisor.report, partial(_stop_on_signal, server, supervisor, child))
        if admin:
            admin.announce()
        if child:
            child.tell_ready()
        _run(server, supervisor, writer)
    finally:
        if admin:
            admin.stop()


def _run(server: Server, supervisor: Supervisor, writer: LineWriter) -> None:
    """Handle SIGUSR2 and notify the supervisor until the server has stopped."""
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
        f"{name} on {endpoint_name(addresses[name])}"
        for name in ADDRESS_FIELDS
        if name in addresses
    )


def _stop_on_signal(server: Server, supervisor: Supervisor, child: Child | None) -> None:
    """Drain the server on the first SIGTERM or SIGINT, and exit on the second.

    A signal that comes while the ports are being opened waits until they are open.

    A child leaves SIGINT to its parent. If SIGTERM was sent to the parent as well, the child drains
    as the parent says, with the other processes.
    """
    stopping = False

    def on_signal(number: int) -> None:
        nonlocal stopping
        if stopping:
            os._exit(128 + number)
        stopping = True
        server.begin_stop()
        server.await_start()
        supervisor.stopping()
        if child:
            gevent.sleep(PARENT_SECONDS)
        server.drain()

    for number in (signal.SIGTERM,) if child else (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, on_signal, number)


if __name__ == "__main__":
    run()
