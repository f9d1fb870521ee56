"""What people read of a result."""

from simulator.parameters import parse
from simulator.play.server_process import Usage
from simulator.report.text_report import figure_rows, parameter_rows
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


def test_what_broke_and_came_back_is_shown_if_it_did() -> None:
    figures = Figures(
        1, 1, 1, 1.0, 1.0, USAGE, resumes=9, restarts=2, reconnects=3, resent_events=5
    )
    rows = dict(figure_rows(figures))
    names = ("server restarts", "clients resumed", "sources reconnected", "events sent again")
    assert [rows[name] for name in names] == ["2", "9", "3", "5"]
    assert not set(names) & set(dict(figure_rows(Figures(1, 1, 1, 1.0, 1.0, USAGE))))


def test_parameters_of_restarts_are_shown() -> None:
    flags = "--serve --resend --restart-server 2 --server-options"
    rows = dict(parameter_rows(parse([*flags.split(), "--journal x"], {})))
    assert rows["server restarts"] == "2"
    assert rows["sources send again"] == "yes"
    assert rows["maximum time away"] == "200 ms"
    plain = dict(parameter_rows(parse([], {})))
    assert plain["sources send again"] == "no"
    assert not {"server restarts", "maximum time away"} & set(plain)
