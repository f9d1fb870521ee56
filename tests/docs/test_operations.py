"""docs/operations.md says what the code does."""

import re
from pathlib import Path

from maze.journal.redis_errors import COMMANDS
from maze.listener.handshake_rejects import HandshakeReason

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
OBSERVABILITY = OPERATIONS.with_name("observability.md")


def test_every_reason_for_which_nobody_is_let_in_is_explained() -> None:
    text = OPERATIONS.read_text(encoding="utf-8")
    table = text.partition("<!-- reasons: begin")[2].partition("<!-- reasons: end")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(HandshakeReason)


def test_operators_are_told_of_every_failure_of_the_journal() -> None:
    rows = r"^\| `((?:journal|snapshot|resume)_\w+)` \| (?:warning|error|critical) \|"
    events = re.findall(rows, OBSERVABILITY.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(events) >= 8
    text = OPERATIONS.read_text(encoding="utf-8")
    assert [event for event in events if f"`{event}`" not in text] == []


def test_the_permissions_for_a_journal_in_redis_are_those_that_it_needs() -> None:
    text = OPERATIONS.read_text(encoding="utf-8")
    rule = text.partition("<!-- permissions: begin")[2].partition("<!-- permissions: end")[0]
    assert re.findall(r"\+(\w+)", rule) == COMMANDS.split()


def test_every_alert_is_explained() -> None:
    text = OPERATIONS.read_text(encoding="utf-8")
    table = text.partition("<!-- alerts: begin")[2].partition("<!-- alerts: end")[0]
    rules = (OPERATIONS.parents[1] / "deploy" / "alerts.yml").read_text(encoding="utf-8")
    alerts = re.findall(r"- alert: (\w+)", rules)
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == alerts
