"""The log: its two forms, what it does to bytes from outside, and that it never blocks."""

import contextlib
import io
import json
import os
import re
import threading
import time
from typing import Any

import pytest
import structlog

from maze.log.setup import Descriptor, LineWriter, configure, shown

PATIENCE = 30.0
"""seconds after which something that should have happened has not"""

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z"


class Gate(io.StringIO):
    """A stream nobody reads: a write waits until the gate is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.opened = threading.Event()

    def write(self, text: str) -> int:
        self.entered.set()
        assert self.opened.wait(PATIENCE)
        return super().write(text)


class Broken(io.StringIO):
    """A stream whose first writes fail."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.failures = list(errors)

    def write(self, text: str) -> int:
        if self.failures:
            raise self.failures.pop(0)
        return super().write(text)


def blocked(limit: int) -> tuple[Gate, LineWriter]:
    """A writer whose thread is stuck in its first line."""
    gate = Gate()
    writer = LineWriter(gate, limit)
    writer.msg("first")
    assert gate.entered.wait(PATIENCE)
    return gate, writer


def logged(form: str, level: str = "debug", event: str = "event", **values: Any) -> str:
    """One line that is logged at info."""
    stream = io.StringIO()
    writer = configure(level, form, stream)
    structlog.get_logger().info(event, **values)
    writer.close(PATIENCE)
    return stream.getvalue()


# The writer.


def test_lines_are_written_in_order_and_flushed_by_close() -> None:
    stream = io.StringIO()
    writer = LineWriter(stream)
    for number in range(1000):
        writer.msg(str(number))
    writer.close(PATIENCE)
    assert stream.getvalue().splitlines() == [str(number) for number in range(1000)]
    assert writer.dropped == 0


def test_a_stream_that_blocks_blocks_nobody_and_drops_are_counted() -> None:
    gate, writer = blocked(limit=3)
    for number in range(3):
        writer.msg(f"kept {number}")
    assert writer.dropped == 0
    for number in range(5):
        writer.msg(f"lost {number}")
    assert writer.dropped == 5
    gate.opened.set()
    writer.close(PATIENCE)
    assert "lost 0" not in gate.getvalue()


def test_what_was_dropped_is_reported_once_when_the_stream_is_read_again() -> None:
    gate, writer = blocked(limit=2)
    for text in ("second", "third", "lost", "lost"):
        writer.msg(text)
    gate.opened.set()
    writer.close(PATIENCE)
    assert gate.getvalue().splitlines() == [
        "first",
        "2 log lines were dropped",
        "second",
        "third",
    ]


def test_a_pipe_that_nobody_reads_blocks_nobody() -> None:
    read_end, write_end = os.pipe()
    stream = os.fdopen(write_end, "w")
    writer = LineWriter(stream, limit=10)
    for _ in range(10_000):  # 10 MB, far more than a pipe holds
        writer.msg("x" * 1000)
    assert writer.dropped > 0
    os.close(read_end)  # lets the thread go: its write fails
    writer.close(PATIENCE)
    with contextlib.suppress(OSError):
        stream.close()


def test_close_does_not_wait_for_a_stream_that_blocks() -> None:
    gate, writer = blocked(limit=1)
    writer.close(0.01)  # the end is queued, the thread is stuck
    writer.close(0.01)  # the queue is full
    assert gate.getvalue() == ""
    gate.opened.set()


@pytest.mark.parametrize(
    "error", [BrokenPipeError(), OSError(28, "disk full"), ValueError("closed")]
)
def test_a_line_that_cannot_be_written_is_dropped_and_the_next_one_is_tried(
    error: Exception,
) -> None:
    stream = Broken(error)
    writer = LineWriter(stream)
    writer.msg("lost")
    writer.msg("next")
    writer.close(PATIENCE)
    assert writer.dropped == 1
    assert stream.getvalue().splitlines()[-1] == "next"
    assert stream.getvalue().startswith("1 log lines were dropped")


