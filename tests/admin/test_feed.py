"""What operators see of the feed: at the ingest, and at each edge."""

from __future__ import annotations

import socket

import gevent
import pytest
from end_to_end.peers import until
from end_to_end.roles import Roles
from structlog.testing import capture_logs

from maze.core import Position
from maze.feed.feed_port import EdgeConnection
from maze.net.peer import UNIX_PEER, Peer
from maze.process.diagnostics import Diagnostics
from maze.roles.edge import EdgeServer
from maze.settings.option_types import FREE_PORT

from .conftest import Watch, WatchedFeed
from .test_metrics import sample_names, values
from .watching import Watched

NAME = f"{socket.gethostname()}:0"
"""Name of an edge whose clients connect to any free port."""


def await_same(feed: WatchedFeed) -> None:
    """Wait until the ingest knows that the edge has routed everything."""
    until(lambda: feed.ingest.server.feed.edges[0].routed == feed.ingest.position, "the edge")


def test_an_ingest_shows_its_edges(feed: WatchedFeed) -> None:
    feed.ingest.source().send(b"1|B\n2|B\n")
    feed.edge.await_routed(2)
    await_same(feed)
    shown = feed.of_ingest.status()["feed"]
    (edge,) = shown["edges"]
    assert (edge["name"], edge["address"], edge["lag_events"]) == (NAME, "unix", 0)
    assert edge["position"] == str(feed.ingest.position)
    assert (shown["edges_dropped"], shown["is_held_up"]) == (0, False)
    assert set(shown["sent_bytes"]) == {"ring", "file", "snapshot"}
    assert shown["sent_bytes"]["ring"] > 8
    found = values(feed.of_ingest)
    assert found["maze_feed_edges", ""] == 1
    assert found["maze_feed_edge_lag_events", NAME] == 0
    assert found["maze_feed_edges_dropped_total", ""] == 0
    assert found["maze_feed_held_up", ""] == 0
    assert found["maze_feed_sent_bytes_total", "ring"] == shown["sent_bytes"]["ring"]
    assert found["maze_feed_sent_bytes_total", "snapshot"] == 0
    assert ("maze_feed_connected", "") not in found


def test_what_is_no_longer_in_memory_is_counted_apart(roles: Roles, watch: Watch) -> None:
    ingest = roles.ingest(admin_port=FREE_PORT)
    ingest.source().send(b"1|B\n2|B\n")
    until(lambda: ingest.durable.next == 3, "the events to be written")
    ingest.server.feed.begin()  # as after a restart: nothing is in memory
    roles.edge()
    found = values(watch(ingest.server))
    assert found["maze_feed_sent_bytes_total", "file"] > 8
    assert found["maze_feed_sent_bytes_total", "ring"] == 0


def test_an_edge_shows_its_feed(feed: WatchedFeed) -> None:
    feed.ingest.source().send(b"1|B\n2|B\n")
    feed.edge.await_routed(2)
    until(lambda: feed.edge.following.lag_events == 0, "the edge to know that nothing follows")
    shown = feed.of_edge.status()["feed"]
    assert shown["address"].startswith("unix:/")
    assert shown["is_connected"]
    assert shown["position"] == str(feed.ingest.position)
    assert (shown["lag_events"], shown["losses"], shown["snapshots_loaded"]) == (0, 0, 0)
    assert 0 <= shown["answer_seconds"] < 20
    found = values(feed.of_edge)
    assert found["maze_feed_connected", ""] == 1
    assert found["maze_feed_lag_events", ""] == 0
    assert found["maze_feed_answer_age_seconds", ""] >= 0
    assert found["maze_feed_losses_total", ""] == 0
    assert found["maze_feed_snapshots_loaded_total", ""] == 0
    assert ("maze_feed_edges", "") not in found


def test_a_feed_that_is_lost_is_shown_and_counted(feed: WatchedFeed, roles: Roles) -> None:
    for losses in (1, 2):
        roles.stop_ingest()
        until(lambda: feed.of_edge.ask("/readyz").status == 503, "the feed to be lost")
        found = values(feed.of_edge)
        assert found["maze_feed_connected", ""] == 0
        assert found["maze_feed_losses_total", ""] == losses
        assert feed.of_edge.status()["feed"]["trouble"]
        roles.ingest()
        until(lambda: feed.of_edge.status()["feed"]["is_connected"], "the feed to be back")


