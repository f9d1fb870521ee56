"""The README says what the code does: options and reasons, held against their declarations."""

from dataclasses import fields
from pathlib import Path

from maze.core import Reason
from maze.settings import Settings, flag_of

README = Path(__file__).parents[2] / "README.md"


def options_table() -> str:
    """The table of options, as the declaration has them."""
    rows = ["| option | default | values | meaning |", "|---|---|---|---|"]
    for spec in fields(Settings):
        meta = spec.metadata
        cells = (f"`{flag_of(spec.name)}`", f"`{meta['default']}`", meta["bounds"], meta["help"])
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def test_the_options_table_is_the_declaration() -> None:
    assert options_table() in README.read_text(encoding="utf-8")


def test_every_reason_of_a_reject_is_named() -> None:
    text = README.read_text(encoding="utf-8")
    assert [reason for reason in Reason if f"`{reason.value}`" not in text] == []
