"""What the parent's admin port shows: its ingest and its edges together."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import gevent
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from maze.admin.client_list import SORT_FIELDS
from maze.admin.metrics import HELP, Format
from maze.admin.monitor import KEPT_TICKS, TICK_SECONDS, add_point
from maze.admin.responses import HttpError
from maze.log.processors import RECENT
from maze.roles.child_process import ChildProcess, NoAnswerError
from maze.roles.merged_status import Status, edge_and_session, merged, numbered
from maze.settings.options import Settings

ANSWER_SECONDS = 1.0
"""Time within which a process has to answer."""

FIGURES = (
    *("state", "sessions", "deliveries", "position", "is_connected", "lag_events"),
    "memory_bytes",
)
"""Columns of the table of processes that a process itself reports."""

PAGE_ONLY = ("clients", "warnings", "point")
"""What only the live page shows of a status."""


class ParentView:
    """Asks every process once a second, and merges what they answer."""

    def __init__(self, settings: Settings, processes: list[ChildProcess]) -> None:
        self.settings = settings
        self._processes = processes
        self.state = "starting"
        """``starting``, ``ready`` or ``draining``."""
        self.points: deque[dict[str, Any]] = deque(maxlen=KEPT_TICKS)
        self.ticks = 0
        self._started_at = time.time()
        self._began_at = time.monotonic()
        self._due = time.monotonic()
        self._statuses: dict[str, Status] = {}
        """What each process answered last, by name; not of those that did not answer."""
        self._merged: Status | None = None
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        self._greenlet = gevent.Greenlet(self._run)

    def start(self) -> None:
        """Begin to ask."""
        self._greenlet.start()

    def stop(self) -> None:
        """Ask no more."""
        self._greenlet.kill(block=False)

    def seconds_to_tick(self) -> float:
        """Return the seconds until shortly after the next tick is due."""
        return max(0.01, self._due - time.monotonic() + 0.01)

    def unready_reason(self) -> str | None:
        """Return why clients should not be sent here; None if they may."""
        if self.state == "draining":
            return self.state
        for process in self._processes:
            status = self._statuses.get(process.name)
            if status and (reason := status["unready_reason"]):
                return f"{process.name}: {reason}"
            if not process.ready.is_set():
                return f"{process.name} is starting"
            if status is None:
                return f"{process.name} does not answer"
        return None if self.state == "ready" else self.state

    def metrics(self, form: Format) -> bytes:
        """Return the metrics of all processes; the label ``process`` tells them apart."""
        families: dict[str, Metric] = {}
        for process, text in self._ask_all("metrics"):
            for family in text_string_to_metric_families(text.decode()):
                _add_family(families, family, process.name)
        is_ready = GaugeMetricFamily(
            "maze_ready", HELP["maze_ready"], self.unready_reason() is None
        )
        _add_family(families, is_ready, "parent")
        own = generate_latest(self._registry).decode()
        for family in text_string_to_metric_families(own):
            _add_family(families, family, "parent")
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Families(families.values()))
        return form.generate(registry)

    def status(self) -> Status:
        """Return the status, at most a second old. Raise HttpError before the first one."""
        return {key: value for key, value in self.page_status().items() if key not in PAGE_ONLY}

    def page_status(self) -> Status:
        """Return the status plus what only the live page shows."""
        if self._merged is None:
            raise HttpError(503, "the processes are starting; try again")
        return self._merged

    def clients(self, sort: str, limit: int, user: int | None) -> dict[str, Any]:
        """Return how many clients are connected, and the first ones in a sort order.

        Raise HttpError if an edge does not answer.
        """
        edges = self._processes[1:]
        answers = _answers(edges, "clients", sort, limit, user)
        if silent := _silent(edges, answers):
            raise HttpError(503, f"{silent}; try again")
        connected, clients = 0, []
        for process, answer in answers:
            connected += answer["connected"]
            clients += numbered(process.number, answer["clients"])
        field, is_descending = SORT_FIELDS[sort]
        clients.sort(key=lambda client: float(client[field]), reverse=is_descending)
        return {"connected": connected, "clients": clients[:limit]}

    def disconnect(self, session: int) -> bool:
        """Disconnect a client; return False if there is no such session.

        Raise HttpError if its edge does not answer.
        """
        edge, number = edge_and_session(session)
        if edge >= len(self._processes):
            return False
        process = self._processes[edge]
        try:
            return bool(process.ask(ANSWER_SECONDS, "disconnect", number))
        except NoAnswerError:
            raise HttpError(503, f"{process.name} does not answer; try again") from None

    def disconnect_user(self, user: int) -> int:
        """Disconnect all sessions of a user; return how many.

        Raise HttpError if an edge does not answer.
        """
        edges = self._processes[1:]
        answers = _answers(edges, "disconnect_user", user)
        disconnected = sum(int(sessions) for _, sessions in answers)
        if silent := _silent(edges, answers):
            raise HttpError(
                503,
                f"{silent}; of the others, {disconnected} sessions of user {user} were "
                "disconnected; try again",
            )
        return disconnected

    def _run(self) -> None:
        while True:
            self._tick()
            self._due = max(self._due + TICK_SECONDS, time.monotonic())
            gevent.sleep(self._due - time.monotonic())

    def _tick(self) -> None:
        """Ask all processes, merge what they answer, and add a point to the charts."""
        self._statuses = {process.name: status for process, status in self._ask_all("page")}
        ingest = self._statuses.get("ingest")
        if ingest is not None:
            edges = {
                process.number: self._statuses[process.name]
                for process in self._processes[1:]
                if process.name in self._statuses
            }
            self._merged = merged(ingest, edges) | self._own()
            self._merged["warnings"] = self._warnings(self._merged["warnings"])
            if point := self._merged["point"]:
                add_point(self.points, point)
        elif self._merged is not None:
            self._merged |= self._own()
        self.ticks += 1

    def _own(self) -> Status:
        """Return what the parent itself knows."""
        ingest = self._statuses.get("ingest")
        is_standby = ingest is not None and ingest["state"] == "standby"
        return {
            "state": "standby" if is_standby else self.state,
            "is_ready": self.unready_reason() is None,
            "started_at": round(self._started_at, 3),
            "uptime_seconds": round(time.monotonic() - self._began_at, 3),
            "processes": [self._process(process) for process in self._processes],
        }

    def _process(self, process: ChildProcess) -> Status:
        """Return one row of the table of processes; None stands for what is not known."""
        status = self._statuses.get(process.name)
        row: Status = {"name": process.name, "pid": process.pid, "restarts": process.restarts}
        if status is None:
            return row | dict.fromkeys(FIGURES)
        feed = status["feed"] or {}
        return row | {
            "state": status["state"],
            "sessions": status["sessions"]["connected"],
            "deliveries": status["rates"]["1s"]["deliveries"],
            "position": status["order"]["next_sequence"],
            "is_connected": feed.get("is_connected"),
            "lag_events": feed.get("lag_events"),
            "memory_bytes": status["process"]["memory_bytes"],
        }

    def _warnings(self, lines: list[Status]) -> list[Status]:
        """Return the warnings of the processes and those of the parent, the newest last."""
        return sorted([*lines, *RECENT.lines], key=lambda line: str(line.get("timestamp", "")))

    def _ask_all(self, name: str, *arguments: object) -> list[tuple[ChildProcess, Any]]:
        return _answers(self._processes, name, *arguments)


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families


def _answers(
    processes: Sequence[ChildProcess], name: str, *arguments: object
) -> list[tuple[ChildProcess, Any]]:
    """Ask processes at once; return those that have answered, with their answers."""
    asking = [gevent.spawn(_answer_of, process, name, arguments) for process in processes]
    gevent.joinall(asking)
    answers = zip(processes, (each.value for each in asking), strict=True)
    return [(process, answer) for process, answer in answers if answer is not None]


def _silent(
    processes: Sequence[ChildProcess], answers: Sequence[tuple[ChildProcess, Any]]
) -> str | None:
    """Say which of the processes have not answered; return None if all have."""
    answered = [process for process, _ in answers]
    silent = [process.name for process in processes if process not in answered]
    if not silent:
        return None
    return f"{', '.join(silent)} {'does' if len(silent) == 1 else 'do'} not answer"


def _answer_of(process: ChildProcess, name: str, arguments: tuple[object, ...]) -> Any:
    try:
        return process.ask(ANSWER_SECONDS, name, *arguments)
    except NoAnswerError:
        return None


def _add_family(families: dict[str, Metric], family: Metric, process: str) -> None:
    """Add the samples of a process to those of the same family of others."""
    known = families.setdefault(
        family.name, Metric(family.name, family.documentation, family.type, family.unit)
    )
    for sample in family.samples:
        labels = {"process": process, **sample.labels}
        known.add_sample(sample.name, labels, sample.value)
