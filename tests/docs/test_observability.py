"""Metrics, log events, alerts and dashboard: documents and deployment files match the code."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from admin.conftest import Start
from admin.test_metrics import families_of, sample_names, values
from admin.watching import Watcher

from maze.core import Reason
from maze.listener.connection_limits import RefusalReason
from maze.listener.handshake_rejects import HandshakeReason
from maze.log.processors import ONCE_A_SECOND
from maze.log.reject_log import NAMES
from maze.pipeline.resumes import ResumeOutcome
from maze.pipeline.session import CloseReason
from maze.pipeline.source import SourceCloseReason

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
DEPLOY = ROOT / "deploy"


def test_the_document_lists_every_metric_and_no_other(kinds: list[Watcher]) -> None:
    text = (DOCS / "observability.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(maze_[a-z_]+)`", text, re.MULTILINE))
    exported = {
        f"{name}_total" if family.type == "counter" else name
        for name, family in families_of(kinds).items()
        if name.startswith("maze_")
    }
    assert listed == exported


def test_the_document_lists_every_reason_and_no_other() -> None:
    text = (DOCS / "observability.md").read_text(encoding="utf-8").partition("## Reasons")[2]
    rows = re.findall(r"^\| (?:A|The) .*\. \| (`.+`) \|$", text.partition("## ")[0], re.MULTILINE)
    listed = [set(re.findall(r"`([a-z_]+)`", row)) for row in rows]
    rejects = {reason.value for reason in Reason if reason != Reason.GRAPH_FULL}
    others = [RefusalReason, HandshakeReason, CloseReason, ResumeOutcome, SourceCloseReason]
    reasons = [{reason.value for reason in enum} for enum in others]
    assert listed == [rejects, {"graph_full"}, *reasons]


def metric_names(text: str) -> set[str]:
    return set(re.findall(r"\b((?:maze|process)_[a-z_]+)\b", text))


def expressions_of(dashboard: Any) -> Iterator[str]:
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


def test_the_dashboard_asks_for_what_is_exported(kinds: list[Watcher]) -> None:
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text(encoding="utf-8"))
    asked = [metric_names(expression) for expression in expressions_of(dashboard)]
    assert all(asked)
    assert set().union(*asked) <= set().union(*map(sample_names, kinds))
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"]) >= 8


def test_the_alerts_ask_for_what_is_exported(kinds: list[Watcher]) -> None:
    text = (DEPLOY / "alerts.yml").read_text(encoding="utf-8")
    expressions = re.findall(r"^ +expr: (.+)$", text, re.MULTILINE)
    names = [metric_names(expression) for expression in expressions]
    assert len(names) == text.count("- alert:") >= 5
    assert set().union(*names) - {"up"} <= set().union(*map(sample_names, kinds))
    assert all(found or "up{" in text for found in names)


def test_labels_in_the_documents_are_real(kinds: list[Watcher]) -> None:
    samples = (sample for watcher in kinds for sample in values(watcher))
    reasons = {word for _, labels in samples for word in labels.split()}
    for name in ("grafana-dashboard.json", "alerts.yml"):
        text = (DEPLOY / name).read_text(encoding="utf-8").replace('\\"', '"')
        asked = re.findall(r'(?:reason|outcome|type|level|origin)(?:=|=~)"([a-z_|]+)"', text)
        assert {word for group in asked for word in group.split("|")} <= reasons


def test_the_scrape_example_names_the_default_port(start: Start) -> None:
    text = (DEPLOY / "prometheus.yml").read_text(encoding="utf-8")
    assert "127.0.0.1:9095" in text
    assert "alerts.yml" in text


@pytest.mark.parametrize("name", ["grafana-dashboard.json", "prometheus.yml", "alerts.yml"])
def test_the_documents_point_nowhere_else(name: str) -> None:
    assert "//" not in (DEPLOY / name).read_text(encoding="utf-8").replace("https://grafana", "")


def logged_names(path: Path) -> Iterator[str]:
    """The names of the events that a module logs."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        called, name = ast.unparse(node.func), node.args[0]
        if called in {"_log", "self._log"}:  # which log under the name they are given
            if isinstance(name, ast.Constant):
                yield str(name.value)
        elif called in {"self.fail", "self._fail"}:  # MazeServer.fail
            yield str(ast.literal_eval(name))
        elif re.fullmatch(r"log\.[a-z]+|write", called) and called != "log.log":
            yield from names_in(name, path)


def names_in(name: ast.expr, path: Path) -> Iterator[str]:
    """The names that the first argument of a call of the log may have."""
    text = ast.unparse(name)
    if isinstance(name, ast.IfExp):
        yield from names_in(name.body, path)
        yield from names_in(name.orelse, path)
    elif isinstance(name, ast.Call) and text.startswith("NAMES.get("):
        yield from NAMES.values()
        yield from names_in(name.args[1], path)
    elif text != "event":  # those are the callers' to name
        assert isinstance(name, ast.Constant), f"{path}: a name that is not constant: {text}"
        yield str(name.value)


def test_the_document_lists_every_event_of_the_log_and_no_other() -> None:
    text = (DOCS / "observability.md").read_text(encoding="utf-8").partition("## Log events")[2]
    listed = set(re.findall(r"^\| `([a-z_]+)` \|", text, re.MULTILINE))
    paths = list((ROOT / "maze").rglob("*.py"))
    logged = {name for path in paths for name in logged_names(path)}
    assert listed == logged | {"log_lines_dropped"}


def test_the_document_lists_the_events_of_which_one_line_a_second_is_written() -> None:
    text = (DOCS / "observability.md").read_text(encoding="utf-8")
    sentence = text.partition("at most one a second of these events:")[2].partition(".")[0]
    assert set(re.findall(r"`([a-z_]+)`", sentence)) == ONCE_A_SECOND


def test_the_fields_of_log_events_occur_in_the_code() -> None:
    text = (DOCS / "observability.md").read_text(encoding="utf-8").partition("## Log events")[2]
    cells = re.findall(r"^\| `[a-z_]+` \|.*\| (.+) \|$", text, re.MULTILINE)
    listed = {name for cell in cells for name in re.findall(r"`([a-z_]+)`", cell)}
    names: set[object] = set()
    for path in (ROOT / "maze").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword):
                names.add(node.arg)
            elif isinstance(node, ast.Constant):
                names.add(node.value)
    assert listed
    assert sorted(listed - names) == []


def logged_fields(path: Path) -> Iterator[tuple[str, set[str]]]:
    """The constant names of the events that a module logs, each with its fields."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        called, name = ast.unparse(node.func), node.args[0]
        if re.fullmatch(r"log\.[a-z]+|write|self\._?fail", called) and isinstance(
            name, ast.Constant
        ):
            yield str(name.value), {keyword.arg for keyword in node.keywords if keyword.arg}


def test_the_document_lists_every_field_of_every_log_event() -> None:
    text = (DOCS / "observability.md").read_text(encoding="utf-8").partition("## Log events")[2]
    rows = re.findall(r"^\| `([a-z_]+)` \|.*\| (.*) \|$", text, re.MULTILINE)
    listed = {name: set(re.findall(r"`([a-z_]+)`", cell)) for name, cell in rows}
    everywhere = {"source", "client", "suppressed", "exc_info", "exit_status"}
    missing = {
        name: sorted(fields - listed[name] - everywhere)
        for path in (ROOT / "maze").rglob("*.py")
        for name, fields in logged_fields(path)
        if fields - listed[name] - everywhere
    }
    assert missing == {}
