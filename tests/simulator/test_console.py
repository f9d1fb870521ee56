"""What is shown: lines where there is no terminal, bars where there is one, little if asked."""

import logging
from io import StringIO

import pytest
from rich.console import Console

from simulator.report.console import ConsoleReport


def console(*, terminal: bool) -> tuple[Console, StringIO]:
    output = StringIO()
    return Console(file=output, force_terminal=terminal, width=100), output


def test_plain_lines_at_each_interval() -> None:
    plain, output = console(terminal=False)
    with ConsoleReport("info", 10.0, plain) as report:
        stage = report.stage("sending", 2_000_000, "events")
        report.progress(1e9, [(stage, 1_000)])
        report.progress(1e9 + 2, [(stage, 5_000)])
        assert not report.due(1e9 + 11.9)
        assert report.due(1e9 + 12)
    first, second = output.getvalue().splitlines()
    assert "sending 1,000 of 2,000,000, " in first
    assert second.endswith("sending 5,000 of 2,000,000, 2,000 events/s")


def test_a_stage_that_is_done_leaves_its_speed_to_the_table() -> None:
    plain, output = console(terminal=False)
    with ConsoleReport("info", 10.0, plain) as report:
        stage = report.stage("sending", 30, "events")
        for second, done in enumerate((10, 20, 30)):
            report.progress(1e9 + second, [(stage, done)])
    *_, second_line, third_line = output.getvalue().splitlines()
    assert second_line.endswith("sending 20 of 30, 10 events/s")
    assert third_line.endswith("sending 30 of 30")


def test_nothing_is_due_at_the_start() -> None:
    plain, _ = console(terminal=False)
    with ConsoleReport("info", 1e6, plain) as report:
        stage = report.stage("sending", 1, "events")
        assert stage.name == "sending"
        assert not report.due(0.0)


def test_bars_on_a_terminal() -> None:
    terminal, output = console(terminal=True)
    with ConsoleReport("info", 1e6, terminal) as report:
        stage = report.stage("sending", 100, "events")
        report.progress(1e9, [(stage, 0)])
        assert report.due(1e9 + 0.25)
        report.progress(1e9 + 1, [(stage, 50)])
        logging.getLogger("simulator").info("between the bars")
    assert "50%" in output.getvalue()
    assert "50 events/s" in output.getvalue()
    assert "between the bars" in output.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_only_the_verdict_if_asked(terminal: bool) -> None:
    out, output = console(terminal=terminal)
    with ConsoleReport("error", 0.0, out) as report:
        report.progress(1e9, [(report.stage("sending", 100, "events"), 50)])
        logging.getLogger("simulator").warning("a warning")
        report.table([("name", "value")])
        report.print_line("the [verdict]")
    assert output.getvalue() == "the [verdict]\n"


def test_the_table() -> None:
    plain, output = console(terminal=False)
    with ConsoleReport("info", 1.0, plain) as report:
        report.table([("events/s", "1,000"), ("MB/s", "9.5")])
    assert [line.split() for line in output.getvalue().split("\n") if line.strip()] == [
        ["events/s", "1,000"],
        ["MB/s", "9.5"],
    ]


def test_no_handler_is_left_behind() -> None:
    plain, _ = console(terminal=False)
    before = list(logging.getLogger("simulator").handlers)
    with ConsoleReport("info", 1.0, plain):
        pass
    assert logging.getLogger("simulator").handlers == before
