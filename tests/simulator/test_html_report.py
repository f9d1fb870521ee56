"""The report is one file that stands alone, and says what the run gave."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from running import flags
from servers import Server

import simulator
from simulator import charts
from simulator.timeline import Sample
from simulator.workload import Workload

SMALL = ("--total-events", 600, "--concurrency-level", 3, "--number-of-users", 5)


class Page(HTMLParser):
    """Collects what a page refers to, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.names: list[str] = []
        self.charts = 0
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.charts += tag == "svg"
        assert tag not in ("script", "link", "img", "iframe")
        for name, value in attrs:
            if name == "id" and value:
                self.names.append(value)
            if name in ("src", "href", "xlink:href") and value:
                self.references.append(value)
            self.references += re.findall(r"url\(([^)]*)\)", value or "")

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())


def samples(*, server: bool) -> list[Sample]:
    return [
        Sample(
            number / 10,
            number * 60,
            number * 900,
            *((number / 20, 2**25) if server else (None, None)),
        )
        for number in range(11)
    ]


def made(path: Path, *more: object) -> Page:
    with Server(3, last=600) as server:
        simulator.main(flags(server, *SMALL, "--report", path, *more))
    text = path.read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in text
    assert not any(colour in text for colour in charts.VARIABLES)
    return Page(text)


def test_it_stands_alone(tmp_path: Path) -> None:
    page = made(tmp_path / "out.html", "--rate", 6000, "--latency")
    assert page.charts == 3
    assert page.references
    assert {reference[0] for reference in page.references} == {"#"}
    assert {reference[1:] for reference in page.references} <= set(page.names)
    for word in ("\\o/ ALL NOTIFICATIONS RECEIVED \\o/", "Throughput", "Latency", "p99.9", "600"):
        assert word in page.words


def test_a_failure_is_shown_with_its_reason(tmp_path: Path) -> None:
    user = Workload(600, 3, 5).connected[0]
    path = tmp_path / "out.html"
    server = Server(3, lambda to, _nth, line: b"<b>\n" if to == user else line, last=600)
    with server:
        assert simulator.main(flags(server, *SMALL, "--report", path)) == 1
    page = Page(path.read_text(encoding="utf-8"))
    assert "FAILED" in page.words
    assert any("received  '<b>" in word for word in page.words)


def test_the_servers_use_is_drawn_where_it_was_seen() -> None:
    assert charts.usage(samples(server=False)) is None
    drawn = charts.usage(samples(server=True))
    assert drawn is not None
    assert "memory, MiB" in drawn


@pytest.mark.parametrize("clients", [1, 100, 1_000])
def test_any_number_of_clients_is_drawn(clients: int) -> None:
    drawn = charts.deliveries(list(range(clients)))
    assert len(drawn) < 200_000
    assert "var(--first)" in drawn
