"""Listens on the admin port and keeps its clients within bounds.

A few connections at a time, each within limits of size and time, with one
request each: whatever is sent here, the event path must not feel it. Whoever
comes beyond the bound is let in, and the oldest connection has to go. A request
takes milliseconds, so the oldest is one that only holds its place, and a health
check need never wait for it.
"""

from __future__ import annotations

from contextlib import suppress
from socket import MSG_PEEK, SHUT_WR
from typing import TYPE_CHECKING, Any

import gevent
import structlog
from gevent import Greenlet, GreenletExit
from gevent.pool import Pool
from gevent.pywsgi import WSGIHandler, WSGIServer

from maze.admin.application import MAX_WATCHERS, Application, error_page
from maze.admin.metrics import Metrics
from maze.admin.monitor import Monitor
from maze.errors import ListenError
from maze.settings.option_types import FREE_PORT
from maze.settings.options import admin_fault

if TYPE_CHECKING:
    from maze.log.line_writer import LineWriter
    from maze.server import MazeServer

log = structlog.get_logger()

CONNECTIONS = 24
"""at a time, besides the live pages, which Application bounds; their descriptors are
among those that maze.limits reserves"""
ROOM = 8
"""for connections that have just come or were just told to go"""
HEAD_SECONDS = 10.0
"""for a request to come in whole"""
WRITE_SECONDS = 10.0
"""for a client to take anything of the answer"""
LINE_BYTES = 8000
"""of the method and the address"""
HEADERS = 64
HEAD_BYTES = 16 * 1024
"""of all headers"""
BODY_BYTES = 1024
"""no request needs a body; a small one is thrown away"""
LINGER_SECONDS = 1.0
LINGER_READS = 16
"""for what a refused client still sends"""


class Admin:
    """The admin port of one server."""

    def __init__(self, server: MazeServer, writer: LineWriter | None = None) -> None:
        """Raises ValueError if the options are not safe together."""
        settings = server.settings
        if fault := admin_fault(settings):
            raise ValueError(fault)
        self.monitor = Monitor(server, writer)
        self._host = settings.admin_host
        port = 0 if settings.admin_port == FREE_PORT else settings.admin_port
        metrics = Metrics(server, self.monitor)
        self.application = Application(server, self.monitor, metrics)
        self._pool = Pool(CONNECTIONS + MAX_WATCHERS + ROOM)
        self._wsgi = _Server(
            (self._host, port),
            self.application,
            spawn=self._pool,
            log=None,
            error_log=None,
            handler_class=_Handler,
            environ={"SERVER_NAME": self._host},  # else it would be looked up, and block
        )

    @property
    def address(self) -> tuple[str, int]:
        """Host and port; known once it is open."""
        return self._host, int(self._wsgi.address[1])

    def start(self) -> None:
        """Listen. Raises ListenError."""
        try:
            self._wsgi.start()
        except OSError as error:
            why = str(error.strerror).partition(": (")[0]
            raise ListenError(
                f"cannot listen on {self._host} port {self._wsgi.address[1]}: {why}; "
                "--admin-host and --admin-port choose another address, --admin-port 0 does without"
            ) from None
        self.monitor.start()

    def announce(self) -> None:
        """Tell the log where it is."""
        log.info("admin_ready", admin_host=self.address[0], admin_port=self.address[1])

    def stop(self) -> None:
        """Answer no more, and end what is being answered."""
        self.monitor.stop()
        self._wsgi.close()
        self._pool.kill(block=False)


class _EvictedError(GreenletExit):
    """This connection is the oldest, and one too many."""


class _Server(WSGIServer):
    """Knows its connections, oldest first, but for the live pages."""

    max_accept = ROOM

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._connections: dict[Greenlet[..., Any], None] = {}

    def enter(self, connection: Greenlet[..., Any]) -> None:
        """Count a new connection, and close the oldest if this is one too many."""
        self._connections[connection] = None
        if len(self._connections) > CONNECTIONS:
            oldest = next(iter(self._connections))
            self.leave(oldest)
            oldest.kill(_EvictedError, block=False)

    def leave(self, connection: Greenlet[..., Any]) -> None:
        """Count it no more: it has ended, or become a live page."""
        self._connections.pop(connection, None)


