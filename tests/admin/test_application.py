"""The admin port's requests: routes, responses, the event stream."""

from __future__ import annotations

import gzip
import itertools

import pytest
from end_to_end.peers import patience, until
from structlog.testing import LogCapture

from maze.admin import Admin, application, assets, view
from maze.errors import ListenError
from maze.server import MazeServer
from maze.settings.options import Settings

from .watching import PROBES, PROTECTED, PUBLIC, Stream, Watched, parsed, read_all, tick


def test_healthz_answers_ok(watched: Watched) -> None:
    answer = watched.ask("/healthz")
    assert (answer.status, answer.json()) == (200, {"status": "ok"})
    assert answer.headers["connection"] == "close"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/healthz", "/nowhere", "/api/events"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("wish", ["", "Connection: keep-alive\r\n"])
def test_an_answer_says_once_that_the_connection_closes(
    watched: Watched, path: str, version: str, wish: str
) -> None:
    sock = watched.connect()
    sock.sendall(f"GET {path} HTTP/{version}\r\nHost: localhost\r\n{wish}\r\n".encode())
    head = b""
    with patience("the head of the answer"):
        while b"\r\n\r\n" not in head:
            data = sock.recv(1 << 16)
            assert data, "the answer has ended"
            head += data
    fields = head.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")
    assert [field for field in fields if field.startswith(b"connection:")] == [b"connection: close"]


def test_readyz_follows_the_server_state(watched: Watched) -> None:
    assert watched.get("/readyz") == {"status": "ready"}
    for state in ("starting", "draining", "stopped"):
        watched.server.state = state
        answer = watched.ask("/readyz")
        assert (answer.status, answer.json()) == (503, {"status": "not ready", "because": state})
        assert watched.ask("/healthz").status == 200


def test_a_failed_server_is_not_ready(watched: Watched) -> None:
    watched.server.failed = True
    assert watched.ask("/readyz").json()["because"] == "the server failed"


@pytest.mark.parametrize("path", ["/nothing", "/api", "/api/", "/metrics/", "/page/", "/Healthz"])
def test_an_unknown_path_is_404(watched: Watched, path: str) -> None:
    answer = watched.ask(path)
    assert (answer.status, answer.error) == (404, "no such path")


@pytest.mark.parametrize("path", ["/page/page.html", "/page/server.py", "/page/..", "/page/a.b.c"])
def test_an_unknown_page_file_is_404(watched: Watched, path: str) -> None:
    assert watched.ask(path).status == 404


def test_path_traversal_is_404(watched: Watched) -> None:
    for path in (
        "/page/../metrics.py",
        "/page/%2e%2e/metrics.py",
        "/page/..%2fmetrics.py",
        "//page/app.js",
    ):
        assert watched.ask(path).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_the_status_accepts_get_and_head_only(watched: Watched, method: str) -> None:
    answer = watched.ask("/api/status", method)
    assert answer.status == 405
    assert answer.headers["allow"] == "get, head"
    assert answer.error == "this path accepts GET, HEAD only"


@pytest.mark.parametrize(
    "path", [*PUBLIC, *PROBES, *PROTECTED[:-1], "/nothing", "/api/clients?limit=0"]
)
def test_head_returns_the_headers_of_get_without_a_body(watched: Watched, path: str) -> None:
    whole, head = watched.ask(path), watched.ask(path, "HEAD")
    assert (head.status, head.body) == (whole.status, b"")
    assert head.headers.keys() == whole.headers.keys()
    for name in head.headers.keys() - {"date", "content-length"}:
        assert head.headers[name] == whole.headers[name]
    length = int(head.headers["content-length"])
    assert length > 0
    if path not in ("/metrics", "/api/status"):  # their lengths change between requests
        assert length == len(whole.body)


def test_the_event_stream_does_not_accept_head(watched: Watched) -> None:
    answer = watched.ask("/api/events", "HEAD")
    assert (answer.status, answer.headers["allow"], answer.body) == (405, "get", b"")
    assert not watched.admin.application.watchers