def test_every_level_goes_the_same_way() -> None:
    stream = io.StringIO()
    writer = LineWriter(stream)
    for name in ("log", "debug", "info", "warning", "error", "critical", "exception"):
        getattr(writer, name)(name)
    writer.close(PATIENCE)
    assert len(stream.getvalue().splitlines()) == 7


# The forms.


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
def test_a_value_that_could_be_taken_for_something_else_is_quoted(value: object, text: str) -> None:
    line = logged("text", value=value)
    assert line.count("\n") == 1
    assert line.rstrip("\n").endswith(" " + text)


def test_a_line_of_json_has_the_same_in_it() -> None:
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


def test_in_text_a_stack_is_on_lines_of_its_own() -> None:
    text = logged("text", event="dump_stack", count=3, stack="  a.py:1 f\n  a.py:2 g")
    assert text.partition("\n")[2] == "  a.py:1 f\n  a.py:2 g\n"
    assert re.match(rf"{TIME} info    dump_stack count=3\n", text)


def test_without_a_stderr_the_log_goes_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    writer = configure("info", "text")
    structlog.get_logger().info("lost")
    writer.close(PATIENCE)
    assert writer.dropped == 0


def test_the_log_goes_to_stderr_unless_told(capfd: pytest.CaptureFixture[str]) -> None:
    writer = configure("info", "text")
    structlog.get_logger().info("here")
    writer.close(PATIENCE)
    assert " here\n" in capfd.readouterr().err


# The descriptor.


def read_all(number: int) -> bytes:
    with os.fdopen(number, "rb") as stream:
        return stream.read()


@pytest.mark.parametrize("blocking", [True, False])
def test_a_descriptor_takes_all_of_a_text_that_is_longer_than_a_pipe(blocking: bool) -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, blocking)
    text = "0123456789" * 100_000

    def write() -> None:
        Descriptor(write_end).write(text)
        os.close(write_end)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    assert read_all(read_end) == text.encode()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_descriptor_escapes_what_is_no_text() -> None:
    read_end, write_end = os.pipe()
    Descriptor(write_end).write("\udcff\u00e9\n")
    os.close(write_end)
    assert read_all(read_end) == b"\\udcff\xc3\xa9\n"


def test_a_descriptor_says_when_nobody_reads() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with pytest.raises(BrokenPipeError):
        Descriptor(write_end).write("lost")
    os.close(write_end)


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


def test_reports_of_drops_are_never_held_back() -> None:
    drops = 200  # more lines of one name than are written in a second

    class Slow(io.StringIO):
        """A stream that is so slow that during each write a line is dropped."""

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
    told = sum(line["count"] for line in lines if line["event"] == "log_lines_dropped")
    assert told == writer.dropped == 200


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


# Bytes from outside.


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"", ""),
        (b"1|B", "1|B"),
        (b"1|X\r\n", r"1|X\r\n"),
        (b"a b\t", r"a b\t"),
        (b"\x00\x1b[31m\x7f", r"\x00\x1b[31m\x7f"),
    ],
)
def test_bytes_from_outside_are_escaped(line: bytes, text: str) -> None:
    assert shown(line) == text


def test_no_byte_gets_through_that_is_not_printable_ascii() -> None:
    for byte in range(256):
        text = shown(bytes([byte]))
        assert text.isascii()
        assert text.isprintable()


def test_different_bytes_are_shown_differently() -> None:
    assert shown(b"\xff") == r"\xff"
    assert shown(b"\xff") != shown(rb"\xff")


def test_a_long_line_is_shortened_and_its_length_told() -> None:
    assert shown(b"x" * 80) == "x" * 80
    assert shown(b"x" * 81) == "x" * 80 + "... (81 bytes)"
    assert len(shown(b"\xff" * 1_000_000)) < 500


@pytest.mark.parametrize("form", ["text", "json"])
def test_bytes_from_outside_never_make_a_second_line(form: str) -> None:
    for line in (b"\n", b"\r\n2026 info forged", b"\xe2\x80\xa8", b"'\"= \\", bytes(range(256))):
        assert len(logged(form, line=shown(line)).splitlines()) == 1
