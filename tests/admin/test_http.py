"""Who may ask what, and what is answered."""

from __future__ import annotations

import gzip
import itertools

import pytest
from end_to_end.peers import until
from structlog.testing import LogCapture

from maze.admin import Admin, assets
from maze.admin import application as http
from maze.errors import ListenError
from maze.server import MazeServer
from maze.settings.options import Settings

from .conftest import Start
from .watching import Stream, Watched, parsed, read_all, tick

TOKEN = "0123456789abcdef"
OPEN = ["/", "/page/app.js", "/page/page.css", "/page/icon.svg", "/page/charts.js"]
CLOSED = ["/healthz", "/readyz", "/metrics", "/api/status", "/api/clients", "/api/events"]


def test_the_hub_answers(watched: Watched) -> None:
    answer = watched.ask("/healthz")
    assert (answer.status, answer.json()) == (200, {"status": "ok"})
    assert answer.headers["connection"] == "close"
    assert answer.headers["cache-control"] == "no-store"


def test_what_is_ready_and_what_is_not(watched: Watched) -> None:
    assert watched.get("/readyz") == {"status": "ready"}
    for state in ("starting", "draining", "stopped"):
        watched.server.state = state
        answer = watched.ask("/readyz")
        assert (answer.status, answer.json()) == (503, {"status": "not ready", "because": state})
        assert watched.ask("/healthz").status == 200


def test_a_failed_router_is_not_ready(watched: Watched) -> None:
    watched.server.failed = True
    assert watched.ask("/readyz").json()["because"] == "the server failed"


@pytest.mark.parametrize("path", ["/nothing", "/api", "/api/", "/metrics/", "/page/", "/Healthz"])
def test_there_is_nothing_elsewhere(watched: Watched, path: str) -> None:
    answer = watched.ask(path)
    assert (answer.status, answer.error) == (404, "there is nothing at this address")


@pytest.mark.parametrize("path", ["/page/page.html", "/page/server.py", "/page/..", "/page/a.b.c"])
def test_the_page_has_no_other_files(watched: Watched, path: str) -> None:
    assert watched.ask(path).status == 404


def test_nobody_climbs_out_of_the_page(watched: Watched) -> None:
    for path in ("/page/../http.py", "/page/%2e%2e/http.py", "/page/..%2fhttp.py", "//page/app.js"):
        assert watched.ask(path).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_reading_is_by_get_or_head(watched: Watched, method: str) -> None:
    answer = watched.ask("/api/status", method)
    assert answer.status == 405
    assert answer.headers["allow"] == "get, head"
    assert answer.error == "this address takes GET, HEAD only"


@pytest.mark.parametrize("path", [*OPEN, *CLOSED[:-1], "/nothing", "/api/clients?limit=0"])
def test_head_is_answered_as_get_without_the_body(watched: Watched, path: str) -> None:
    whole, head = watched.ask(path), watched.ask(path, "HEAD")
    assert (head.status, head.body) == (whole.status, b"")
    assert head.headers.keys() == whole.headers.keys()
    for name in head.headers.keys() - {"date", "content-length"}:
        assert head.headers[name] == whole.headers[name]
    length = int(head.headers["content-length"])
    assert length > 0
    if path not in ("/metrics", "/api/status"):  # their numbers grow
        assert length == len(whole.body)


def test_an_endless_stream_has_no_head_of_its_own(watched: Watched) -> None:
    answer = watched.ask("/api/events", "HEAD")
    assert (answer.status, answer.headers["allow"], answer.body) == (405, "get", b"")
    assert not watched.admin.application.watchers


def test_with_a_token_head_needs_it_too(start: Start) -> None:
    assert start(admin_token=TOKEN).ask("/healthz", "HEAD").status == 401


def test_what_the_browser_has_already_has_no_length(watched: Watched) -> None:
    tag = watched.ask("/").headers["etag"]
    answer = watched.ask("/", "HEAD", If_None_Match=tag)
    assert answer.status == 304
    assert "content-length" not in answer.headers


def test_disconnecting_is_by_post(watched: Watched) -> None:
    answer = watched.ask("/api/clients/1/disconnect")
    assert (answer.status, answer.headers["allow"]) == (405, "post")


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("sort=speed", "sort is one of queued, sent, age, newest"),
        ("sort=", "sort is one of"),
        ("limit=0", "limit is a whole number from 1 to 1000"),
        ("limit=1001", "limit is"),
        ("limit=-1", "limit is"),
        ("limit=ten", "limit is"),
        ("limit=%C2%B2", "limit is"),
        ("limit=" + "9" * 5000, "limit is"),
        ("user=1", "does not know the query 'user'; it knows limit, sort"),
        ("limit=1&limit=2", "stands twice"),
        ("limit", "not of the form"),
        ("&".join(f"a{number}=1" for number in range(9)), "not of the form"),
    ],
)
def test_a_bad_query_is_said_to_be_one(watched: Watched, query: str, complaint: str) -> None:
    answer = watched.ask(f"/api/clients?{query}")
    assert answer.status == 400
    assert complaint in answer.error


