"""Who may ask the admin port for what: probes, the token, the Host header, pages of other sites."""

from __future__ import annotations

import pytest

from maze.admin import Admin
from maze.server import MazeServer
from maze.settings.options import Settings

from .conftest import Start
from .watching import PROBES, PROTECTED, PUBLIC, Watched

TOKEN = "0123456789abcdef"
FOREIGN_HOSTS = ["evil.test", "evil.test:9095", "localhost.evil.test", "", "[::2]"]


# Probes.


@pytest.mark.parametrize("path", PROBES)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_probes_need_no_token(start: Start, path: str, method: str) -> None:
    assert start(admin_token=TOKEN).ask(path, method).status == 200


@pytest.mark.parametrize("path", PROBES)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_probes_need_no_host_header(watched: Watched, path: str, version: str) -> None:
    assert watched.raw(f"GET {path} HTTP/{version}\r\n\r\n".encode()).status == 200


@pytest.mark.parametrize("host", ["10.1.2.3:9095", *FOREIGN_HOSTS])
def test_probes_accept_any_host_header(watched: Watched, host: str) -> None:
    assert watched.ask("/healthz", Host=host).status == 200


def test_only_who_may_read_the_status_is_told_why_the_server_is_not_ready(start: Start) -> None:
    guarded, local = start(admin_token=TOKEN), start()
    guarded.server.state = local.server.state = "draining"
    bare = {"status": "not ready"}
    for answer in (
        guarded.ask("/readyz"),
        guarded.ask("/readyz", Authorization="Bearer wrong"),
        local.ask("/readyz", Host="evil.test"),
        local.raw(b"GET /readyz HTTP/1.0\r\n\r\n"),
    ):
        assert (answer.status, answer.json()) == (503, bare)
    for answer in (
        guarded.ask("/readyz", Authorization=f"Bearer {TOKEN}"),
        local.ask("/readyz"),
    ):
        assert (answer.status, answer.json()) == (503, bare | {"because": "draining"})


# Requests in absolute form.


@pytest.mark.parametrize("path", [*PROBES, *PUBLIC, "/metrics", "/api/status"])
def test_a_request_in_absolute_form_is_understood(watched: Watched, path: str) -> None:
    for scheme in ("http", "HTTPS"):
        request = f"GET {scheme}://localhost:9095{path} HTTP/1.1\r\n\r\n"
        assert watched.raw(request.encode()).status == 200


@pytest.mark.parametrize("end", ["", "?x=1", "/", "/?x=1"])
def test_the_absolute_form_of_the_page_may_lack_the_path(watched: Watched, end: str) -> None:
    answer = watched.ask(f"http://localhost{end}")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")


def test_a_query_in_absolute_form_is_read(watched: Watched) -> None:
    answer = watched.ask("http://localhost/api/clients?limit=0")
    assert (answer.status, answer.error) == (400, "limit must be a whole number from 1 to 1000")


def test_the_host_of_the_absolute_form_counts(watched: Watched) -> None:
    assert watched.ask("http://localhost/api/status", Host="evil.test").status == 200
    for host in ("evil.test", "evil.test:9095", "localhost@evil.test", "evil.test@localhost"):
        assert watched.ask(f"http://{host}/api/status", Host="localhost").status == 421
        assert watched.ask(f"http://{host}/healthz", Host="localhost").status == 200


@pytest.mark.parametrize("target", ["http://", "http:///healthz", "ftp://localhost/healthz", "*"])
def test_a_target_without_a_host_or_a_path_is_404(watched: Watched, target: str) -> None:
    answer = watched.ask(target)
    assert (answer.status, answer.error) == (404, "no such path")


# The token.


@pytest.mark.parametrize("path", [*PROTECTED, "/nothing"])
@pytest.mark.parametrize(
    "given", [None, "", "Bearer", "Bearer 0123456789abcdeX", TOKEN, "Bearer ä"]
)
def test_a_missing_or_wrong_token_is_401(start: Start, path: str, given: str | None) -> None:
    headers = {} if given is None else {"Authorization": given}
    answer = start(admin_token=TOKEN).ask(path, **headers)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "bearer")


@pytest.mark.parametrize("path", ["/api/clients/{session}/disconnect", "/api/users/1/disconnect"])
def test_the_right_token_allows_reading_and_disconnecting(start: Start, path: str) -> None:
    watched = start(admin_token=TOKEN)
    client = watched.client(1)
    path = path.format(session=watched.session(1).peer.connection)
    assert watched.ask(path, "POST").status == 401
    assert watched.sessions
    assert watched.ask("/metrics", Authorization=f"Bearer {TOKEN}").status == 200
    assert watched.ask(path, "POST", Authorization=f"Bearer {TOKEN}").status == 200
    client.expect_closed()


def test_head_needs_the_token_too(start: Start) -> None:
    assert start(admin_token=TOKEN).ask("/metrics", "HEAD").status == 401


@pytest.mark.parametrize("path", PUBLIC)
def test_the_files_of_the_page_need_no_token(start: Start, path: str) -> None:
    assert start(admin_token=TOKEN).ask(path).status == 200


def test_a_port_open_to_other_machines_needs_a_token() -> None:
    settings = Settings(admin_host="0.0.0.0")
    with pytest.raises(ValueError, match="can be reached from other machines"):
        Admin(MazeServer(settings))


# Other sites.


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_a_foreign_host_header_is_refused(watched: Watched, host: str) -> None:
    answer = watched.ask("/api/status", Host=host)
    assert answer.status == 421
    assert "Host" in answer.error


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:9095", "[::1]"])
def test_a_local_host_header_is_accepted(watched: Watched, host: str) -> None:
    assert watched.ask("/api/status", Host=host).status == 200


def test_with_a_token_any_host_header_is_accepted(start: Start) -> None:
    answer = start(admin_token=TOKEN).ask(
        "/api/status", Host="maze.test", Authorization=f"Bearer {TOKEN}"
    )
    assert answer.status == 200


@pytest.mark.parametrize(
    "header",
    [
        {"Origin": "http://evil.test"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
@pytest.mark.parametrize("path", ["/api/clients/{session}/disconnect", "/api/users/1/disconnect"])
def test_a_cross_origin_page_cannot_disconnect_a_client(
    watched: Watched, header: dict[str, str], path: str
) -> None:
    watched.client(1)
    number = watched.session(1).peer.connection
    answer = watched.ask(path.format(session=number), "POST", **header)
    assert (answer.status, answer.error) == (
        403,
        "requests from pages of another origin are refused",
    )
    assert watched.sessions


def test_the_live_page_can_disconnect_a_client(watched: Watched) -> None:
    client = watched.client(1)
    number = watched.session(1).peer.connection
    host, port = watched.admin.address
    answer = watched.ask(
        f"/api/clients/{number}/disconnect",
        "POST",
        Origin=f"http://{host}:{port}",
        Sec_Fetch_Site="same-origin",
    )
    assert answer.json() == {"session": number, "disconnected": True}
    client.expect_closed()
