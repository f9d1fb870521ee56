"""The log's text and JSON forms, its level, and its reports of dropped lines."""

import io
import json
import re
import threading
import time

import pytest
import structlog

from maze.log.configure import configure

from .logging_helpers import PATIENCE, TIME, Gate, logged


def test_a_line_of_text_is_time_level_event_and_values() -> None:
    line = logged("text", event="source_connected", source="127.0.0.1:5", count=3)
    assert re.fullmatch(rf"{TIME} info    source_connected source=127\.0\.0\.1:5 count=3\n", line)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "value=plain"),
        (7, "value=7"),
        (None, "value=None"),
        ("", "value=''"),
        ("two words", "value='two words'"),
        ("a=b", "value='a=b'"),
        ("it's", 'value="it\'s"'),
        ('"', "value='\"'"),
        ("line\nbreak", r"value='line\nbreak'"),
        ("line\u2028break", r"value='line\u2028break'"),
        ("\x1b[31m", r"value='\x1b[31m'"),
        ("\x00", r"value='\x00'"),
        ("a\\n b", "value='a\\n b'"),
        (["a", "b"], "value=\"['a', 'b']\""),
    ],
)
def test_an_ambiguous_value_is_quoted(value: object, text: str) -> None:
    line = logged("text", value=value)
    assert line.count("\n") == 1
    assert line.rstrip("\n").endswith(" " + text)


def test_a_line_of_json_has_the_same_values() -> None:
    line = logged("json", event="source_connected", source="127.0.0.1:5", count=3)
    values = json.loads(line)
    assert re.fullmatch(TIME, values.pop("timestamp"))
    assert values == {
        "level": "info",
        "event": "source_connected",
        "source": "127.0.0.1:5",
        "count": 3,
    }
    assert line.count("\n") == 1


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    ("level", "events"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_lines_below_the_level_are_not_logged(form: str, level: str, events: list[str]) -> None:
    stream = io.StringIO()
    writer = configure(level, form, stream)
    for name in ("debug", "info", "warning", "error"):
        getattr(structlog.get_logger(), name)(f"{name}_event")
    writer.close(PATIENCE)
    assert re.findall(r"(\w+)_event", stream.getvalue()) == events


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_exception_is_logged_with_its_traceback(form: str) -> None:
    stream = io.StringIO()
    writer = configure("info", form, stream)
    try:
        raise RuntimeError("the story")
    except RuntimeError:
        structlog.get_logger().exception("router_failed", count=1)
    writer.close(PATIENCE)
    text = stream.getvalue()
    traceback = json.loads(text)["exception"] if form == "json" else text.partition("\n")[2]
    assert traceback.startswith("Traceback (most recent call last):\n")
    assert traceback.rstrip().endswith("RuntimeError: the story")
    if form == "text":
        assert re.match(rf"{TIME} error   router_failed count=1\n", text)


def test_in_text_a_stack_is_on_its_own_lines() -> None:
    text = logged("text", event="dump_stack", count=3, stack="  a.py:1 f\n  a.py:2 g")
    assert text.partition("\n")[2] == "  a.py:1 f\n  a.py:2 g\n"
    assert re.match(rf"{TIME} info    dump_stack count=3\n", text)


def test_without_stderr_the_log_is_discarded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    writer = configure("info", "text")
    structlog.get_logger().info("lost")
    writer.close(PATIENCE)
    assert writer.dropped == 0


def test_the_log_goes_to_stderr_by_default(capfd: pytest.CaptureFixture[str]) -> None:
    writer = configure("info", "text")
    structlog.get_logger().info("here")
    writer.close(PATIENCE)
    assert " here\n" in capfd.readouterr().err


def test_in_json_the_report_of_drops_is_json_too() -> None:
    gate = Gate()
    writer = configure("info", "json", gate, limit=1)
    log = structlog.get_logger()
    log.info("first")
    assert gate.entered.wait(PATIENCE)
    log.info("second")
    log.info("lost")
    gate.opened.set()
    writer.close(PATIENCE)
    lines = [json.loads(line) for line in gate.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["first", "log_lines_dropped", "second"]
    assert (lines[1]["level"], lines[1]["count"]) == ("warning", 1)
    assert re.fullmatch(TIME, lines[1]["timestamp"])


def test_reports_of_drops_are_not_rate_limited() -> None:
    drops = 200  # more than the lines of one kind that are written per second

    class Slow(io.StringIO):
        """A stream so slow that a line is dropped during each write."""

        def write(self, text: str) -> int:
            nonlocal drops
            if drops:
                drops -= 1
                writer.msg('{"event": "queued"}')
                writer.msg('{"event": "dropped"}')
            return super().write(text)

    stream = Slow()
    writer = configure("error", "json", stream, limit=1)
    structlog.get_logger().error("first")
    deadline = time.monotonic() + PATIENCE
    while drops and writer._thread.is_alive() and time.monotonic() < deadline:
        threading.Event().wait(0.001)
    writer.close(PATIENCE)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    reported = sum(line["count"] for line in lines if line["event"] == "log_lines_dropped")
    assert reported == writer.dropped == 200


def test_in_text_the_report_of_drops_is_a_line_like_any_other() -> None:
    gate = Gate()
    writer = configure("error", "text", gate, limit=1)
    log = structlog.get_logger()
    log.error("first")
    assert gate.entered.wait(PATIENCE)
    log.error("second")
    log.error("lost")
    gate.opened.set()
    writer.close(PATIENCE)
    report = gate.getvalue().splitlines()[1]
    assert re.fullmatch(rf"{TIME} warning log_lines_dropped count=1", report)
