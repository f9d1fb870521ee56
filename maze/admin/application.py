"""The admin port's WSGI application: routes, access checks and responses.

Pages of other sites must not read or change anything here, even in a browser on
the operator's machine. Without a token the Host header must name this machine,
which defeats DNS rebinding. A POST must come from the live page or from outside
a browser.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

import gevent
import structlog

from maze.admin import assets
from maze.admin.client_list import SORT_KEYS
from maze.admin.metrics import CONTENT_TYPE
from maze.admin.view import View
from maze.settings.combinations import is_loopback

log = structlog.get_logger()

JSON = "application/json"
MAX_CLIENTS = 1_000
"""Clients in one response of ``/api/clients``."""
MAX_WATCHERS = 8
"""Live pages open at a time; each holds its connection without a time limit."""

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
    """A response; its body is either complete or an iterator of parts."""

    body: bytes | Iterator[bytes] = b""
    content_type: str = JSON
    status: int = 200
    headers: tuple[tuple[str, str], ...] = (("Cache-Control", "no-store"),)


@dataclass(frozen=True)
class Request:
    """A request that matched a route."""

    environ: dict[str, Any]
    path_groups: tuple[str, ...] = ()
    """The groups that the route's pattern matched in the path."""
    query: dict[str, str] = field(default_factory=dict)


class HttpError(Exception):
    """Raised to answer a request with an error status, a message and optional headers."""

    def __init__(self, status: int, message: str, *headers: tuple[str, str]) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


@dataclass(frozen=True)
class Route:
    """A path pattern, its methods, and the function that answers."""

    pattern: re.Pattern[str]
    methods: tuple[str, ...]
    answer: Callable[[Request], Response]
    options: frozenset[str] | None
    """Names of the query parameters allowed; None if the query is ignored."""
    is_public: bool
    """Whether requests need no token; true for the page's static files only."""


