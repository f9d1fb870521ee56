"""The report is one file that stands alone, and says what the run gave."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from position_server import PositionServer
from running import flags
from servers import Server
from test_server_process import command

from simulator import __version__
from simulator.cli import main
from simulator.play.timeline import Sample
from simulator.report import charts
from simulator.stream.workload import Workload
from simulator.verdict.results import Latency

SMALL = ("--total-events", 600, "--concurrency-level", 3, "--number-of-users", 5)


class Page(HTMLParser):
    """Collects what a page refers to, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.names: list[str] = []
        self.charts: list[dict[str, str | None]] = []
        self.rows: dict[str, str] = {}
        self._cell = self._row = ""
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._cell = tag
        if tag == "svg":
            self.charts.append(dict(attrs))
        assert tag not in ("script", "link", "img", "iframe")
        for name, value in attrs:
            if name == "id" and value:
                self.names.append(value)
            if name in ("src", "href", "xlink:href") and value:
                self.references.append(value)
            self.references += re.findall(r"url\(([^)]*)\)", value or "")

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())
        if self._cell == "th":
            self._row = data
            self.rows[data] = ""
        elif self._cell == "td":
            self.rows[self._row] += data

    def handle_endtag(self, tag: str) -> None:
        self._cell = ""


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
        main(flags(server, *SMALL, "--report", path, *more))
    text = path.read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in text
    assert not any(colour in text for colour in charts.VARIABLES)
    return Page(text)


def test_it_stands_alone(tmp_path: Path) -> None:
    page = made(tmp_path / "out.html", "--rate", 6000, "--latency")
    assert len(page.charts) == 3 * len(charts.WIDTHS)
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
        assert main(flags(server, *SMALL, "--report", path)) == 1
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


def test_parameters_have_units_and_what_had_no_part_is_left_out(tmp_path: Path) -> None:
    rows = made(tmp_path / "out.html", "--duplicates", 5, "--timeout", 4000).rows
    assert rows["events"] == "600"
    assert rows["timeout"] == "4,000 ms"
    assert rows["linger"] == "50 ms"
    assert rows["log interval"] == "1,000 ms"
    assert rows["duplicates"] == "5 %"
    assert rows["rate"] == "unlimited"
    assert not {"server options", "stall time", "stall timeout", "maximum time away"} & set(rows)
    assert all(rows.values())


def test_parameters_of_faults_have_units(tmp_path: Path) -> None:
    more = ("--stalling", 1, "--stall-time", 10, "--cuts", 5000, "--rate", 6000, "--latency")
    rows = made(tmp_path / "out.html", *more).rows
    assert rows["stall time"] == "10 ms"
    assert rows["stall timeout"] == "5,000 ms"
    assert rows["rate"] == "6,000 events/s"
    assert rows["maximum bytes per write"] == "5,000"
    assert rows["clients sampled"] == "10"


def test_resuming_clients_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "out.html"
    more = ("--resuming", 2, "--away-time", 10, "--report", path)
    with PositionServer(Workload(600, 3, 5).connected) as server:
        assert main(flags(server, *SMALL, *more)) == 0
    rows = Page(path.read_text(encoding="utf-8")).rows
    assert (rows["resuming clients"], rows["maximum time away"]) == ("2", "10 ms")
    assert int(rows["clients resumed"]) >= 4


def test_it_says_when_and_with_which_command(tmp_path: Path) -> None:
    page = made(tmp_path / "out.html", "--mix", "1,1,1,1,1")
    (when,) = (word for word in page.words if "UTC" in word)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC, Follower Maze .+", when)
    assert when.endswith(__version__)
    (typed,) = (word for word in page.words if word.startswith("python -m simulator "))
    assert "--total-events 600" in typed
    assert f"--report {tmp_path / 'out.html'}" in typed


def test_a_server_of_our_own_is_shown_with_its_ports(tmp_path: Path) -> None:
    report, out = tmp_path / "out.html", tmp_path / "out.json"
    arguments = [*map(str, SMALL), "--serve", "--linger", "0"]
    arguments += ["--server-options", "--stall-timeout 1500ms"]
    arguments += ["--report", str(report), "--json", str(out)]
    assert main(arguments, command("behaves", 3)) == 0
    text = report.read_text(encoding="utf-8")
    assert "<td class=long>--stall-timeout 1500ms</td>" in text
    rows = Page(text).rows
    given = json.loads(out.read_text(encoding="utf-8"))["parameters"]
    assert (rows["source port"], rows["client port"]) == (
        str(given["source_port"]),
        str(given["client_port"]),
    )
    assert not {given["source_port"], given["client_port"]} & {9090, 9099}
    assert rows["server"] == "started for the run"


def test_charts_are_named_and_drawn_for_a_phone_too() -> None:
    drawn = charts.deliveries([1, 2, 3])
    page = Page(drawn)
    assert [chart["role"] for chart in page.charts] == ["img", "img"]
    widths = [float((chart["viewbox"] or "").split()[2]) for chart in page.charts]
    assert widths == [648, pytest.approx(331.2)]
    assert page.words.count("Deliveries of each client") == 2
    assert 'class="narrow"' in drawn


def test_no_line_of_the_histogram_runs_through_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []

    def keep(figure: Figure, _title: str) -> str:
        figures.append(figure)
        return ""

    monkeypatch.setattr(charts, "_svg", keep)
    ranks = {50.0: 0.001, 90.0: 0.005, 99.0: 0.0075, 99.9: 0.009}
    charts.latency_histogram(Latency(9, 1, ranks, 0.011, [(0.001, 0.0012, 9)], 0.0))
    for figure in figures:
        figure.draw_without_rendering()
        (axes,) = figure.axes
        for name in axes.texts:
            box = name.get_window_extent()
            for line in axes.lines:
                (x, low), (_, high) = line.get_transform().transform(line.get_xydata())
                assert not (box.x0 < x < box.x1 and low < box.y1 and high > box.y0)


def test_the_page_says_that_buckets_are_logarithmic(tmp_path: Path) -> None:
    page = made(tmp_path / "out.html", "--rate", 6000, "--latency")
    assert any("logarithmic" in word for word in page.words)


def test_a_unit_stays_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "out.html"
    made(path, "--host", "localhost")
    text = path.read_text(encoding="utf-8")
    assert "td { text-align: right; white-space: nowrap; }" in text
    assert "<td>5,000 ms</td>" in text
    assert "<td class=long>" not in text
