"""The admin port behind nginx, with the configuration in ``deploy``."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from admin.watching import openmetrics
from end_to_end.peers import PATIENCE
from end_to_end.running import Child

from .nginx import Nginx

TOKEN = "0123456789abcdef"
"""The one in the configuration."""
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class Answer(NamedTuple):
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes


class Front:
    """A server and an nginx in front of its admin port."""

    def __init__(self, server: Child, nginx: Nginx) -> None:
        self.server = server
        self.nginx = nginx

    def open(
        self, path: str, method: str = "GET", **headers: str
    ) -> tuple[HTTPConnection, HTTPResponse]:
        connection = HTTPConnection("127.0.0.1", self.nginx.port, timeout=PATIENCE)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=named)
        return connection, connection.getresponse()

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        connection, response = self.open(path, method, **headers)
        with closing(connection):
            return Answer(response.status, dict(response.getheaders()), response.read())

    def json(self, path: str, method: str = "GET", **headers: str) -> Any:
        answer = self.ask(path, method, **headers)
        assert answer.status == 200, answer
        return json.loads(answer.body)


@contextmanager
def fronted(folder: Path, token: str | None = TOKEN, **how: str) -> Iterator[Front]:
    environment = {"MAZE_ADMIN_TOKEN": token} if token else {}
    options = ("--admin-port", "free", "--log-level", "debug")
    with Child(*options, environment=environment) as child:
        child.await_logged("admin_ready")
        port = child.ready().logged("admin_ready")[0]["admin_port"]
        with Nginx(folder, port, **how) as nginx:
            yield Front(child, nginx)


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    with fronted(tmp_path) as front:
        yield front


def test_the_page_and_its_files_pass_through(front: Front) -> None:
    moved = front.ask("/maze")
    assert (moved.status, moved.headers["Location"]) == (301, "/maze/")
    page = front.ask("/maze/").body.decode()
    files = re.findall(r'(?:src|href)="(page/[^"]+)"', page)
    assert len(files) >= 5
    for file in files:
        answer = front.ask(f"/maze/{file}", Accept_Encoding="gzip")
        assert (answer.status, answer.headers["Content-Encoding"]) == (200, "gzip")


def test_probes_need_no_token_and_the_rest_does(front: Front) -> None:
    assert front.json("/maze/healthz") == {"status": "ok"}
    assert front.json("/maze/readyz") == {"status": "ready"}
    for path in ("/maze/api/status", "/maze/metrics", "/maze/api/events", "/maze/api/clients"):
        assert front.ask(path).status == 401
    assert front.json("/maze/api/status", **BEARER)["state"] == "ready"


def test_metrics_pass_through_in_the_format_asked_for(front: Front) -> None:
    answer = front.ask(
        "/maze/metrics", Accept="application/openmetrics-text", Accept_Encoding="gzip", **BEARER
    )
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    document = gzip.decompress(answer.body).decode()
    assert "maze_sessions" in {family.name for family in openmetrics(document)}


def test_the_events_of_the_live_page_arrive_as_they_are_sent(front: Front) -> None:
    connection, response = front.open("/maze/api/events", **BEARER)
    with closing(connection):
        assert response.getheader("Content-Type") == "text/event-stream"
        events = (line for line in response if line.startswith((b"event: ", b"data: ")))
        assert next(events) == b"event: history\n"
        next(events)
        uptimes = []
        for _ in range(3):
            assert next(events) == b"event: status\n"
            uptimes.append(json.loads(next(events).removeprefix(b"data: "))["uptime_seconds"])
        assert uptimes == sorted(set(uptimes))


def test_the_page_can_disconnect_clients_and_other_pages_cannot(front: Front) -> None:
    (client,) = front.server.clients([7])
    path = "/maze/api/users/7/disconnect"
    own = f"http://127.0.0.1:{front.nginx.port}"
    for origin in ("http://127.0.0.1", "http://evil.test", "null"):
        assert front.ask(path, "POST", Origin=origin, **BEARER).status == 403
    assert front.ask(path, "POST", Origin=own).status == 401
    assert front.json(path, "POST", Origin=own, **BEARER) == {"user": 7, "disconnected": 1}
    client.expect_closed()


def test_without_a_token_a_name_of_the_machine_is_refused(tmp_path: Path) -> None:
    with fronted(tmp_path, token=None) as front:
        for path in ("/maze/", "/maze/api/status", "/maze/metrics"):
            assert front.ask(path, Host="maze.example").status == 421
        assert front.ask("/maze/readyz", Host="maze.example").status == 200


def test_nginx_can_ask_for_passwords_instead_of_the_token(tmp_path: Path) -> None:
    basic = f"Basic {base64.b64encode(b'op:secret').decode()}"
    with fronted(tmp_path, passwords="op:{PLAIN}secret\n") as front:
        for path in ("/maze/", "/maze/api/status"):
            assert front.ask(path).status == 401
            assert front.ask(path, Authorization=basic).status == 200
        (client,) = front.server.clients([7])
        path, own = "/maze/api/users/7/disconnect", f"http://127.0.0.1:{front.nginx.port}"
        # The browser sends the password for pages of other sites, too.
        for origin, status in (("http://evil.test", 403), (own, 200)):
            answer = front.ask(path, "POST", Origin=origin, Authorization=basic)
            assert answer.status == status
        client.expect_closed()
