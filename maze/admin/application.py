"""The addresses of the admin port: who may ask what, and what is answered.

A page of another site must be able to do nothing here, even from a browser on
the operator's machine: without a token the Host header has to name this
machine, so that no name of somebody else's can be pointed at it, and a POST has
to come from the page itself or from no page at all.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import gevent
import structlog

from maze.admin import assets
from maze.admin import client_list as reading
from maze.admin.metrics import CONTENT_TYPE, Metrics
from maze.admin.status import page_status, status, unready_because
from maze.pipeline.session import CloseReason
from maze.settings.options import is_loopback

if TYPE_CHECKING:
    from maze.admin.monitor import Monitor
    from maze.server import MazeServer

log = structlog.get_logger()

JSON = "application/json"
MAX_CLIENTS = 1_000
"""in one answer"""
MAX_WATCHERS = 8
"""live pages at a time; each holds a connection for as long as it likes"""

SECURITY_HEADERS = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)


@dataclass(frozen=True)
class Response:
    """What is answered; the body is whole, or comes bit by bit."""

    body: bytes | Iterator[bytes] = b""
    kind: str = JSON
    status: int = 200
    headers: tuple[tuple[str, str], ...] = (("Cache-Control", "no-store"),)


@dataclass(frozen=True)
class Request:
    """What is asked."""

    environ: dict[str, Any]
    parts: tuple[str, ...] = ()
    """of the path, where its pattern has groups"""
    query: dict[str, str] = field(default_factory=dict)


class HttpError(Exception):
    """What was asked cannot be answered; carries the status and what is wrong."""

    def __init__(self, status: int, message: str, *headers: tuple[str, str]) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


@dataclass(frozen=True)
class Route:
    """One address."""

    pattern: re.Pattern[str]
    methods: tuple[str, ...]
    answer: Callable[[Request], Response]
    options: frozenset[str] | None
    """the names its query may have; None if nobody looks at it"""
    is_open: bool
    """needs no token: the page itself, which has nothing to tell until it has one"""


class Application:
    """The WSGI application."""

    def __init__(self, server: MazeServer, monitor: Monitor, metrics: Metrics) -> None:
        self._server = server
        self._monitor = monitor
        self._metrics = metrics
        self.watchers = 0
        """live pages that are being told"""
        self._made = (-1, b"")  # the tick, and the event that tells of it
        self._routes = [
            # Probes, scrapers and browsers add to an address what they need for themselves.
            _route("/healthz", self._health, options=None),
            _route("/readyz", self._readiness, options=None),
            _route("/metrics", self._exposition, options=None),
            _route("/", self._page, options=None, is_open=True),
            _route("/page/([a-z.]+)", self._asset, options=None, is_open=True),
            # Who asks for these would take a misspelt option for one that works.
            _route("/api/status", self._status),
            _route("/api/clients", self._clients, options=("sort", "limit")),
            _route(
                "/api/clients/([1-9][0-9]{0,17})/disconnect", self._disconnect, methods=("POST",)
            ),
            _route("/api/events", self._events, methods=("GET",)),
        ]

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., object]
    ) -> Iterable[bytes]:
        """Answer one request."""
        response = self._answer(environ)
        body = response.body
        headers = [("Content-Type", response.kind), *response.headers, *SECURITY_HEADERS]
        if isinstance(body, bytes) and response.status != HTTPStatus.NOT_MODIFIED:
            headers.append(("Content-Length", str(len(body))))
        start_response(f"{response.status} {HTTPStatus(response.status).phrase}", headers)
        if environ["REQUEST_METHOD"] == "HEAD":
            return []
        return [body] if isinstance(body, bytes) else body

    def _answer(self, environ: dict[str, Any]) -> Response:
        try:
            return self._route(environ)
        except HttpError as error:
            return _error(error.status, str(error), error.headers)
        except Exception:
            log.exception("admin_request_failed", path=environ["PATH_INFO"])
            return _error(500, "the server failed to answer; its log says why")

    def _route(self, environ: dict[str, Any]) -> Response:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        fitting = [route for route in self._routes if route.pattern.fullmatch(path)]
        self._check_host(environ)
        if not all(route.is_open for route in fitting) or not fitting:
            self._check_token(environ)
        if not fitting:
            raise HttpError(404, "there is nothing at this address")
        for route in fitting:
            if method in route.methods:
                if method == "POST":
                    _check_origin(environ)
                match = route.pattern.fullmatch(path)
                assert match is not None
                query = _query(environ["QUERY_STRING"], route.options)
                return route.answer(Request(environ, match.groups(), query))
        allowed = ", ".join(method for route in fitting for method in route.methods)
        raise HttpError(405, f"this address takes {allowed} only", ("Allow", allowed))

    def _check_host(self, environ: dict[str, Any]) -> None:
        """Refuse a Host that somebody else may have pointed at this machine."""
        settings = self._server.settings
        host = environ.get("HTTP_HOST", "")
        name = host.rpartition(":")[0] if re.search(r":[0-9]+$", host) else host
        name = name.removeprefix("[").removesuffix("]")
        if settings.admin_token or is_loopback(name) or name == settings.admin_host:
            return
        raise HttpError(421, "the Host header has to name this machine, for example localhost")

    def _check_token(self, environ: dict[str, Any]) -> None:
        token = self._server.settings.admin_token
        if not token:
            return
        given = environ.get("HTTP_AUTHORIZATION", "").encode("latin-1", "replace")
        if not hmac.compare_digest(given, b"Bearer " + token.encode()):
            raise HttpError(
                401,
                "this needs the header Authorization: Bearer, followed by the admin token",
                ("WWW-Authenticate", "Bearer"),
            )

    # What is answered at each address.

    def _health(self, _: Request) -> Response:
        return _json({"status": "ok"})

    def _readiness(self, _: Request) -> Response:
        why = unready_because(self._server, self._monitor)
        if why is None:
            return _json({"status": "ready"})
        return _json({"status": "not ready", "because": why}, 503)

    def _exposition(self, _: Request) -> Response:
        return Response(self._metrics.text(), CONTENT_TYPE)

    def _status(self, _: Request) -> Response:
        return _json(status(self._server, self._monitor))

    def _clients(self, request: Request) -> Response:
        sort = request.query.get("sort", "queued")
        if sort not in reading.SORT_KEYS:
            raise HttpError(400, f"sort is one of {', '.join(reading.SORT_KEYS)}")
        limit = request.query.get("limit", "50")
        if not re.fullmatch("[0-9]{1,9}", limit) or not 1 <= int(limit) <= MAX_CLIENTS:
            raise HttpError(400, f"limit is a whole number from 1 to {MAX_CLIENTS}")
        return _json(
            {
                "connected": len(self._server.sessions),
                "clients": reading.clients(self._server, sort, int(limit)),
            }
        )

    def _disconnect(self, request: Request) -> Response:
        connection = int(request.parts[0])
        session = reading.session_of(self._server, connection)
        if session is None:
            raise HttpError(404, f"there is no session {connection}; it may have ended")
        log.info("client_disconnected", client=session.peer, user=session.user)
        session.close(CloseReason.OPERATOR)
        return _json({"session": connection, "disconnected": True})

    def _events(self, _: Request) -> Response:
        if self.watchers >= MAX_WATCHERS:
            raise HttpError(503, f"{MAX_WATCHERS} pages are watching already")
        headers = (("Cache-Control", "no-store"), ("X-Accel-Buffering", "no"))
        return Response(self._stream(), "text/event-stream", 200, headers)

    def _page(self, request: Request) -> Response:
        return self._file("index.html", request)

    def _asset(self, request: Request) -> Response:
        return self._file(request.parts[0], request)

    def _file(self, name: str, request: Request) -> Response:
        asset = assets.load(name)
        if asset is None:
            raise HttpError(404, f"the page has no file {name}")
        headers = (("Cache-Control", "no-cache"), ("ETag", asset.tag), ("Vary", "Accept-Encoding"))
        if request.environ.get("HTTP_IF_NONE_MATCH") == asset.tag:
            return Response(b"", asset.kind, 304, headers)
        if "gzip" not in request.environ.get("HTTP_ACCEPT_ENCODING", ""):
            return Response(asset.content, asset.kind, 200, headers)
        return Response(asset.packed, asset.kind, 200, (*headers, ("Content-Encoding", "gzip")))

    def _stream(self) -> Iterator[bytes]:
        """Server-sent events: what was before, then a status every second."""
        self.watchers += 1
        try:
            yield _event("history", list(self._monitor.points))
            yield _event("status", page_status(self._server, self._monitor))
            while True:
                gevent.sleep(self._monitor.seconds_to_tick())
                yield self._status_of_tick()
        finally:
            self.watchers -= 1

    def _status_of_tick(self) -> bytes:
        """Made once a tick for all who watch: with 9,000 sessions it takes 10 ms."""
        tick, event = self._made
        if tick != self._monitor.ticks:
            event = _event("status", page_status(self._server, self._monitor))
            self._made = (self._monitor.ticks, event)
        return event


def _route(
    path: str,
    answer: Callable[[Request], Response],
    methods: tuple[str, ...] = ("GET", "HEAD"),
    options: Iterable[str] | None = (),
    is_open: bool = False,
) -> Route:
    names = None if options is None else frozenset(options)
    return Route(re.compile(path), methods, answer, names, is_open)


def _query(text: str, names: frozenset[str] | None) -> dict[str, str]:
    if names is None:
        return {}
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=8)
    except ValueError:
        raise HttpError(400, "the query is not of the form name=value&name=value") from None
    for name, _ in pairs:
        if name not in names:
            known = f"it knows {', '.join(sorted(names))}" if names else "it takes none"
            raise HttpError(400, f"this address does not know the query {name[:40]!r}; {known}")
    if len(dict(pairs)) < len(pairs):
        raise HttpError(400, "a name stands twice in the query")
    return dict(pairs)


def _check_origin(environ: dict[str, Any]) -> None:
    """Refuse what a page of another site makes a browser send."""
    origin = environ.get("HTTP_ORIGIN")
    own = {f"{scheme}://{environ.get('HTTP_HOST', '')}" for scheme in ("http", "https")}
    site = environ.get("HTTP_SEC_FETCH_SITE", "none")
    if (origin is not None and origin not in own) or site not in ("same-origin", "none"):
        raise HttpError(403, "a page of another origin may not do this")


def _json(value: object, status_code: int = 200) -> Response:
    return Response(json.dumps(value).encode() + b"\n", status=status_code)


def _error(code: int, message: str, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    body = json.dumps({"error": message}).encode() + b"\n"
    return Response(body, status=code, headers=(("Cache-Control", "no-store"), *headers))


def error_page(code: int, message: str, *, has_body: bool = True) -> bytes:
    """The bytes of a whole answer, for what does not get as far as here."""
    body = json.dumps({"error": message}).encode() + b"\n"
    line = f"HTTP/1.1 {code} {HTTPStatus(code).phrase}"
    head = f"{line}\r\nContent-Type: {JSON}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + (body if has_body else b"")


def _event(name: str, value: object) -> bytes:
    return f"event: {name}\ndata: {json.dumps(value)}\n\n".encode()