@pytest.mark.parametrize("path", ["/api/status", "/api/events"])
def test_an_address_without_a_query_takes_none(watched: Watched, path: str) -> None:
    answer = watched.ask(f"{path}?pretty=1")
    assert answer.status == 400
    assert answer.error.endswith("it takes none")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", *OPEN])
def test_probes_and_browsers_may_add_what_they_like(watched: Watched, path: str) -> None:
    for query in ("x=1", "x", "&", "x=1&x=2", "%ff", ""):
        assert watched.ask(f"{path}?{query}").status == 200


# A token.


@pytest.mark.parametrize("path", [*CLOSED, "/nothing"])
@pytest.mark.parametrize(
    "given", [None, "", "Bearer", "Bearer 0123456789abcdeX", TOKEN, "Bearer ä"]
)
def test_with_a_token_nobody_reads_without_it(start: Start, path: str, given: str | None) -> None:
    headers = {} if given is None else {"Authorization": given}
    answer = start(admin_token=TOKEN).ask(path, **headers)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "bearer")


def test_who_has_it_reads_and_disconnects(start: Start) -> None:
    watched = start(admin_token=TOKEN)
    client = watched.client(1)
    number = watched.session(1).peer.connection
    path = f"/api/clients/{number}/disconnect"
    assert watched.ask(path, "POST").status == 401
    assert watched.sessions
    assert watched.ask("/metrics", Authorization=f"Bearer {TOKEN}").status == 200
    assert watched.ask(path, "POST", Authorization=f"Bearer {TOKEN}").status == 200
    client.expect_closed()


@pytest.mark.parametrize("path", OPEN)
def test_the_page_comes_without_it_and_knows_nothing(start: Start, path: str) -> None:
    assert start(admin_token=TOKEN).ask(path).status == 200


def test_an_admin_port_for_others_is_not_made_without_a_token() -> None:
    settings = Settings(admin_host="0.0.0.0")
    with pytest.raises(ValueError, match="can be reached from other machines"):
        Admin(MazeServer(settings))


# Pages of others.


@pytest.mark.parametrize(
    "host", ["evil.test", "evil.test:9095", "localhost.evil.test", "", "[::2]"]
)
def test_a_name_that_somebody_pointed_here_is_refused(watched: Watched, host: str) -> None:
    answer = watched.ask("/api/status", Host=host)
    assert answer.status == 421
    assert "Host" in answer.error


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:9095", "[::1]"])
def test_this_machine_s_names_are_not(watched: Watched, host: str) -> None:
    assert watched.ask("/api/status", Host=host).status == 200


