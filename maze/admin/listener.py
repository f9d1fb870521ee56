"""The admin port's HTTP server, with limits that protect the event path.

The server bounds the number of connections, and the size and duration of each
request; a connection carries one request. A new connection beyond the bound is
accepted and evicts the oldest. Requests take milliseconds, so the oldest is one
that sits idle, and a health check never waits for a free slot.
"""

from __future__ import annotations

import re
from contextlib import suppress
from socket import MSG_PEEK, SHUT_WR
from typing import TYPE_CHECKING, Any

import gevent
import structlog
from gevent import Greenlet, GreenletExit
from gevent.pool import Pool
from gevent.pywsgi import WSGIHandler, WSGIServer
from gevent.socket import socket

from maze.admin.application import MAX_WATCHERS, Application
from maze.admin.monitor import Monitor
from maze.admin.responses import error_page
from maze.admin.view import ServerView, View
from maze.errors import ListenError
from maze.net.peer import endpoint_name, endpoint_of
from maze.net.unix_socket import SocketFile
from maze.settings.combinations import admin_fault
from maze.settings.option_types import FREE_PORT
from maze.settings.port import unix_path

if TYPE_CHECKING:
    from maze.log.line_writer import LineWriter
    from maze.server import Server

log = structlog.get_logger()

MAX_CONNECTIONS = 24
"""Connections open at a time, live pages excluded; ``application.MAX_WATCHERS`` bounds those.
``listener.system_limits.RESERVED_DESCRIPTORS`` includes a descriptor for each."""
SPARE_CONNECTIONS = 8
"""Greenlets beyond both bounds, for connections just accepted or just evicted."""
HEAD_SECONDS = 10.0
"""Time limit for receiving a whole request, body included."""
WRITE_SECONDS = 10.0
"""Time limit for each write of the response, so that a client that stops reading is closed."""
MAX_LINE_BYTES = 8000
"""Length limit of the request line."""
MAX_HEADERS = 64
MAX_HEAD_BYTES = 16 * 1024
"""Size limit of all headers together."""
MAX_BODY_BYTES = 1024
"""Size limit of the body. No request needs one; a small body is read and discarded."""
LINGER_SECONDS = 1.0
MAX_LINGER_READS = 16
"""Time and number of reads spent on discarding the rest of a refused request."""


_ABSOLUTE_FORM = re.compile(
    r"https?://(?P<host>[^/?#]+)(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?", re.IGNORECASE
)
"""A request's target with its host, as proxies and some probes send it: RFC 9112, section 3.2.2."""


