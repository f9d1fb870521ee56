"""Responses of the admin port, and the error that answers a request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus

JSON = "application/json"
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


class HttpError(Exception):
    """Raised to answer a request with an error status, a message and optional headers."""

    def __init__(self, status: int, message: str, *headers: tuple[str, str]) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


def json_response(value: object, status_code: int = 200) -> Response:
    """Return a response with that value as JSON."""
    return Response(json.dumps(value).encode() + b"\n", status=status_code)


def error_response(code: int, message: str, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """Return the response to a request that is refused or fails."""
    body = json.dumps({"error": message}).encode() + b"\n"
    return Response(body, status=code, headers=(("Cache-Control", "no-store"), *headers))


def error_page(code: int, message: str, *, has_body: bool = True) -> bytes:
    """Return a complete error response as bytes, for requests refused before WSGI."""
    body = json.dumps({"error": message}).encode() + b"\n"
    line = f"HTTP/1.1 {code} {HTTPStatus(code).phrase}"
    head = f"{line}\r\nContent-Type: {JSON}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + (body if has_body else b"")


def server_sent_event(name: str, value: object) -> bytes:
    """Return an event of the live page's stream, with that value as JSON."""
    return f"event: {name}\ndata: {json.dumps(value)}\n\n".encode()