def test_with_a_token_any_name_will_do(start: Start) -> None:
    answer = start(admin_token=TOKEN).ask(
        "/healthz", Host="maze.test", Authorization=f"Bearer {TOKEN}"
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
def test_a_page_of_another_site_disconnects_nobody(
    watched: Watched, header: dict[str, str]
) -> None:
    watched.client(1)
    number = watched.session(1).peer.connection
    answer = watched.ask(f"/api/clients/{number}/disconnect", "POST", **header)
    assert (answer.status, answer.error) == (403, "a page of another origin may not do this")
    assert watched.sessions


def test_its_own_page_does(watched: Watched) -> None:
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


def test_every_answer_forbids_what_is_not_its_own(watched: Watched) -> None:
    for path in (*OPEN, "/healthz", "/nothing"):
        headers = watched.ask(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


# Disconnecting.


def test_a_session_has_one_address(watched: Watched) -> None:
    client = watched.client(1)
    number = watched.session(1).peer.connection
    for other in (f"0{number}", f"+{number}", f"{number}.0", "0", "-1", "", "1" * 19, "\xb2"):
        answer = watched.ask(f"/api/clients/{other}/disconnect", "POST")
        assert (answer.status, answer.error) == (404, "there is nothing at this address")
    assert watched.sessions
    assert watched.ask(f"/api/clients/{number}/disconnect", "POST").status == 200
    client.expect_closed()


def test_a_client_is_disconnected_logged_and_counted(watched: Watched, log: LogCapture) -> None:
    client, other = watched.clients(1, 2)
    session = watched.session(1)
    number = session.peer.connection
    assert watched.ask(f"/api/clients/{number}/disconnect", "POST").status == 200
    client.expect_closed()
    assert [session.user for session in watched.sessions] == [2]
    closed = next(entry for entry in log.entries if entry["event"] == "session_closed")
    assert (closed["reason"], closed["client"].connection) == ("operator", number)
    assert watched.status()["sessions"]["closed"]["operator"] == 1
    again = watched.ask(f"/api/clients/{number}/disconnect", "POST")
    assert again.status == 404
    assert f"no session {number}" in again.error
    other.close()


# Faults.


def test_a_fault_of_the_server_s_own_is_a_500_and_logged(
    watched: Watched, log: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "status", lambda *_: 1 / 0)
    answer = watched.ask("/api/status")
    assert answer.status == 500
    assert "log says why" in answer.error
    failed = next(entry for entry in log.entries if entry["event"] == "admin_request_failed")
    assert failed["path"] == "/api/status"


def test_a_taken_port_is_one_clear_error(watched: Watched) -> None:
    port = watched.admin.address[1]
    other = Admin(MazeServer(Settings(admin_port=port)))
    with pytest.raises(ListenError, match=f"port {port}: Address already in use; --admin-host"):
        other.start()
    other.stop()


# The stream of the live page.


def test_a_page_gets_what_was_and_a_status_a_tick(watched: Watched) -> None:
    watched.admin.monitor.stop()  # from here on it ticks when it is told to
    tick(watched)
    stream = Stream(watched)
    assert "text/event-stream" in stream.head
    name, points = stream.event()
    assert name == "history"
    assert len(points) == len(watched.admin.monitor.points) == 1
    name, first = stream.event()
    assert name == "status"
    tick(watched)
    while (second := stream.event()[1])["point"] == first["point"]:
        pass
    assert second["uptime_seconds"] > first["uptime_seconds"]
    assert second["point"]["time"] > points[0]["time"]


def test_pages_beyond_the_limit_are_told_so_and_one_that_leaves_makes_room(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MAX_WATCHERS", 1)
    monkeypatch.setattr(watched.admin.monitor, "seconds_to_tick", lambda: 0.01)
    page = Stream(watched)
    page.event()
    answer = watched.ask("/api/events")
    assert (answer.status, answer.error) == (503, "1 pages are watching already")
    page.sock.close()
    until(lambda: not watched.admin.application.watchers, "the page that left to be noticed")
    Stream(watched).event()


def test_all_pages_are_told_what_was_made_once_a_tick(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = itertools.count(1)
    monitor = watched.admin.monitor
    monitor.stop()  # from here on it ticks when it is told to
    monkeypatch.setattr(http, "page_status", lambda *_: [monitor.ticks, next(made)])
    monkeypatch.setattr(monitor, "seconds_to_tick", lambda: 0.01)
    pages = [Stream(watched) for _ in range(3)]
    assert [page.event()[0] for page in pages] == ["history"] * 3
    assert len({page.event()[1][1] for page in pages}) == 3  # each its own, when they come
    tick(watched)
    told = [_told_of(page, monitor.ticks) for page in pages]
    assert told[0] == told[1] == told[2]


def _told_of(page: Stream, tick: int) -> int:
    """Which status the page is told of that tick."""
    while (event := page.event()[1])[0] < tick:
        pass
    return int(event[1])


def test_a_stream_ends_with_the_admin_port(watched: Watched) -> None:
    stream = Stream(watched)
    stream.event()
    watched.admin.stop()
    read_all(stream.sock)


# The page's files.


@pytest.mark.parametrize("path", OPEN)
def test_a_file_comes_plain_packed_or_not_at_all_if_it_is_there(
    watched: Watched, path: str
) -> None:
    plain = watched.ask(path)
    packed = watched.ask(path, Accept_Encoding="gzip, br")
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body != b""
    known = watched.ask(path, If_None_Match=plain.headers["etag"])
    assert (known.status, known.body) == (304, b"")
    assert watched.ask(path, If_None_Match='"other"').status == 200


def test_without_the_charting_package_the_rest_of_the_page_is_served(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "CHARTS_PACKAGE", "no_such_package_of_charts")
    monkeypatch.setattr(assets, "_loaded", {})
    assert watched.ask("/page/charts.js").status == 404
    assert watched.ask("/page/app.js").status == 200


def test_the_page_asks_nobody_else_for_anything() -> None:
    for name in assets.FILES - {assets.CHARTS}:
        text = (assets.PAGE / name).read_text(encoding="utf-8")
        assert "//" not in text.replace("http://www.w3.org/2000/svg", "").replace("// ", "")


def test_an_answer_cut_in_chunks_is_put_together() -> None:
    assert parsed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n").body == b"ab"