class _RefusedError(ValueError):
    """A request that does not get as far as Application."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Head:
    """A request's headers as a file, up to the limits."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._left = HEAD_BYTES
        self._lines = 0

    def readline(self, size: int) -> bytes:
        line: bytes = self._file.readline(min(size, self._left + 1))
        self._left -= len(line)
        if self._left < 0:
            raise _RefusedError(431, f"the headers have more than {HEAD_BYTES} bytes")
        self._lines += 1
        if self._lines > HEADERS + 1:  # an empty line ends them
            raise _RefusedError(431, f"there are more than {HEADERS} headers")
        return line


_AnyHandler: Any = WSGIHandler  # its stub has some of what is overridden here wrong


class _Handler(_AnyHandler):  # type: ignore[misc]
    """One connection, which carries one request."""

    content_length: int | None

    def handle(self) -> None:
        connection = gevent.getcurrent()
        self.server.enter(connection)
        self._deadline = gevent.Timeout.start_new(HEAD_SECONDS)
        try:
            super().handle()
        finally:
            self._deadline.close()
            self.server.leave(connection)

    def handle_one_request(self) -> Any:
        has_begun = False
        try:
            has_begun = bool(self.socket.recv(1, MSG_PEEK))
            return super().handle_one_request() if has_begun else None
        except OSError:
            return None
        except _RefusedError as error:
            return self._refuse(error)
        except _EvictedError:
            self.socket.settimeout(0)  # it has to go at once
            message = f"more than {CONNECTIONS} connections, of which this was the oldest"
            refusal = _RefusedError(503, message)
        except gevent.Timeout as timeout:
            if timeout is not self._deadline:
                raise
            message = f"the request did not come whole within {HEAD_SECONDS:g} s"
            refusal = _RefusedError(408, message)
        # A browser that connects ahead of need would take it for the answer to its first request.
        return self._refuse(refusal) if has_begun else None

    def read_requestline(self) -> str:
        line: str = super().read_requestline()
        if len(line) > LINE_BYTES:
            message = f"the request's first line is over {LINE_BYTES} bytes long"
            raise _RefusedError(414, message)
        return line

    def MessageClass(self, file: Any, *_: object) -> Any:  # noqa: N802
        return super().MessageClass(_Head(file))

    def read_request(self, raw_requestline: str) -> bool:
        is_read: bool = super().read_request(raw_requestline)
        if self.headers.get("transfer-encoding"):
            message = "a body needs a Content-Length and may not come in chunks; none is needed"
            raise _RefusedError(411, message)
        if (self.content_length or 0) > BODY_BYTES:
            raise _RefusedError(413, f"the request has a body of more than {BODY_BYTES} bytes")
        self.rfile.read(self.content_length or 0)
        self.content_length = None  # else pywsgi would read it again, and without the deadline
        return is_read

    def get_environ(self) -> Any:
        self._deadline.cancel()  # it has come in whole
        self.socket.settimeout(WRITE_SECONDS)
        self.close_connection = True
        return super().get_environ()

    def finalize_headers(self) -> None:
        if not isinstance(self.result, list):
            self.server.leave(gevent.getcurrent())  # a live page may stay
        self.response_headers.append((b"Connection", b"close"))
        super().finalize_headers()

    def log_error(self, msg: str, *args: object) -> None:
        """Say nothing of bad requests but what the client is told."""

    def _handle_client_error(self, ex: Exception) -> None:
        if not isinstance(ex, _RefusedError):
            ex = _RefusedError(400, "this is not an HTTP request as it should be")
        self._refuse(ex)

    def _refuse(self, refusal: _RefusedError) -> None:
        """Answer, and take some of what is still coming, or the answer would be lost in a reset."""
        self._deadline.cancel()
        answer = error_page(refusal.status, str(refusal), has_body=self.command != "HEAD")
        with suppress(OSError), gevent.Timeout(LINGER_SECONDS, TimeoutError):
            self.socket.sendall(answer)
            self.socket.shutdown(SHUT_WR)
            for _ in range(LINGER_READS):
                if not self.socket.recv(HEAD_BYTES):
                    return

    def handle_error(self, kind: Any, value: Any, _: Any) -> None:
        """The client left, or takes nothing; or the server stops. Faults end in Application."""
        self.close_connection = True
        if not isinstance(value, OSError | GreenletExit):
            log.error("admin_request_failed", exc_info=value)