def test_not_modified_has_no_content_length(watched: Watched) -> None:
    tag = watched.ask("/").headers["etag"]
    answer = watched.ask("/", "HEAD", If_None_Match=tag)
    assert answer.status == 304
    assert "content-length" not in answer.headers


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("sort=speed", "sort must be one of queued, sent, age, newest"),
        ("sort=", "sort must be one of"),
        ("limit=0", "limit must be a whole number from 1 to 1000"),
        ("limit=1001", "limit must be"),
        ("limit=-1", "limit must be"),
        ("limit=ten", "limit must be"),
        ("limit=%C2%B2", "limit must be"),
        ("limit=" + "9" * 5000, "limit must be"),
        ("name=1", "unknown query parameter 'name'; known: limit, sort, user"),
        ("user=", "the user id must be a whole number from 0 to 9223372036854775807"),
        ("user=bob", "the user id must be"),
        ("user=-1", "the user id must be"),
        ("user=9223372036854775808", "the user id must be"),
        ("user=%C2%B2", "the user id must be"),
        ("user=%D9%A3", "the user id must be"),
        ("limit=1&limit=2", "given twice"),
        ("limit", "must have the form"),
        ("&".join(f"a{number}=1" for number in range(9)), "must have the form"),
    ],
)
def test_a_bad_query_is_400_with_the_reason(watched: Watched, query: str, complaint: str) -> None:
    answer = watched.ask(f"/api/clients?{query}")
    assert answer.status == 400
    assert complaint in answer.error


@pytest.mark.parametrize("path", ["/api/status", "/api/events"])
def test_a_path_without_parameters_rejects_a_query(watched: Watched, path: str) -> None:
    answer = watched.ask(f"{path}?pretty=1")
    assert answer.status == 400
    assert answer.error.endswith("this path takes none")


@pytest.mark.parametrize("path", [*PROBES, "/metrics", *PUBLIC])
def test_probes_metrics_and_the_page_ignore_the_query(watched: Watched, path: str) -> None:
    for query in ("x=1", "x", "&", "x=1&x=2", "%ff", ""):
        assert watched.ask(f"{path}?{query}").status == 200


def test_every_response_has_the_security_headers(watched: Watched) -> None:
    for path in (*PUBLIC, "/healthz", "/nothing"):
        headers = watched.ask(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


# Errors.


def test_an_internal_error_is_500_and_logged(
    watched: Watched, log: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "status", lambda *_: 1 / 0)
    answer = watched.ask("/api/status")
    assert answer.status == 500
    assert "admin_request_failed" in answer.error
    failed = next(entry for entry in log.entries if entry["event"] == "admin_request_failed")
    assert failed["path"] == "/api/status"


def test_a_taken_port_is_one_clear_error(watched: Watched) -> None:
    port = watched.admin.address[1]
    other = Admin(MazeServer(Settings(admin_port=port)))
    with pytest.raises(ListenError, match=f"port {port}: Address already in use; --admin-host"):
        other.start()
    other.stop()


# The stream of the live page.


def test_a_stream_sends_the_history_and_then_a_status_per_tick(watched: Watched) -> None:
    watched.admin.monitor.stop()  # only ``tick`` ticks from here on
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


def test_a_page_beyond_the_limit_is_503_until_another_closes(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "MAX_WATCHERS", 1)
    monkeypatch.setattr(watched.admin.monitor, "seconds_to_tick", lambda: 0.01)
    page = Stream(watched)
    page.event()
    answer = watched.ask("/api/events")
    assert (answer.status, answer.error) == (503, "the limit of 1 live pages is reached; close one")
    page.sock.close()
    until(lambda: not watched.admin.application.watchers, "the end of the closed page's stream")
    Stream(watched).event()


def test_the_status_of_a_tick_is_encoded_once_for_all_pages(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = itertools.count(1)
    monitor = watched.admin.monitor
    monitor.stop()  # only ``tick`` ticks from here on
    monkeypatch.setattr(view, "page_status", lambda *_: [monitor.ticks, next(encoded)])
    monkeypatch.setattr(monitor, "seconds_to_tick", lambda: 0.01)
    pages = [Stream(watched) for _ in range(3)]
    assert [page.event()[0] for page in pages] == ["history"] * 3
    assert len({page.event()[1][1] for page in pages}) == 3  # each page gets its own first status
    tick(watched)
    received = [_status_of_tick(page, monitor.ticks) for page in pages]
    assert received[0] == received[1] == received[2]


def _status_of_tick(page: Stream, tick: int) -> int:
    """Return the number of the status that the page receives for that tick."""
    while (event := page.event()[1])[0] < tick:
        pass
    return int(event[1])


def test_a_stream_ends_with_the_admin_port(watched: Watched) -> None:
    stream = Stream(watched)
    stream.event()
    watched.admin.stop()
    read_all(stream.sock)


# The page's files.


@pytest.mark.parametrize("path", PUBLIC)
def test_a_file_is_sent_plain_compressed_or_not_modified(watched: Watched, path: str) -> None:
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


def test_the_files_of_the_page_contain_no_external_url() -> None:
    for name in assets.FILES - {assets.CHARTS}:
        text = (assets.PAGE / name).read_text(encoding="utf-8")
        assert "//" not in text.replace("http://www.w3.org/2000/svg", "").replace("// ", "")


def test_the_test_client_joins_chunks() -> None:
    assert parsed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n").body == b"ab"