class Application:
    """The WSGI application of an admin port, which shows a view."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.watchers = 0
        """Live pages connected."""
        self._tick_event = (-1, b"")  # a tick's number and its encoded status event
        self._routes = [
            # Probes, scrapers and browsers append query parameters of their own.
            _route("/healthz", self._health, options=None),
            _route("/readyz", self._readiness, options=None),
            _route("/metrics", self._exposition, options=None),
            _route("/", self._page, options=None, is_public=True),
            _route("/page/([a-z.]+)", self._asset, options=None, is_public=True),
            # Here a misspelt parameter is an error: ignoring it would mislead the caller.
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
        headers = [("Content-Type", response.content_type), *response.headers, *SECURITY_HEADERS]
        if isinstance(body, bytes) and response.status != HTTPStatus.NOT_MODIFIED:
            headers.append(("Content-Length", str(len(body))))
        start_response(f"{response.status} {HTTPStatus(response.status).phrase}", headers)
        if environ["REQUEST_METHOD"] == "HEAD":
            return []
        return [body] if isinstance(body, bytes) else body

    def _answer(self, environ: dict[str, Any]) -> Response:
        try:
            return self._dispatch(environ)
        except HttpError as error:
            return _error(error.status, str(error), error.headers)
        except Exception:
            log.exception("admin_request_failed", path=environ["PATH_INFO"])
            return _error(500, "internal error; see admin_request_failed in the server's log")

    def _dispatch(self, environ: dict[str, Any]) -> Response:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        matching = [route for route in self._routes if route.pattern.fullmatch(path)]
        self._check_host(environ)
        if not all(route.is_public for route in matching) or not matching:
            self._check_token(environ)
        if not matching:
            raise HttpError(404, "no such path")
        for route in matching:
            if method in route.methods:
                if method == "POST":
                    _check_origin(environ)
                match = route.pattern.fullmatch(path)
                assert match is not None
                query = _query(environ["QUERY_STRING"], route.options)
                return route.answer(Request(environ, match.groups(), query))
        allowed = ", ".join(method for route in matching for method in route.methods)
        raise HttpError(405, f"this path accepts {allowed} only", ("Allow", allowed))

    def _check_host(self, environ: dict[str, Any]) -> None:
        """Refuse a Host that may belong to a DNS rebinding attack."""
        settings = self._view.settings
        host = environ.get("HTTP_HOST", "")
        name = host.rpartition(":")[0] if re.search(r":[0-9]+$", host) else host
        name = name.removeprefix("[").removesuffix("]")
        if settings.admin_token or is_loopback(name) or name == settings.admin_host:
            return
        raise HttpError(421, "the Host header must name this machine, for example localhost")

    def _check_token(self, environ: dict[str, Any]) -> None:
        token = self._view.settings.admin_token
        if not token:
            return
        given = environ.get("HTTP_AUTHORIZATION", "").encode("latin-1", "replace")
        if not hmac.compare_digest(given, b"Bearer " + token.encode()):
            raise HttpError(
                401,
                "the token is missing or wrong; send the header Authorization: Bearer TOKEN",
                ("WWW-Authenticate", "Bearer"),
            )

    # Route handlers.

    def _health(self, _: Request) -> Response:
        return _json({"status": "ok"})

    def _readiness(self, _: Request) -> Response:
        why = self._view.unready_reason()
        if why is None:
            return _json({"status": "ready"})
        return _json({"status": "not ready", "because": why}, 503)

    def _exposition(self, _: Request) -> Response:
        return Response(self._view.metrics(), CONTENT_TYPE)

    def _status(self, _: Request) -> Response:
        return _json(self._view.status())

    def _clients(self, request: Request) -> Response:
        sort = request.query.get("sort", "queued")
        if sort not in SORT_KEYS:
            raise HttpError(400, f"sort must be one of {', '.join(SORT_KEYS)}")
        limit = request.query.get("limit", "50")
        if not re.fullmatch("[0-9]{1,9}", limit) or not 1 <= int(limit) <= MAX_CLIENTS:
            raise HttpError(400, f"limit must be a whole number from 1 to {MAX_CLIENTS}")
        return _json(self._view.clients(sort, int(limit)))

    def _disconnect(self, request: Request) -> Response:
        connection = int(request.path_groups[0])
        if not self._view.disconnect(connection):
            raise HttpError(404, f"no session {connection}; it may have ended")
        return _json({"session": connection, "disconnected": True})

    def _events(self, _: Request) -> Response:
        if self.watchers >= MAX_WATCHERS:
            raise HttpError(503, f"the limit of {MAX_WATCHERS} live pages is reached; close one")
        headers = (("Cache-Control", "no-store"), ("X-Accel-Buffering", "no"))
        return Response(self._stream(), "text/event-stream", 200, headers)

    def _page(self, request: Request) -> Response:
        return self._file("index.html", request)

    def _asset(self, request: Request) -> Response:
        return self._file(request.path_groups[0], request)

    def _file(self, name: str, request: Request) -> Response:
        asset = assets.load(name)
        if asset is None:
            raise HttpError(404, f"the page has no file named {name}")
        headers = (("Cache-Control", "no-cache"), ("ETag", asset.tag), ("Vary", "Accept-Encoding"))
        if request.environ.get("HTTP_IF_NONE_MATCH") == asset.tag:
            return Response(b"", asset.content_type, 304, headers)
        if "gzip" not in request.environ.get("HTTP_ACCEPT_ENCODING", ""):
            return Response(asset.content, asset.content_type, 200, headers)
        return Response(
            asset.compressed, asset.content_type, 200, (*headers, ("Content-Encoding", "gzip"))
        )

    def _stream(self) -> Iterator[bytes]:
        """Yield server-sent events: the recorded history, then a status every tick."""
        self.watchers += 1
        try:
            yield _event("history", list(self._view.points))
            yield _event("status", self._view.page_status())
            while True:
                gevent.sleep(self._view.seconds_to_tick())
                yield self._status_of_tick()
        finally:
            self.watchers -= 1

    def _status_of_tick(self) -> bytes:
        """Return the tick's status event, encoded once for all pages.

        With 9,000 sessions encoding takes 10 ms.
        """
        tick, event = self._tick_event
        if tick != self._view.ticks:
            event = _event("status", self._view.page_status())
            self._tick_event = (self._view.ticks, event)
        return event


def _route(
    path: str,
    answer: Callable[[Request], Response],
    methods: tuple[str, ...] = ("GET", "HEAD"),
    options: Iterable[str] | None = (),
    is_public: bool = False,
) -> Route:
    names = None if options is None else frozenset(options)
    return Route(re.compile(path), methods, answer, names, is_public)


def _query(text: str, names: frozenset[str] | None) -> dict[str, str]:
    if names is None:
        return {}
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=8)
    except ValueError:
        raise HttpError(
            400, "the query must have the form name=value&name=value, with at most 8 parameters"
        ) from None
    for name, _ in pairs:
        if name not in names:
            known = f"known: {', '.join(sorted(names))}" if names else "this path takes none"
            raise HttpError(400, f"unknown query parameter {name[:40]!r}; {known}")
    if len(dict(pairs)) < len(pairs):
        raise HttpError(400, "a query parameter is given twice")
    return dict(pairs)


def _check_origin(environ: dict[str, Any]) -> None:
    """Refuse a request that a page of another origin makes the browser send."""
    origin = environ.get("HTTP_ORIGIN")
    own = {f"{scheme}://{environ.get('HTTP_HOST', '')}" for scheme in ("http", "https")}
    site = environ.get("HTTP_SEC_FETCH_SITE", "none")
    if (origin is not None and origin not in own) or site not in ("same-origin", "none"):
        raise HttpError(403, "requests from pages of another origin are refused")


def _json(value: object, status_code: int = 200) -> Response:
    return Response(json.dumps(value).encode() + b"\n", status=status_code)


def _error(code: int, message: str, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    body = json.dumps({"error": message}).encode() + b"\n"
    return Response(body, status=code, headers=(("Cache-Control", "no-store"), *headers))


def error_page(code: int, message: str, *, has_body: bool = True) -> bytes:
    """Return a complete error response as bytes, for requests refused before WSGI."""
    body = json.dumps({"error": message}).encode() + b"\n"
    line = f"HTTP/1.1 {code} {HTTPStatus(code).phrase}"
    head = f"{line}\r\nContent-Type: {JSON}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + (body if has_body else b"")


def _event(name: str, value: object) -> bytes:
    return f"event: {name}\ndata: {json.dumps(value)}\n\n".encode()