def test_an_edge_that_waits_for_its_ingest_is_not_connected(roles: Roles, watch: Watch) -> None:
    edge = roles.edge_that_waits(admin_port=FREE_PORT)
    watcher = watch(edge.server)
    until(lambda: edge.server.trouble, "the edge to try")
    found = values(watcher)
    assert (found["maze_feed_connected", ""], found["maze_feed_losses_total", ""]) == (0, 1)
    assert "maze_feed_lag_events" not in sample_names(watcher)
    assert "maze_feed_answer_age_seconds" not in sample_names(watcher)
    roles.ingest()
    edge.started()


def test_the_lag_of_an_edge_that_routes_nothing(
    feed: WatchedFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed.edge.server.router, "_deliver", lambda: gevent.sleep(0.001))
    feed.ingest.source().send(b"1|B\n2|B\n3|B\n")
    until(lambda: feed.edge.following.lag_events == 3, "the edge to know of the events")
    assert values(feed.of_edge)["maze_feed_lag_events", ""] == 3
    until(lambda: feed.of_ingest.status()["feed"]["edges"][0]["lag_events"] == 3, "the ingest, too")
    assert values(feed.of_ingest)["maze_feed_edge_lag_events", NAME] == 3
    monkeypatch.undo()


def test_edges_with_one_name_are_one_series(feed: WatchedFeed) -> None:
    feed.ingest.source().send(b"1|B\n2|B\n")
    feed.edge.await_routed(2)
    await_same(feed)
    former = EdgeConnection(NAME, Peer(UNIX_PEER), feed.ingest.server.feed.edges[0].connection)
    former.routed = Position(feed.ingest.position.epoch, 1)
    feed.ingest.server.feed._edges[former] = None
    try:
        found = values(feed.of_ingest)
        assert found["maze_feed_edges", ""] == 2
        assert found["maze_feed_edge_lag_events", NAME] == 2
    finally:
        del feed.ingest.server.feed._edges[former]


def test_an_edge_of_a_parent_is_named_after_its_process(roles: Roles) -> None:
    ingest = roles.ingest()
    settings = roles.edge().server.settings
    edge = EdgeServer(settings, "edge-2")
    assert edge._name == f"{socket.gethostname()}:edge-2"
    edge.close_upstream()
    ingest.await_edges(1)


def test_a_snapshot_that_is_loaded_is_counted(
    roles: Roles, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maze.pipeline.journaling.UPKEEP_SECONDS", 0.01)
    ingest = roles.ingest(snapshot_events=2)
    ingest.source().send(b"1|F|1|2\n2|B\n3|B\n")
    journaling = ingest.server.journaling
    assert journaling
    until(lambda: journaling.statistics and journaling.statistics.snapshot, "a snapshot")
    edge = roles.edge(admin_port=FREE_PORT)
    assert values(watch(edge.server))["maze_feed_snapshots_loaded_total", ""] == 1
    assert ingest.server.feed.sent_bytes["snapshot"] > 0


def test_a_dropped_edge_is_counted(feed: WatchedFeed) -> None:
    edge = feed.ingest.server.feed.edges[0]
    assert edge.has
    edge.moved_at -= 60
    feed.ingest.server.feed.drop_behind(Position(edge.has.epoch + 1, 1), 10.0)
    assert values(feed.of_ingest)["maze_feed_edges_dropped_total", ""] == 1


def test_without_a_feed_there_is_no_metric_of_one(watched: Watched) -> None:
    assert watched.status()["feed"] is None
    assert not [name for name in sample_names(watched) if name.startswith("maze_feed")]


def test_a_dump_names_what_is_known_of_the_feed(feed: WatchedFeed) -> None:
    def dumped(edge_or_ingest: object) -> dict[str, object]:
        with capture_logs() as entries:
            Diagnostics(edge_or_ingest, Writer()).write()  # type: ignore[arg-type]
        return dict(entries[0])

    dump = dumped(feed.ingest.server)
    assert dump["feed_edges_dropped"] == 0
    assert dump["feed_sent_bytes_ring"] == 0
    assert dumped(feed.edge.server)["feed_losses"] == 0


class Writer:
    """A log writer that has dropped nothing."""

    dropped = 0
