"""The admin port's WSGI application: routes and what they answer."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

import gevent
import structlog

from maze.admin import assets
from maze.admin.access import Access, check_access, may_read
from maze.admin.client_list import SORT_KEYS
from maze.admin.metrics import OPENMETRICS, TEXT
from maze.admin.negotiation import accepts_gzip, prefers_openmetrics
from maze.admin.responses import (
    SECURITY_HEADERS,
    HttpError,
    Response,
    error_response,
    json_response,
    server_sent_event,
)
from maze.admin.view import View
from maze.core import NUMBER_LIMIT, parse_number

log = structlog.get_logger()

MAX_CLIENTS = 1_000
"""Clients in one response of ``/api/clients``."""
MAX_WATCHERS = 8
"""Live pages open at a time; each holds its connection without a time limit."""
GZIP_LEVEL = 6
"""Compression of the metrics. Those of five processes, 70 KB, take 0.5 ms; level 9 saves 2%."""
COMPRESSED = ("Content-Encoding", "gzip")


@dataclass(frozen=True)
class Request:
    """A request that matched a route."""

    environ: dict[str, Any]
    path_groups: tuple[str, ...] = ()
    """The groups that the route's pattern matched in the path."""
    query: dict[str, str] = field(default_factory=dict)

    def header(self, name: str) -> str:
        """Return the value of a header; empty if the request has none."""
        return str(self.environ.get(f"HTTP_{name.upper().replace('-', '_')}", ""))


@dataclass(frozen=True)
class Route:
    """A path pattern, its methods, and the function that answers."""

    pattern: re.Pattern[str]
    methods: tuple[str, ...]
    answer: Callable[[Request], Response]
    options: frozenset[str] | None
    """Names of the query parameters allowed; None if the query is ignored."""
    access: Access


class Application:
    """The WSGI application of an admin port, which shows a view."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.watchers = 0
        """Live pages connected."""
        self._tick_event = (-1, b"")  # a tick's number and its encoded status event
        self._routes = [
            # Probes, scrapers and browsers append query parameters of their own.
            _route("/healthz", self._health, Access.PROBE, options=None),
            _route("/readyz", self._readiness, Access.PROBE, options=None),
            _route("/metrics", self._exposition, options=None),
            _route("/", self._page, Access.PAGE, options=None),
            _route("/page/([a-z.]+)", self._asset, Access.PAGE, options=None),
            # Here a misspelt parameter is an error: ignoring it would mislead the caller.
            _route("/api/status", self._status),
            _route("/api/clients", self._clients, options=("sort", "limit", "user")),
            _route("/api/clients/([1-9][0-9]{0,17})/disconnect", self._disconnect, Access.CHANGE),
            _route("/api/users/([^/]*)/disconnect", self._disconnect_user, Access.CHANGE),
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
            return error_response(error.status, str(error), error.headers)
        except Exception:
            log.exception("admin_request_failed", path=environ["PATH_INFO"])
            return error_response(
                500, "internal error; see admin_request_failed in the server's log"
            )

    def _dispatch(self, environ: dict[str, Any]) -> Response:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        route, match = self._find(path)
        check_access(route.access if route else Access.READ, environ, self._view.settings)
        if route is None or match is None:
            raise HttpError(404, "no such path")
        if method not in route.methods:
            allowed = ", ".join(route.methods)
            raise HttpError(405, f"this path accepts {allowed} only", ("Allow", allowed))
        query = _query(environ["QUERY_STRING"], route.options)
        return route.answer(Request(environ, match.groups(), query))

    def _find(self, path: str) -> tuple[Route | None, re.Match[str] | None]:
        for route in self._routes:
            if match := route.pattern.fullmatch(path):
                return route, match
        return None, None

    # Route handlers.

    def _health(self, _: Request) -> Response:
        return json_response({"status": "ok"})

    def _readiness(self, request: Request) -> Response:
        why = self._view.unready_reason()
        if why is None:
            return json_response({"status": "ready"})
        because = {"because": why} if may_read(request.environ, self._view.settings) else {}
        return json_response({"status": "not ready", **because}, 503)

    def _exposition(self, request: Request) -> Response:
        form = OPENMETRICS if prefers_openmetrics(request.header("Accept")) else TEXT
        body = self._view.metrics(form)
        headers = (("Cache-Control", "no-store"), ("Vary", "Accept, Accept-Encoding"))
        if not accepts_gzip(request.header("Accept-Encoding")):
            return Response(body, form.content_type, 200, headers)
        packed = gzip.compress(body, GZIP_LEVEL, mtime=0)
        return Response(packed, form.content_type, 200, (*headers, COMPRESSED))

    def _status(self, _: Request) -> Response:
        return json_response(self._view.status())

    def _clients(self, request: Request) -> Response:
        sort = request.query.get("sort", "queued")
        if sort not in SORT_KEYS:
            raise HttpError(400, f"sort must be one of {', '.join(SORT_KEYS)}")
        limit = request.query.get("limit", "50")
        if not re.fullmatch("[0-9]{1,9}", limit) or not 1 <= int(limit) <= MAX_CLIENTS:
            raise HttpError(400, f"limit must be a whole number from 1 to {MAX_CLIENTS}")
        user = request.query.get("user")
        wanted = None if user is None else _user(user)
        return json_response(self._view.clients(sort, int(limit), wanted))

    def _disconnect(self, request: Request) -> Response:
        connection = int(request.path_groups[0])
        if not self._view.disconnect(connection):
            raise HttpError(404, f"no session {connection}; it may have ended")
        return json_response({"session": connection, "disconnected": True})

    def _disconnect_user(self, request: Request) -> Response:
        user = _user(request.path_groups[0])
        return json_response({"user": user, "disconnected": self._view.disconnect_user(user)})

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
        if request.header("If-None-Match") == asset.tag:
            return Response(b"", asset.content_type, 304, headers)
        if not accepts_gzip(request.header("Accept-Encoding")):
            return Response(asset.content, asset.content_type, 200, headers)
        return Response(asset.compressed, asset.content_type, 200, (*headers, COMPRESSED))

    def _stream(self) -> Iterator[bytes]:
        """Yield server-sent events: the recorded history, then a status every tick."""
        self.watchers += 1
        try:
            yield server_sent_event("history", list(self._view.points))
            yield server_sent_event("status", self._view.page_status())
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
            event = server_sent_event("status", self._view.page_status())
            self._tick_event = (self._view.ticks, event)
        return event


def _route(
    path: str,
    answer: Callable[[Request], Response],
    access: Access = Access.READ,
    *,
    methods: tuple[str, ...] = ("GET", "HEAD"),
    options: Iterable[str] | None = (),
) -> Route:
    names = None if options is None else frozenset(options)
    methods = ("POST",) if access is Access.CHANGE else methods
    return Route(re.compile(path), methods, answer, names, access)


def _user(text: str) -> int:
    user = parse_number(text.encode("ascii", "replace"))
    if user is None:
        raise HttpError(400, f"the user id must be a whole number from 0 to {NUMBER_LIMIT - 1}")
    return user


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
