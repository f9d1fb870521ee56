"""An edge whose ingest goes, and comes back as it was or as another one."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import gevent
import gevent.socket
import pytest
from structlog.testing import LogCapture
from unit.pipeline.freed_graph import FreedGraph

from maze.admin import Admin
from maze.core import Position
from maze.feed.following import Following
from maze.journal.journal import Batch
from maze.journal.sqlite import SQLiteJournal
from maze.pipeline import router
from maze.settings.option_types import FREE_PORT

from .peers import until
from .roles import Roles, logged


def test_an_ingest_that_restarts_is_followed_again(roles: Roles, log: LogCapture) -> None:
    ingest = roles.ingest()
    edges = [roles.edge(), roles.edge()]
    clients = [edge.client(7) for edge in edges]
    ingest.source().send(b"1|B\n")
    for client in clients:
        client.expect(b"1|B\n")
    for number in range(2, 5):
        roles.stop_ingest()
        for edge in edges:
            until(lambda e=edge: e.server.trouble, "the edge to lose its feed")  # type: ignore[misc]
        ingest = roles.ingest()
        ingest.await_edges(2)
        ingest.source().send(b"%d|B\n" % number)
        for client in clients:
            client.expect(b"%d|B\n" % number)
    for edge in edges:
        assert len(edge.sessions) == 1
        assert edge.server.trouble is None
    assert len(logged(log, "feed_unavailable")) == len(logged(log, "feed_available")) == 6


def test_an_edge_that_has_lost_its_feed_is_not_ready(roles: Roles) -> None:
    roles.ingest()
    edge = roles.edge(admin_port=FREE_PORT)
    admin = Admin(edge.server)
    admin.start()
    try:
        assert ask(admin, "/readyz")[0] == 200
        roles.stop_ingest()
        until(lambda: edge.server.trouble, "the edge to lose its feed")
        status, because = ask(admin, "/readyz")
        assert status == 503
        assert because == edge.server.trouble
        assert because.startswith(f"the feed {roles.feed}: ")
        roles.ingest()
        until(lambda: not edge.server.trouble, "the feed to be back")
        assert ask(admin, "/readyz")[0] == 200
    finally:
        admin.stop()


def ask(admin: Admin, path: str) -> tuple[int, str]:
    """Return the status of an answer, and its reason."""
    host, port = admin.address
    with gevent.socket.create_connection((host, port)) as sock:
        sock.sendall(f"GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n".encode())
        with sock.makefile("rb") as file:
            status = int(file.readline().split()[1])
            body = json.loads(file.read().partition(b"\r\n\r\n")[2])
    return status, body.get("because", "")


def test_an_edge_that_starts_before_its_ingest_waits_for_it(roles: Roles, log: LogCapture) -> None:
    edge = roles.edge_that_waits()
    until(lambda: edge.server.trouble, "the edge to find no ingest")
    assert edge.server.state == "replaying"
    ingest = roles.ingest()
    client = edge.started().client(7)
    ingest.source().send(b"1|B\n")
    client.expect(b"1|B\n")
    assert edge.server.trouble is None
    (back,) = logged(log, "feed_available")
    assert back["position"] == str(Position(ingest.position.epoch, 1))


def test_a_graph_that_could_not_be_rebuilt_is_freed_in_a_thread(
    roles: Roles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have millions of follows when the ingest goes, and the edge may have clients."""
    monkeypatch.setattr(router, "FollowGraph", FreedGraph)
    edge = roles.edge_that_waits()
    graph = edge.server.router.fanout.graph
    until(lambda: edge.server.trouble, "the edge to find no ingest")
    roles.ingest()
    edge.started()
    assert isinstance(graph, FreedGraph)
    assert graph.freed_in
    assert threading.get_ident() not in graph.freed_in


def test_a_client_resumes_from_the_journal_of_an_ingest_that_has_restarted(roles: Roles) -> None:
    ingest = roles.ingest()
    edge = roles.edge(resume_events=0)
    ingest.source().send(b"1|F|7|3\n2|S|3\n")
    edge.await_position(Position(edge.position.epoch, 3))
    start = Position(edge.position.epoch, 1)
    edge.resumed(7, start).expect(b"2|S|3\n")
    ingest = roles.ingest()
    ingest.await_edges(1)
    edge.resumed(7, start).expect(b"2|S|3\n")


def test_an_edge_that_has_what_the_journal_lacks_ends(roles: Roles, log: LogCapture) -> None:
    """A batch that begins below what the edge has is not delivered again."""
    ingest = roles.ingest()
    edge = roles.edge()
    client = edge.client(7)
    ingest.source().send(b"1|B\n2|B\n")
    client.expect(b"1|B\n2|B\n")
    epoch = edge.position.epoch
    roles.stop_ingest()
    until(lambda: edge.server.trouble, "the edge to lose its feed")
    for file in Path(roles.journal).parent.glob("journal*"):
        file.unlink()
    journal = SQLiteJournal(roles.journal, Position(epoch, 1), synchronous="OFF")
    journal.append([Batch(epoch, 1, 4, b"1|B\n2|B\n3|B\n")], journal.lease())
    journal.close()
    roles.ingest()
    until(lambda: edge.server.state == "stopped", "the edge to end")
    (failed,) = logged(log, "feed_failed")
    assert failed["error"] == f"the batch {epoch}-4 does not follow {epoch}-3"
    client.expect_closed()


def test_an_edge_ends_if_it_cannot_use_what_arrives(
    roles: Roles, log: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest = roles.ingest()
    edge = roles.edge()

    def fail(*_: object) -> None:
        raise ValueError("cannot")

    monkeypatch.setattr(Following, "_arrive", fail)
    ingest.source().send(b"1|B\n")
    until(lambda: edge.server.state == "stopped", "the edge to end")
    (failed,) = logged(log, "feed_failed")
    assert failed["exc_info"]
