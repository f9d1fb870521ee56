"""The status: order, clients, rates, latency, readiness and warnings."""

from __future__ import annotations

import json
import time
from typing import Any

import gevent
import pytest
from end_to_end.peers import messages, until
from end_to_end.running import shrink_buffers

from maze import __version__
from maze.admin import monitor
from maze.core import IMPLEMENTATION
from maze.log.processors import RECENT
from maze.pipeline.stats import LATENCY_SECONDS

from .conftest import Start
from .watching import Stream, Watched, tick

DAY = 86_400.0


def test_the_status_names_version_core_and_limits(watched: Watched) -> None:
    status = watched.status()
    served = (status["version"], status["core"], status["state"])
    assert served == (__version__, IMPLEMENTATION, "ready")
    assert status["is_ready"]
    assert 0 <= status["uptime_seconds"] < 25
    assert status["process"]["memory_bytes"] > 1 << 20
    assert status["limits"]["reorder-limit"] == 100_000
    assert "admin-token" not in status["limits"]


def test_the_uptime_does_not_depend_on_the_clock(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, now = watched.status()["started_at"], time.time
    for change in (-DAY, DAY):
        monkeypatch.setattr(time, "time", lambda change=change: now() + change)
        status = watched.status()
        assert status["started_at"] == began
        assert 0 <= status["uptime_seconds"] < 25


def test_the_charts_begin_anew_when_the_clock_is_set_back(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.admin.monitor.stop()  # only ``tick`` ticks from here on
    tick(watched)
    tick(watched)
    before = len(watched.admin.monitor.points)
    assert before >= 2
    set_back = time.time() - DAY
    monkeypatch.setattr(time, "time", lambda: set_back)
    tick(watched)
    assert [point["time"] for point in watched.admin.monitor.points] == [round(set_back, 3)]


def test_the_status_contains_no_secret(start: Start) -> None:
    token = "0123456789abcdef"
    watched = start(admin_token=token)
    answer = watched.ask("/api/status", Authorization=f"Bearer {token}")
    assert token not in answer.body.decode()


def test_the_missing_sequence_number_and_its_age(watched: Watched) -> None:
    source = watched.source()
    source.send(b"1|B\n3|B\n4|B\n")
    order = watched.await_status("two events to wait", "order", "waiting_events", value=2)["order"]
    assert (order["next_sequence"], order["missing_sequence"]) == (2, 2)
    first = order["missing_seconds"]
    source.send(b"5|B\n")
    order = watched.await_status("a third to wait", "order", "waiting_events", value=3)["order"]
    assert order["missing_seconds"] >= first
    source.send(b"2|B\n7|B\n")
    order = watched.await_status("number 6 to be missed", "order", "missing_sequence", value=6)[
        "order"
    ]
    assert order["waiting_events"] == 1
    source.send(b"6|B\n")
    order = watched.await_status("nothing to wait", "order", "waiting_events", value=0)["order"]
    assert (order["missing_sequence"], order["missing_seconds"]) == (None, 0)


def test_a_new_stream_restarts_the_missing_time(watched: Watched) -> None:
    stats, reorder = watched.server.router.stats, watched.server.intake.reorder
    source = watched.source()
    source.send(b"2|B\n")
    watched.await_status("an event to wait", "order", "waiting_events", value=1)
    stats._missing_since -= 100
    assert stats.missing_seconds(reorder) > 100
    source.close()
    watched.await_sources(0)
    watched.source().send(b"2|B\n")
    order = watched.await_status("an event to wait", "order", "waiting_events", value=1)["order"]
    assert order["missing_seconds"] < 50


def test_sources_and_their_connections_are_named(watched: Watched) -> None:
    source = watched.source()
    watched.await_sources(1)
    (connected,) = watched.status()["sources"]["connected"]
    host, port = source.sock.getsockname()
    assert connected["source"] == f"{host}:{port}"
    assert connected["connection"] == watched.server.source.sources[0].connection


def test_graph_and_sessions_are_counted(watched: Watched) -> None:
    watched.clients(1, 2, 2)
    watched.source().send(b"1|F|1|2\n2|F|1|3\n3|F|2|3\n4|F|1|2\n")
    status = watched.await_status("two to follow", "graph", "users", value=2)
    assert status["graph"] == {"users": 2, "follows": 3, "listeners": 3}
    assert status["sessions"]["connected"] == status["sessions"]["opened"] == 3


def test_clients_are_listed_in_the_requested_order(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_buffers(monkeypatch)
    watched = start(client_buffer=1 << 20)
    first, slow, last = (watched.client(user, small_buffers=True) for user in (1, 2, 3))
    watched.source().send(b"".join(messages(1, 12_000, 2)) + b"12000|P|1|3\n")
    last.expect(b"12000|P|1|3\n")
    until(lambda: watched.status()["queues"]["largest"], "bytes to wait")
    numbers = {session.user: session.peer.connection for session in watched.sessions}

    def users(query: str) -> list[int]:
        found = watched.get(f"/api/clients{query}")
        assert found["connected"] == 3
        return [client["user"] for client in found["clients"]]

    assert users("")[0] == users("?sort=queued&limit=1")[0] == 2
    assert users("?sort=age") == [1, 2, 3]
    assert users("?sort=newest&limit=2") == [3, 2]
    assert users("?sort=sent")[0] == 2
    entry = watched.get("/api/clients?limit=1")["clients"][0]
    assert entry["session"] == numbers[2]
    assert entry["waits_for_room"]
    assert entry["queued_bytes"] > 0
    queues = watched.status()["queues"]
    assert queues["total"] == queues["largest"] == entry["queued_bytes"]
    slow.read_in_background()
    watched.await_status("the queue to empty", "queues", "total", value=0)
    first.close()


def test_rates_cover_their_window(watched: Watched) -> None:
    client = watched.client(1)
    samples = watched.admin.monitor._samples
    watched.source().send(b"1|B\n2|B\n")
    client.expect(b"1|B\n2|B\n")
    tick(watched)
    before, after = samples[-2], samples[-1]
    samples[-2] = before._replace(at=after.at - 2)
    rates = watched.status()["rates"]
    one_second = {"received": 1, "routed": 1, "deliveries": 1, "delivered_bytes": 4}
    one_second["commits"] = 0
    assert rates["1s"] == rates["60s"] == one_second
    tick(watched)
    assert watched.status()["rates"]["1s"]["routed"] == 0
    assert watched.status()["rates"]["10s"]["routed"] > 0


def test_latency_covers_recent_deliveries(watched: Watched) -> None:
    assert watched.status()["latency"] == {"p50": None, "p90": None, "p99": None}
    client = watched.client(1)
    watched.source().send(b"1|B\n")
    client.expect(b"1|B\n")
    tick(watched)
    latency = watched.status()["latency"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] < 5


def test_percentiles_of_a_histogram() -> None:
    def counts(**by_bucket: int) -> list[int]:
        return [by_bucket.get(f"b{index}", 0) for index in range(len(LATENCY_SECONDS) + 1)]

    assert monitor.percentile(counts(), 0.5) is None
    assert monitor.percentile(counts(b0=10), 0.5) == pytest.approx(LATENCY_SECONDS[0] / 2)
    assert monitor.percentile(counts(b1=1, b5=1), 0.5) == LATENCY_SECONDS[1]
    assert monitor.percentile(counts(b20=3), 0.99) == LATENCY_SECONDS[-1]
    middle = monitor.percentile(counts(b3=2), 0.5)
    assert middle == pytest.approx((LATENCY_SECONDS[2] + LATENCY_SECONDS[3]) / 2)


def tick_30_s_later(watched: Watched) -> None:
    tick(watched)
    watched.admin.monitor._progressed_at -= 30


def test_a_router_that_waits_for_clients_is_ready(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_buffers(monkeypatch)
    watched = start(client_buffer=1 << 10, stall_timeout=3600.0)
    watched.client(1, small_buffers=True)
    watched.source().send_in_background(b"".join(messages(1, 50_000, 1)))
    router = watched.server.router
    until(lambda: router.stats.waited_seconds > 0.5, "the kernels' buffers to fill")
    for _ in range(3):
        tick_30_s_later(watched)
        assert watched.server.intake.reorder.ready
        status = watched.status()
        assert status["is_ready"]
        assert status["router"]["stuck_seconds"] == 0
        assert status["router"]["waited_seconds"] >= 0.5  # rounded
        assert watched.ask("/readyz").status == 200


def test_a_router_that_stops_without_a_cause_is_not_ready(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = watched.server.router
    monkeypatch.setattr(router, "_deliver", lambda: gevent.sleep(0.001))
    watched.source().send(b"1|B\n")
    until(lambda: watched.server.intake.reorder.ready, "the event to wait")
    tick(watched)
    assert watched.ask("/readyz").status == 200
    tick_30_s_later(watched)
    answer, status = watched.ask("/readyz"), watched.status()
    assert answer.status == 503
    assert "has routed nothing for" in answer.json()["because"]
    assert status["router"]["stuck_seconds"] >= 30
    assert not status["is_ready"]
    monkeypatch.undo()
    until(lambda: watched.ask("/readyz").status == 200, "the router to go on")


def test_hub_lag_is_measured(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "TICK_SECONDS", 0.01)
    observer = watched.admin.monitor
    until(lambda: sum(observer.hub_lag.counts) > 1, "two ticks in quick succession")
    time.sleep(0.06)  # blocks the hub
    until(lambda: observer.hub_lag.total > 0.04, "a late tick")
    late = sum(observer.hub_lag.counts[monitor.LAG_SECONDS.index(0.02) + 1 :])
    assert late > 0


def test_the_page_receives_warnings_and_the_slowest_clients(watched: Watched) -> None:
    watched.client(7)
    RECENT(None, "warning", {"event": "something", "number": 1, "thing": b"bytes"})
    RECENT(None, "info", {"event": "nothing"})
    stream = Stream(watched)
    stream.event()
    value: Any = stream.event()[1]
    assert [client["user"] for client in value["clients"]] == [7]
    assert value["warnings"][-1] == {"event": "something", "number": 1, "thing": "b'bytes'"}
    assert json.dumps(value)


def test_memory_is_null_where_the_system_does_not_report_it(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> int:
        raise OSError

    monkeypatch.setattr("resource.getpagesize", fail)
    assert watched.status()["process"]["memory_bytes"] is None
