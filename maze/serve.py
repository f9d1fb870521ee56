"""The command line: settings in, exit status out. ``python -m maze.serve --help``."""

import os
import signal
import sys
from collections.abc import Sequence

import gevent
import structlog

from maze import logs
from maze.limits import raise_descriptor_limit
from maze.memory import tune_memory
from maze.net import ListenError
from maze.reload import Reloader
from maze.server import MazeServer
from maze.settings import SettingsError, parse_settings, read_settings

log = structlog.get_logger()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; a second one exits at once.

    Returns the exit status: 0 after an orderly end, 1 if a port is taken or
    the router failed, 2 if a file of TLS's will not do. Wrong settings raise
    SystemExit with status 2.
    """
    settings = read_settings(arguments)
    writer = logs.configure(settings.log_level, settings.log_format)
    try:
        server = MazeServer(settings)
        reloader = Reloader(server, lambda: parse_settings(arguments))
        gevent.signal_handler(signal.SIGHUP, reloader.reload)
        return _serve(server)
    except SettingsError as error:
        print(f"maze: {error}", file=sys.stderr)
        return 2
    finally:
        writer.close()


def _serve(server: MazeServer) -> int:
    raise_descriptor_limit()
    tune_memory()
    try:
        server.start()
    except ListenError as error:
        print(f"maze: {error}", file=sys.stderr)
        return 1
    _stop_on_signal(server)
    server.wait()
    return 1 if server.failed else 0


def _stop_on_signal(server: MazeServer) -> None:
    stopping = False

    def on_signal(number: int) -> None:
        nonlocal stopping
        if stopping:
            os._exit(128 + number)
        stopping = True
        server.drain()

    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, on_signal, number)


if __name__ == "__main__":
    sys.exit(main())
