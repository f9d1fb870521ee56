"""What people read of a result."""

from simulator.play.server_process import Usage
from simulator.report.text_report import figure_rows
from simulator.verdict.results import Figures

USAGE = Usage(cpu_seconds=2.5, peak_bytes=2**25)


def test_the_servers_cpu_is_that_of_the_play_as_in_the_chart() -> None:
    rows = dict(figure_rows(Figures(1, 1, 1, 1.0, 1.0, USAGE, cpu_seconds=1.5)))
    assert rows["server CPU"] == "1.50 s"
    assert rows["server peak memory"] == "32.0 MiB"


def test_where_the_play_alone_was_not_seen_the_label_says_so() -> None:
    rows = dict(figure_rows(Figures(1, 1, 1, 1.0, 1.0, USAGE)))
    assert rows["server CPU, from start to stop"] == "2.50 s"
    assert "server CPU" not in rows
