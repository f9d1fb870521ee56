"""The documents say what the code does: options and reasons, held against their declarations."""

import re
from dataclasses import fields
from pathlib import Path

from maze.core import Reason
from maze.listener.connection_limits import RefusalReason
from maze.pipeline.session import CloseReason
from maze.settings.options import Settings, flag_of, key_of

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
OPERATIONS = DOCS / "operations.md"

NO_LIMITS = {
    *("source_port", "client_port", "admin_port", "admin_token", "feed_token", "first_sequence"),
    *("position_interval", "edges"),
}
"""options that are a number, or as long as a number says, and no limit"""


def options_table() -> str:
    """The table of options, as the declaration has them."""
    rows = ["| option | default | values | meaning |", "|---|---|---|---|"]
    for spec in fields(Settings):
        meta = spec.metadata
        cells = (f"`{flag_of(spec.name)}`", f"`{meta['default']}`", meta["bounds"], meta["help"])
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def test_the_options_table_is_the_declaration() -> None:
    assert options_table() in (DOCS / "configuration.md").read_text(encoding="utf-8")


def test_every_reason_of_a_reject_is_named() -> None:
    text = (DOCS / "protocol.md").read_text(encoding="utf-8")
    assert [reason for reason in Reason if f"`{reason.value}`" not in text] == []


def test_every_limit_has_a_section_for_operators_with_its_default() -> None:
    sections = re.findall(r"^### `([a-z-]+)`, default (\S+)$", OPERATIONS.read_text("utf-8"), re.M)
    limits = [
        (key_of(spec.name), spec.metadata["default"])
        for spec in fields(Settings)
        if " to " in spec.metadata["bounds"] and spec.name not in NO_LIMITS
    ]
    assert sorted(sections) == sorted(limits)


def test_operators_are_told_every_reason_for_which_a_client_is_refused_or_lost() -> None:
    text = OPERATIONS.read_text(encoding="utf-8")
    lost = ("stalled", "holding", "slow", "stopped", "vanished", "behind")
    for reason in (*RefusalReason, *map(CloseReason, lost)):
        assert f"`reason={reason.value}`" in text


def test_the_example_of_one_test_alone_runs_some() -> None:
    text = (DOCS / "testing.md").read_text(encoding="utf-8")
    command = re.search(r"`\.venv/bin/pytest (tests/unit/\S+) -k (\w+)`", text)
    assert command
    file, word = command.groups()
    assert re.search(rf"^def test_\w*{word}", (ROOT / file).read_text(encoding="utf-8"), re.M)
