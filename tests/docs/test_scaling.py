"""docs/scaling.md: its model computes as it says, and its trial fits HAProxy's configuration."""

from __future__ import annotations

import math
import re
from pathlib import Path

from maze.settings.option_types import duration, size
from maze.settings.options import Settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
ROUTE, DELIVER, SEND = 0.13e-6, 13e-9, 4e-6
"""Costs of an event, of a delivery in a large batch, and of a send; seconds."""
STORED, CARRIED = 16.4, 17
"""Bytes of an event in Redis, and on the network."""
BUSY, LONGEST = 0.7, 0.1


def part(name: str) -> str:
    return TEXT.partition(f"<!-- {name}: begin")[2].partition(f"<!-- {name}: end -->")[0]


def test_the_costs_are_those_of_the_table() -> None:
    for symbol, value in (("r", "0.13 µs"), ("d", "13 ns"), ("s", "4 µs"), ("b", "17 B")):
        assert re.search(rf"^\| {symbol} \| .* \| {value} \| ", TEXT, re.MULTILINE)
    assert re.search(rf"^\| m \| .* \| {STORED} B \| ", TEXT, re.MULTILINE)


def test_every_row_of_the_model_is_what_its_formulas_give() -> None:
    rows = re.findall(r"^\| (\d.*) \|$", part("model"), re.MULTILINE)
    assert len(rows) >= 5
    for row in rows:
        clients, events, deliveries, *stated = (
            float(cell.replace(",", "")) for cell in row.split(" | ")
        )
        sends = min(events * deliveries, clients / LONGEST)
        by_cpu = (events * deliveries * DELIVER + sends * SEND) / (BUSY - events * ROUTE)
        by_connections = math.ceil(clients / Settings().max_clients)
        edges = max(math.ceil(by_cpu), by_connections)
        kept = min(events * 3_600 * STORED, 2**30)
        kept = max(kept, 2 * min(Settings().snapshot_events, events * 3_600) * STORED)
        out = edges * events * CARRIED * 8
        found = [round(by_cpu, 1), by_connections, edges, round(kept / 1e6), round(out / 1e6, 1)]
        assert found == stated, row


def test_the_model_is_for_the_default_options() -> None:
    defaults = Settings()
    assert defaults.journal_retain == duration("0s", "8760h")("1h")
    assert defaults.snapshot_interval == duration("1s", "8760h")("1h")
    assert defaults.journal_retain_bytes == size("1MiB", "1024GiB")("1GiB")


def test_the_servers_of_the_trial_are_those_behind_haproxy() -> None:
    configured = (ROOT / "deploy" / "haproxy.cfg").read_text(encoding="utf-8")
    behind = re.findall(r"^ +server \S+ 127\.0\.0\.1:(\d+) port (\d+)$", configured, re.MULTILINE)
    started = re.findall(r"--(?:source|client)-port (\d+) --admin-port (\d+)", part("try"))
    assert sorted(started) == sorted(behind)
    asked = TEXT.partition("for port in ")[2].partition(";")[0].split()
    assert sorted(asked) == sorted(admin for _, admin in behind)
