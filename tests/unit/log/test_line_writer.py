"""The log's writer never blocks its callers, and counts dropped lines."""

import contextlib
import io
import os
import threading

import pytest

from maze.log.line_writer import LineWriter, StderrStream

from .logging_helpers import PATIENCE, Gate


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
    """Return a writer whose thread waits in its first write, and the gate that it waits for."""
    gate = Gate()
    writer = LineWriter(gate, limit)
    writer.msg("first")
    assert gate.entered.wait(PATIENCE)
    return gate, writer


def test_lines_are_written_in_order_and_flushed_by_close() -> None:
    stream = io.StringIO()
    writer = LineWriter(stream)
    for number in range(1000):
        writer.msg(str(number))
    writer.close(PATIENCE)
    assert stream.getvalue().splitlines() == [str(number) for number in range(1000)]
    assert writer.dropped == 0


def test_a_blocked_stream_blocks_no_caller_and_drops_are_counted() -> None:
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


def test_drops_are_reported_once_when_the_stream_is_read_again() -> None:
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


def test_a_full_pipe_blocks_no_caller() -> None:
    read_end, write_end = os.pipe()
    stream = os.fdopen(write_end, "w")
    writer = LineWriter(stream, limit=10)
    for _ in range(10_000):  # 10 MB, far more than a pipe holds
        writer.msg("x" * 1000)
    assert writer.dropped > 0
    os.close(read_end)  # the thread's write fails, so the thread goes on
    writer.close(PATIENCE)
    with contextlib.suppress(OSError):
        stream.close()


def test_close_does_not_wait_for_a_blocked_stream() -> None:
    gate, writer = blocked(limit=1)
    writer.close(0.01)  # the end is queued, the thread is blocked
    writer.close(0.01)  # the queue is full
    assert gate.getvalue() == ""
    gate.opened.set()


@pytest.mark.parametrize(
    "error", [BrokenPipeError(), OSError(28, "disk full"), ValueError("closed")]
)
def test_a_line_that_cannot_be_written_is_dropped_and_the_next_is_written(
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


def test_every_level_is_written() -> None:
    stream = io.StringIO()
    writer = LineWriter(stream)
    for name in ("log", "debug", "info", "warning", "error", "critical", "exception"):
        getattr(writer, name)(name)
    writer.close(PATIENCE)
    assert len(stream.getvalue().splitlines()) == 7


def read_all(number: int) -> bytes:
    with os.fdopen(number, "rb") as stream:
        return stream.read()


@pytest.mark.parametrize("blocking", [True, False])
def test_a_text_longer_than_a_pipe_is_written_whole(blocking: bool) -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, blocking)
    text = "0123456789" * 100_000

    def write() -> None:
        StderrStream(write_end).write(text)
        os.close(write_end)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    assert read_all(read_end) == text.encode()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_unencodable_characters_are_escaped() -> None:
    read_end, write_end = os.pipe()
    StderrStream(write_end).write("\udcff\u00e9\n")
    os.close(write_end)
    assert read_all(read_end) == b"\\udcff\xc3\xa9\n"


def test_a_pipe_without_a_reader_is_an_error() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with pytest.raises(BrokenPipeError):
        StderrStream(write_end).write("lost")
    os.close(write_end)