class AdminPort:
    """An admin port, which shows a view."""

    def __init__(self, view: View, descriptor: int | None = None) -> None:
        """``descriptor`` is that of a socket that listens already, if there is one.

        Raise ValueError if the options expose the port without a token.
        """
        settings = view.settings
        if fault := admin_fault(settings):
            raise ValueError(fault)
        self._host = settings.admin_host
        port = 0 if settings.admin_port == FREE_PORT else settings.admin_port
        self._address = (self._host, port)
        self._is_announced = False
        self.application = Application(view)
        self._pool = Pool(MAX_CONNECTIONS + MAX_WATCHERS + SPARE_CONNECTIONS)
        self._wsgi = _Server(
            self._address,
            self.application,
            spawn=self._pool,
            log=None,
            error_log=None,
            handler_class=_Handler,
            environ={"SERVER_NAME": self._host},  # otherwise a DNS lookup would block
        )
        if descriptor is not None:
            self._wsgi.set_listener(socket(fileno=descriptor))
            self._host = endpoint_of(self._wsgi.address)[0]

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port, known once the server listens; ``unix:PATH`` and 0 of a path."""
        return self._host, endpoint_of(self._wsgi.address)[1]

    def start(self) -> None:
        """Listen; raise ListenError if the port cannot be opened."""
        try:
            self._wsgi.start()
        except OSError as error:
            why = str(error.strerror or error).partition(": (")[0]
            raise ListenError(
                f"cannot listen on {endpoint_name(self._address)}: {why}; "
                "--admin-host and --admin-port choose another address, --admin-port 0 disables "
                "the port"
            ) from None

    def announce(self) -> None:
        """Log the address, once."""
        if self._is_announced:
            return
        self._is_announced = True
        log.info("admin_ready", admin_host=self.address[0], admin_port=self.address[1])

    def stop(self) -> None:
        """Close the port and abort every request in progress."""
        self._wsgi.close()
        self._pool.kill(block=False)


class Admin(AdminPort):
    """The admin port of one server."""

    def __init__(
        self, server: Server, writer: LineWriter | None = None, descriptor: int | None = None
    ) -> None:
        """See ``AdminPort``."""
        self.monitor = Monitor(server, writer)
        super().__init__(ServerView(server, self.monitor), descriptor)

    def start(self) -> None:
        """Listen; raise ListenError if the port cannot be opened."""
        super().start()
        self.monitor.start()

    def stop(self) -> None:
        """Close the port and abort every request in progress."""
        self.monitor.stop()
        super().stop()


class _EvictedError(GreenletExit):
    """Raised in the greenlet of the oldest connection to evict it."""


class _Server(WSGIServer):
    """A WSGI server that tracks its connections, oldest first, live pages excluded."""

    max_accept = SPARE_CONNECTIONS

    def __init__(self, address: tuple[str, int], *args: Any, **options: Any) -> None:
        self._file = SocketFile(unix_path(address[0]))
        super().__init__(address, *args, **options)
        self._connections: dict[Greenlet[..., Any], None] = {}

    def init_socket(self) -> None:
        """Bind the socket, and listen."""
        if self._file.path and not hasattr(self, "socket"):
            self.set_listener(self._file.listen(self.backlog))
        super().init_socket()

    def close(self) -> None:
        """Stop listening; remove the file of a Unix socket that was made here."""
        self._file.remove()
        super().close()

    def add(self, connection: Greenlet[..., Any]) -> None:
        """Add a new connection, and evict the oldest if there are too many."""
        self._connections[connection] = None
        if len(self._connections) > MAX_CONNECTIONS:
            oldest = next(iter(self._connections))
            self.remove(oldest)
            oldest.kill(_EvictedError, block=False)

    def remove(self, connection: Greenlet[..., Any]) -> None:
        """Remove a connection that has ended or become a live page."""
        self._connections.pop(connection, None)


class _RefusedError(ValueError):
    """A request that is refused before it reaches ``Application``."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Head:
    """A file wrapper that enforces the limits on a request's headers."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._left = MAX_HEAD_BYTES
        self._lines = 0

    def readline(self, size: int) -> bytes:
        line: bytes = self._file.readline(min(size, self._left + 1))
        self._left -= len(line)
        if self._left < 0:
            raise _RefusedError(431, f"the headers exceed {MAX_HEAD_BYTES} bytes")
        self._lines += 1
        if self._lines > MAX_HEADERS + 1:  # the last line is empty
            raise _RefusedError(431, f"the request has more than {MAX_HEADERS} headers")
        return line


_AnyHandler: Any = WSGIHandler  # its type stub declares some overridden methods wrongly


class _Handler(_AnyHandler):  # type: ignore[misc]
    """One connection, which serves one request."""

    content_length: int | None
    path: str
    response_headers: list[tuple[bytes, bytes]]

    def handle(self) -> None:
        connection = gevent.getcurrent()
        self.server.add(connection)
        self._deadline = gevent.Timeout.start_new(HEAD_SECONDS)
        try:
            super().handle()
        finally:
            self._deadline.close()
            self.server.remove(connection)

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
            self.socket.settimeout(0)  # the refusal must not wait for the client
            message = f"closed as the oldest of more than {MAX_CONNECTIONS} connections; try again"
            refusal = _RefusedError(503, message)
        except gevent.Timeout as timeout:
            if timeout is not self._deadline:
                raise
            message = f"the request was not complete within {HEAD_SECONDS:g} s"
            refusal = _RefusedError(408, message)
        # A browser that preconnects would take a refusal for the response to its first request.
        return self._refuse(refusal) if has_begun else None

    def read_requestline(self) -> str:
        line: str = super().read_requestline()
        if len(line) > MAX_LINE_BYTES:
            raise _RefusedError(414, f"the request line exceeds {MAX_LINE_BYTES} bytes")
        return line

    def MessageClass(self, file: Any, *_: object) -> Any:  # noqa: N802
        return super().MessageClass(_Head(file))

    def read_request(self, raw_requestline: str) -> bool:
        is_read: bool = super().read_request(raw_requestline)
        if self.headers.get("transfer-encoding"):
            message = "a chunked body is not accepted; send a Content-Length, or no body"
            raise _RefusedError(411, message)
        if (self.content_length or 0) > MAX_BODY_BYTES:
            raise _RefusedError(413, f"the body exceeds {MAX_BODY_BYTES} bytes")
        self.rfile.read(self.content_length or 0)
        self.content_length = None  # otherwise pywsgi reads it again, without a deadline
        return is_read

    def get_environ(self) -> Any:
        self._deadline.cancel()  # the request is complete
        self.socket.settimeout(WRITE_SECONDS)
        self.close_connection = True
        return self._environ()

    def _environ(self) -> Any:
        """Return the WSGI environment; the host of a target in absolute form is the Host."""
        absolute = _ABSOLUTE_FORM.fullmatch(self.path)
        if absolute is None:
            return super().get_environ()
        self.path = (absolute["path"] or "/") + (absolute["query"] or "")
        return super().get_environ() | {"HTTP_HOST": absolute["host"]}

    def finalize_headers(self) -> None:
        if not isinstance(self.result, list):
            self.server.remove(gevent.getcurrent())  # a live page is never evicted
        # pywsgi has added one to an answer to HTTP/1.0
        others = [field for field in self.response_headers if field[0].lower() != b"connection"]
        self.response_headers = [*others, (b"Connection", b"close")]
        super().finalize_headers()

    def log_error(self, msg: str, *args: object) -> None:
        """Log nothing: the response tells the client what is wrong with its request."""

    def _handle_client_error(self, ex: Exception) -> None:
        if not isinstance(ex, _RefusedError):
            ex = _RefusedError(400, "this is not a valid HTTP request")
        self._refuse(ex)

    def _refuse(self, refusal: _RefusedError) -> None:
        """Send the refusal, then discard some input before the connection is closed.

        Closing it with unread input sends a reset, which may discard the response.
        """
        self._deadline.cancel()
        answer = error_page(refusal.status, str(refusal), has_body=self.command != "HEAD")
        with suppress(OSError), gevent.Timeout(LINGER_SECONDS, TimeoutError):
            self.socket.sendall(answer)
            self.socket.shutdown(SHUT_WR)
            for _ in range(MAX_LINGER_READS):
                if not self.socket.recv(MAX_HEAD_BYTES):
                    return

    def handle_error(self, kind: Any, value: Any, _: Any) -> None:
        """End the connection; log the exception unless the client left or the server stops.

        Exceptions in ``Application`` do not get here: it answers them with a 500.
        """
        self.close_connection = True
        if not isinstance(value, OSError | GreenletExit):
            log.error("admin_request_failed", exc_info=value)
