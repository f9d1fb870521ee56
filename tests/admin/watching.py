"""A server with its admin port and a minimal HTTP client, both in the test's hub."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import gevent
from end_to_end.peers import patience, until
from end_to_end.running import Maze
from gevent.socket import create_connection, socket
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from maze.admin import Admin
from maze.server import Server
from maze.settings.option_types import FREE_PORT

PUBLIC = ["/", "/page/app.js", "/page/page.css", "/page/icon.svg", "/page/charts.js"]
"""Paths of the live page's files."""
PROBES = ["/healthz", "/readyz"]
PROTECTED = ["/metrics", "/api/status", "/api/clients", "/api/events"]
"""Paths that show what the server does."""


class Answer(NamedTuple):
    """A response, with its header lines in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The message of an error response."""
        (message,) = self.json().values()
        return str(message)


def openmetrics(text: str) -> list[Metric]:
    """Parse metrics in OpenMetrics; raise ValueError if they are malformed."""
    return list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call]


class Watcher:
    """The admin port of a server in this process, and requests to it."""

    def __init__(self, server: Server) -> None:
        self.admin = Admin(server)
        self.admin.start()
        self.sockets: list[socket] = []

    def stop_watching(self) -> None:
        for sock in self.sockets:
            sock.close()
        self.admin.stop()

    def connect(self) -> socket:
        """Open a connection to the admin port and send nothing."""
        with patience("connecting to the admin port"):
            self.sockets.append(create_connection(self.admin.address))
        return self.sockets[-1]

    def raw(self, request: bytes) -> Answer:
        """Send these bytes and return the response, read to the end of the connection."""
        sock = self.connect()
        sock.sendall(request)
        return parsed(read_all(sock))

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """Send a request; the argument ``User_Agent`` becomes the header User-Agent."""
        host, port = self.admin.address
        fields = {"Host": f"{host}:{port}"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        lines = [f"{method} {path} HTTP/1.1", *(f"{key}: {text}" for key, text in fields.items())]
        return self.raw("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def get(self, path: str) -> Any:
        """Return the JSON at a path, which must answer 200."""
        answer = self.ask(path)
        assert answer.status == 200, answer
        return answer.json()

    def status(self) -> Any:
        return self.get("/api/status")

    def await_status(self, what: str, *path: str, value: Any) -> Any:
        """Wait until the status has ``value`` at that path, and return the status."""

        def is_there() -> bool:
            found = self.status()
            for step in path:
                found = found[step]
            return bool(found == value)

        until(is_there, what)
        return self.status()


class Watched(Watcher, Maze):
    """A server in this process with its admin port."""

    def __init__(self, **settings: Any) -> None:
        Maze.__init__(self, **{"admin_port": FREE_PORT, **settings})
        Watcher.__init__(self, self.server)

    def close(self) -> None:
        self.stop_watching()
        super().close()


def read_all(sock: socket) -> bytes:
    """Return everything received until the other side closes."""
    received = b""
    with patience("the end of an answer"):
        while data := sock.recv(1 << 16):
            received += data
    return received


def parsed(answer: bytes) -> Answer:
    head, _, body = answer.partition(b"\r\n\r\n")
    line, *fields = head.decode("latin-1").split("\r\n")
    headers = dict(field.lower().split(": ", 1) for field in fields)
    if headers.get("transfer-encoding") == "chunked":
        body = _joined(body)
    return Answer(int(line.split()[1]), headers, body)


def _joined(body: bytes) -> bytes:
    """Join the chunks of a body; the last chunk may be incomplete."""
    data = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        data += body[: int(size or b"0", 16)]
        body = body[int(size or b"0", 16) + 2 :]
    return data


class Stream:
    """A live page's stream of server-sent events."""

    def __init__(self, watched: Watched, path: str = "/api/events") -> None:
        self.sock = watched.connect()
        host, port = watched.admin.address
        self.sock.sendall(f"GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n".encode())
        self._received = b""
        self.head = self._until(b"\r\n\r\n").decode()

    def event(self) -> tuple[str, Any]:
        """Return the next event's name and value."""
        name, data = self._until(b"\n\n").decode().split("\n")
        return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))

    def _until(self, end: bytes) -> bytes:
        with patience("the next event"):
            while end not in self._received:
                data = self.sock.recv(1 << 16)
                assert data, "the stream has ended"
                self._received += data
        head, _, self._received = self._received.partition(end)
        return head


def tick(watched: Watched) -> None:
    """Make the monitor tick now, without waiting for its timer."""
    gevent.sleep(0)
    watched.admin.monitor.tick()
