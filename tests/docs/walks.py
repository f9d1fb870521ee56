"""Traces walks through the server with the pure core: ``python -m docs.walks [JOURNAL]``.

Prints, as JSON, which functions of ``maze`` each walk calls: a list of [file, qualified name]. With
the file of a new journal, the server keeps one.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import gevent
import greenlet
from gevent.socket import create_connection

import maze
from maze import serve
from maze.admin import Admin
from maze.server import MazeServer

ROOT = Path(maze.__file__).parent
PATIENCE = 60.0
WALKS = ("client", "source", "chunk", "returning", "request", "shutdown")


class Trace:
    """Notes every function of the package that is called, in every greenlet and thread.

    The event loop's own thread pool is left out: its threads cannot be traced.
    """

    def __init__(self) -> None:
        self.called: dict[CodeType, None] = {}
        greenlet.settrace(lambda *_: sys.setprofile(self._on_call))
        sys.setprofile(self._on_call)
        threading.setprofile(self._on_call)

    def _on_call(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            self.called[frame.f_code] = None

    def of(self, walk: Callable[[], object]) -> list[tuple[str, str]]:
        """Return the functions that a walk calls."""
        self.called.clear()
        walk()
        return self.functions()

    def functions(self) -> list[tuple[str, str]]:
        """Return the functions called since the last walk began, or since the start."""
        paths = ((Path(code.co_filename), code.co_qualname) for code in list(self.called))
        return [
            (str(path.relative_to(ROOT)), name) for path, name in paths if path.is_relative_to(ROOT)
        ]


class Walks:
    """The server under trace, with a source and a client."""

    def __init__(self, server: MazeServer, admin_address: tuple[str, int]) -> None:
        self._server = server
        self._admin_address = admin_address

    def client(self) -> None:
        """Connect a client, and wait until it is in the follow graph."""
        self._client = create_connection(self._server.client_address)
        self._client.sendall(b"1\n")
        while not len(self._server.sessions):
            gevent.sleep(0.001)

    def source(self) -> None:
        """Connect a source, and wait until its first event is routed."""
        self._source = create_connection(self._server.source_address)
        self._source.sendall(b"1|F|1|2\n")
        while not self._server.router.stats.routed_events:
            gevent.sleep(0.001)

    def chunk(self) -> None:
        """Send one chunk, and receive what the client gets of it."""
        self._source.sendall(b"3|S|2\n2|P|5|1\n4|B\n")
        received = b""
        while received != b"2|P|5|1\n3|S|2\n4|B\n":
            received += self._client.recv(100)

    def returning(self) -> None:
        """Connect a client that comes back with the position that it had before the chunk."""
        epoch = self._server.router.position.epoch
        with create_connection(self._server.client_address) as sock:
            sock.sendall(b"1|%d-1\n" % epoch)
            received = b""
            while received != b"=|%d-1\n2|P|5|1\n3|S|2\n4|B\n" % epoch:
                received += sock.recv(100)

    def request(self) -> None:
        """Ask the admin port for the status."""
        with create_connection(self._admin_address) as sock:
            sock.sendall(b"GET /api/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
            while sock.recv(65536):
                pass

    def shutdown(self) -> None:
        """Stop the server as SIGTERM does, and wait until it has stopped."""
        signal.raise_signal(signal.SIGTERM)
        self._server.wait()


def main() -> None:
    """Serve in this process, and take the walks in a greenlet."""
    options = [word for file in sys.argv[1:] for word in ("--journal", file)]
    walked: dict[str, Any] = {}
    walking: list[gevent.Greenlet[..., None]] = []
    trace = Trace()

    def walk(server: MazeServer, admin_address: tuple[str, int]) -> None:
        walks = Walks(server, admin_address)
        walked["start"] = trace.functions()
        for name in WALKS:
            walked[name] = trace.of(getattr(walks, name))

    # The admin port announces itself once everything is listening.
    class Announcing(Admin):
        def __init__(self, server: MazeServer, *rest: Any) -> None:
            super().__init__(server, *rest)
            self._server_for_walks = server

        def announce(self) -> None:
            walking.append(gevent.spawn(walk, self._server_for_walks, self.address))

    vars(serve)["Admin"] = Announcing
    with gevent.Timeout(PATIENCE):
        ports = ("--source-port", "0", "--client-port", "0", "--admin-port", "free")
        status = serve.main([*ports, *options, "--log-level", "error"])
        gevent.joinall(walking)
    print(json.dumps(walked))
    sys.exit(status)


if __name__ == "__main__":
    main()
