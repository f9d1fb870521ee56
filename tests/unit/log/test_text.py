"""Received bytes in a log line are escaped and shortened."""

import pytest

from maze.log.text import escaped

from .logging_helpers import logged


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
def test_received_bytes_are_escaped(line: bytes, text: str) -> None:
    assert escaped(line) == text


def test_escaped_bytes_are_printable_ascii() -> None:
    for byte in range(256):
        text = escaped(bytes([byte]))
        assert text.isascii()
        assert text.isprintable()


def test_different_bytes_are_shown_differently() -> None:
    assert escaped(b"\xff") == r"\xff"
    assert escaped(b"\xff") != escaped(rb"\xff")


def test_a_long_line_is_shortened_and_its_length_shown() -> None:
    assert escaped(b"x" * 80) == "x" * 80
    assert escaped(b"x" * 81) == "x" * 80 + "... (81 bytes)"
    assert len(escaped(b"\xff" * 1_000_000)) < 500


@pytest.mark.parametrize("form", ["text", "json"])
def test_received_bytes_never_make_a_second_line(form: str) -> None:
    for line in (b"\n", b"\r\n2026 info forged", b"\xe2\x80\xa8", b"'\"= \\", bytes(range(256))):
        assert len(logged(form, line=escaped(line)).splitlines()) == 1
