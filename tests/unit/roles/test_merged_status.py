"""The merged status has the form of one server's, and its numbers add up."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maze.admin.monitor import Monitor
from maze.admin.status import SLOWEST_CLIENTS, page_status
from maze.roles.merged_status import (
    MAX_EDGES,
    added,
    edge_and_session,
    merged,
    numbered,
)
from maze.server import MazeServer
from maze.settings.options import Settings


@pytest.fixture(scope="module")
def one() -> dict[str, Any]:
    """The status of a server in which something has happened."""
    server = MazeServer(Settings(source_port=0, client_port=0))
    server.router.stats.routed_events = server.router.stats.received_events = 7
    server.sessions.discarded_bytes = 3
    server.registration.overruns = 2
    monitor = Monitor(server)
    monitor.tick()
    return page_status(server, monitor)


def form(value: Any) -> Any:
    """Return the keys of mappings in mappings."""
    return {key: form(part) for key, part in value.items()} if isinstance(value, Mapping) else None


def edge(one: dict[str, Any], **figures: int) -> dict[str, Any]:
    status = copy.deepcopy(one)
    status["sessions"]["connected"] = figures["sessions"]
    status["queues"] = {"total": figures["queued"], "largest": figures["queued"], "memory": 1}
    status["events"]["by_type"]["broadcast"]["deliveries"] = figures["deliveries"]
    status["latency"] = {"p50": 0.001 * figures["sessions"], "p90": None, "p99": 0.2}
    status["point"] |= {"sessions": figures["sessions"], "deliveries": 1.5}
    status["resumes"]["oldest_recent_sequence"] = figures["sessions"]
    return status


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_merged_status_has_the_form_of_one(one: dict[str, Any], count: int) -> None:
    whole = merged(one, dict.fromkeys(range(1, count + 1), one))
    assert form(whole) == form(one)


def test_numbers_add_up(one: dict[str, Any]) -> None:
    edges = {
        1: edge(one, sessions=2, queued=10, deliveries=5),
        2: edge(one, sessions=3, queued=4, deliveries=6),
    }
    whole = merged(one, edges)
    assert whole["sessions"]["connected"] == 5
    assert whole["sessions"]["discarded_bytes"] == 6
    assert whole["queues"] == {"total": 14, "largest": 10, "memory": 2}
    assert whole["events"]["routed"] == whole["events"]["received"] == 7
    assert whole["events"]["by_type"]["broadcast"]["deliveries"] == 11
    assert whole["latency"] == {"p50": 0.003, "p90": None, "p99": 0.2}
    assert whole["router"]["registration_overruns"] == 6
    assert whole["resumes"]["oldest_recent_sequence"] == 2
    assert whole["point"]["sessions"] == 5
    assert whole["point"]["deliveries"] == 3.0
    assert whole["process"]["memory_bytes"] == 3 * one["process"]["memory_bytes"]


def test_the_slowest_clients_of_all_edges_are_listed(one: dict[str, Any]) -> None:
    def with_clients(first: int) -> dict[str, Any]:
        queued = range(first, first + SLOWEST_CLIENTS)
        clients = [{"session": number, "queued_bytes": number} for number in queued]
        return {**one, "clients": clients}

    whole = merged(one, {1: with_clients(1), 2: with_clients(6)})
    assert [client["queued_bytes"] for client in whole["clients"]] == [
        *(15, 14, 13, 12, 11, 10, 10, 9, 9, 8),
    ]
    assert [client["edge"] for client in whole["clients"]] == [2, 2, 2, 2, 2, 1, 2, 1, 2, 1]


def test_the_newest_warnings_of_all_processes_are_kept(one: dict[str, Any]) -> None:
    def with_warnings(*times: int) -> dict[str, Any]:
        return {**one, "warnings": [{"timestamp": f"{time:03}"} for time in times]}

    whole = merged(with_warnings(*range(0, 40)), {1: with_warnings(*range(30, 60))})
    assert whole["warnings"][0] == {"timestamp": "020"}
    assert len(whole["warnings"]) == 50


@given(st.integers(1, MAX_EDGES), st.integers(1, 10**12))
def test_the_number_of_a_session_tells_its_edge(number: int, session: int) -> None:
    (client,) = numbered(number, [{"session": session}])
    assert edge_and_session(client["session"]) == (number, session)


def test_what_is_not_a_number_is_kept_once() -> None:
    parts: list[dict[str, Any]] = [{"a": None, "b": True, "c": {"d": 1}}, {"c": {"d": 2}}]
    assert added(parts) == {"a": None, "b": True, "c": {"d": 3}}
