"""What a parent shows of its processes."""

from __future__ import annotations

import time
from typing import Any

import pytest
from admin.watching import openmetrics
from gevent.event import Event

from maze.admin.metrics import OPENMETRICS, TEXT, Metrics
from maze.admin.monitor import Monitor
from maze.admin.responses import HttpError
from maze.admin.status import STANDBY, page_status
from maze.roles.child_process import NoAnswerError
from maze.roles.merged_status import DELIVERED, MAX_EDGES
from maze.roles.parent_view import FIGURES, ParentView
from maze.server import MazeServer
from maze.settings.options import Settings

POINT = dict.fromkeys((*DELIVERED, "queue_bytes", "sessions", "p50", "p90", "p99"), 0)
"""A point of the charts."""


class FakeProcess:
    """A process that answers with a status, or not at all."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self.pid = 100 + number
        self.restarts = 0
        self.ready = Event()
        self.ready.set()
        server = MazeServer(Settings(source_port=0, client_port=0))
        server.state = "ready"
        self.status: Any = page_status(server, Monitor(server)) | {"unready_reason": None}
        self.clients: dict[str, Any] = {"connected": 0, "clients": []}
        self.metrics = b"# HELP maze_ready r\n# TYPE maze_ready gauge\nmaze_ready 1.0\n"

    def ask(self, timeout: float, name: str, *arguments: object) -> Any:
        if self.status is None:
            raise NoAnswerError
        if name == "disconnect":
            return True
        if name == "clients":
            return self.clients
        return self.metrics if name == "metrics" else self.status


@pytest.fixture
def processes() -> Any:
    return [FakeProcess("ingest", 0), FakeProcess("edge-1", 1)]


@pytest.fixture
def view(processes: Any) -> ParentView:
    view = ParentView(Settings(edges=1), processes)
    view.state = "ready"
    return view


def readiness(view: ParentView) -> str | None:
    view._tick()
    return view.unready_reason()


def test_the_parent_is_ready_once_all_processes_are(view: ParentView, processes: Any) -> None:
    ingest, edge = processes
    assert readiness(view) is None
    assert b'maze_ready{process="parent"} 1.0' in view.metrics(TEXT)
    edge.ready.clear()
    assert readiness(view) == "edge-1 is starting"
    edge.ready.set()
    known, edge.status = edge.status, None
    assert readiness(view) == "edge-1 does not answer"
    metrics = view.metrics(TEXT)
    assert b'maze_ready{process="parent"} 0.0' in metrics
    assert b'maze_ready{process="ingest"} 1.0' in metrics
    assert b'maze_ready{process="edge-1"}' not in metrics
    edge.status = known
    ingest.status["unready_reason"] = "journal: away"
    assert readiness(view) == "ingest: journal: away"
    view.state = "draining"
    assert readiness(view) == "draining"


def test_the_uptime_does_not_depend_on_the_clock(
    view: ParentView, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 86_400)
    view._tick()
    assert 0 <= view.status()["uptime_seconds"] < 25


def test_the_charts_begin_anew_when_the_clock_is_set_back(view: ParentView, processes: Any) -> None:
    for at in (1000.0, 1001.0, 500.0):
        processes[0].status["point"] = processes[1].status["point"] = POINT | {"time": at}
        view._tick()
    assert [point["time"] for point in view.points] == [500.0]


def test_the_metrics_of_all_processes_are_valid_openmetrics(
    view: ParentView, processes: Any
) -> None:
    for process in processes:
        server = MazeServer(Settings(source_port=0, client_port=0))
        process.metrics = Metrics(server, Monitor(server)).text()
    view._tick()
    families = openmetrics(view.metrics(OPENMETRICS).decode())
    (sessions,) = (family for family in families if family.name == "maze_sessions")
    assert [sample.labels["process"] for sample in sessions.samples] == ["ingest", "edge-1"]
    assert {
        "maze_build_info",
        "maze_deliveries",
        "maze_hub_lag_seconds",
        "process_cpu_seconds",
    } <= {family.name for family in families}


def test_a_parent_whose_ingest_is_a_standby_says_so(view: ParentView, processes: Any) -> None:
    view.state = "starting"
    ingest = processes[0]
    ingest.ready.clear()
    ingest.status |= {"state": "standby", "unready_reason": STANDBY}
    processes.pop()  # it is started once the ingest is ready
    assert readiness(view) == f"ingest: {STANDBY}"
    assert view.status()["state"] == "standby"


def test_the_table_shows_the_feed_of_each_edge(view: ParentView, processes: Any) -> None:
    processes[0].status["feed"] = {"edges": []}
    processes[1].status["feed"] = {"is_connected": False, "lag_events": 7}
    view._tick()
    ingest, edge = view.status()["processes"]
    assert (ingest["is_connected"], ingest["lag_events"]) == (None, None)
    assert (edge["is_connected"], edge["lag_events"]) == (False, 7)
    processes[1].status = None
    view._tick()
    edge = view.status()["processes"][1]
    assert edge == {"name": "edge-1", "pid": 101, "restarts": 0} | dict.fromkeys(FIGURES)


def test_an_edge_that_cannot_disconnect_a_session_is_told(view: ParentView, processes: Any) -> None:
    assert view.disconnect(MAX_EDGES)
    assert not view.disconnect(MAX_EDGES + 1)  # a second edge, which does not exist
    processes[1].status = None
    with pytest.raises(HttpError, match="edge-1 does not answer; try again"):
        view.disconnect(MAX_EDGES)


def test_clients_are_listed_only_if_all_edges_answer(view: ParentView, processes: Any) -> None:
    ingest, edge = processes
    other = FakeProcess("edge-2", 2)
    processes.append(other)
    client = {"session": 7, "queued_bytes": 1}
    edge.clients = other.clients = {"connected": 1, "clients": [client]}
    ingest.status = None  # it has no clients
    listed = view.clients("queued", 50, None)
    assert listed["connected"] == 2
    assert [client["edge"] for client in listed["clients"]] == [1, 2]
    other.status = None
    with pytest.raises(HttpError, match=r"^edge-2 does not answer; try again$") as error:
        view.clients("queued", 50, None)
    assert error.value.status == 503
    edge.status = None
    with pytest.raises(HttpError, match=r"^edge-1, edge-2 do not answer; try again$"):
        view.clients("queued", 50, 7)
