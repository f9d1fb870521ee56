"""Event lines: split anywhere, many in one segment, malformed in every way."""

from __future__ import annotations

import random
from collections.abc import Callable

import gevent
import pytest
from structlog.testing import LogCapture

from .peers import broadcasts, joined, until
from .running import Maze


def test_event_is_found_wherever_it_is_split_into_segments(maze: Maze) -> None:
    (client,) = maze.clients(1)
    source = maze.source()
    line = b"%d|P|32|1\r\n"
    for cut in range(len(line % 100)):
        first, second = 100 + 2 * cut, 101 + 2 * cut
        if not cut:
            source.send(joined(broadcasts(1, 100)))
            client.expect(joined(broadcasts(1, 100)))
        # The first line has arrived, so the half line after it has been read.
        source.send(line % first + (line % second)[:cut])
        client.expect(line % first)
        source.send((line % second)[cut:])
        client.expect(line % second)


def test_event_is_found_in_segments_of_one_byte(maze: Maze) -> None:
    one, two = maze.clients(1, 2)
    source = maze.source()
    for byte in b"1|F|2|1\r\n2|S|1\n3|P|2|1\n4|B\r\n":
        source.send(bytes([byte]))
        gevent.sleep(0)
    one.expect(b"1|F|2|1\r\n3|P|2|1\n4|B\r\n")
    two.expect(b"2|S|1\n4|B\r\n")


def test_many_events_in_one_segment(maze: Maze) -> None:
    (client,) = maze.clients(1)
    stream = joined(broadcasts(1, 2_001))
    maze.source().send(stream)
    client.expect(stream)


def test_carriage_return_and_line_feed_in_two_segments(maze: Maze) -> None:
    (client,) = maze.clients(1)
    source = maze.source()
    source.send(b"1|B\r\n2|B\r")
    client.expect(b"1|B\r\n")
    source.send(b"\n3|B\n")
    client.expect(b"2|B\r\n3|B\n")


WITHOUT_NUMBER = {
    "empty": (b"", "bad_sequence"),
    "blank": (b" ", "bad_sequence"),
    "words": (b"hello", "bad_sequence"),
    "no_sequence": (b"|B", "bad_sequence"),
    "plus": (b"+2|B", "bad_sequence"),
    "minus": (b"-2|B", "bad_sequence"),
    "blank_before": (b" 2|B", "bad_sequence"),
    "blank_behind": (b"2 |B", "bad_sequence"),
    "underscore": (b"2_0|B", "bad_sequence"),
    "hexadecimal": (b"0x2|B", "bad_sequence"),
    "beyond_the_limit": (b"9223372036854775808|B", "bad_sequence"),
    "very_long_number": (b"2" * 1000 + b"|B", "bad_sequence"),
    "nul": (b"\x002|B", "bad_sequence"),
    "other_digits": ("\u0662|B".encode(), "bad_sequence"),
    "superscript": ("\xb2|B".encode("latin-1"), "bad_sequence"),
    "binary": (bytes(set(range(256)) - {10}), "bad_sequence"),
}

WITH_NUMBER = {
    "no_type": (b"2", "bad_fields"),
    "empty_type": (b"2|", "bad_type"),
    "unknown_type": (b"2|X|1|2", "bad_type"),
    "lower_case": (b"2|b", "bad_type"),
    "long_type": (b"2|BB", "bad_type"),
    "nul_in_type": (b"2|B\x00", "bad_type"),
    "blank_behind_type": (b"2|B ", "bad_type"),
    "second_carriage_return": (b"2|B\r\r", "bad_type"),
    "broadcast_with_user": (b"2|B|1", "bad_fields"),
    "broadcast_with_empty_field": (b"2|B|", "bad_fields"),
    "status_without_user": (b"2|S", "bad_fields"),
    "status_with_two_users": (b"2|S|1|2", "bad_fields"),
    "follow_of_nobody": (b"2|F|1", "bad_fields"),
    "follow_of_three": (b"2|F|1|2|3", "bad_fields"),
    "private_to_nobody": (b"2|P|1", "bad_fields"),
    "unfollow_of_nobody": (b"2|U|1", "bad_fields"),
    "empty_user": (b"2|P||1", "bad_user"),
    "negative_user": (b"2|P|9|-1", "bad_user"),
    "blank_user": (b"2|P|9| 1", "bad_user"),
    "user_beyond_the_limit": (b"2|P|9|9223372036854775808", "bad_user"),
    "user_of_other_digits": ("2|P|9|\u0661".encode(), "bad_user"),
    "user_with_nul": (b"2|P|9|1\x00", "bad_user"),
}


@pytest.mark.parametrize(("content", "reason"), WITHOUT_NUMBER.values(), ids=WITHOUT_NUMBER.keys())
@pytest.mark.parametrize("terminator", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_malformed_line_is_skipped_and_counted(
    maze: Maze, content: bytes, reason: str, terminator: bytes
) -> None:
    (client,) = maze.clients(1)
    line = content + terminator
    maze.source().send(b"1|B\n" + line + b"3|B\n" + line + b"2|P|9|1\n" + line + b"4|B\n")
    client.expect(b"1|B\n2|P|9|1\n3|B\n4|B\n")
    until(lambda: maze.rejects() == {reason: 3}, f"3 {reason}, not {maze.rejects()}")


@pytest.mark.parametrize(("content", "reason"), WITH_NUMBER.values(), ids=WITH_NUMBER.keys())
def test_malformed_line_with_a_valid_number_uses_the_number_up(
    maze: Maze, content: bytes, reason: str
) -> None:
    (client,) = maze.clients(1)
    source = maze.source()
    source.send(b"3|B\n" + content + b"\n1|B\n")
    client.expect(b"1|B\n3|B\n")
    assert maze.rejects() == {reason: 1}
    source.send(b"2|B\n4|B\n")
    client.expect_nothing_before(b"4|B\n")
    assert maze.rejects() == {reason: 1, "stale": 1}


def test_malformed_line_is_replaced_by_a_valid_event_while_it_waits(maze: Maze) -> None:
    (client,) = maze.clients(1)
    source = maze.source()
    source.send(b"2|X\n3|B\n")
    until(lambda: maze.rejects() == {"bad_type": 1}, "the malformed line to be counted")
    source.send(b"2|P|9|1\n")
    source.send(b"1|B\n")
    client.expect(b"1|B\n2|P|9|1\n3|B\n")
    assert maze.rejects() == {"bad_type": 1}


def test_malformed_line_does_not_take_the_number_of_a_valid_event(maze: Maze) -> None:
    (client,) = maze.clients(1)
    source = maze.source()
    source.send(b"2|P|9|1\n")
    source.send(b"2|X\n1|B\n3|B\n")
    client.expect(b"1|B\n2|P|9|1\n3|B\n")
    assert maze.rejects() == {"bad_type": 1}


def test_malformed_follow_does_not_change_the_graph(maze: Maze) -> None:
    (client,) = maze.clients(1)
    maze.source().send(b"1|F|1|2|\n2|F|1| 2\n3|S|2\n4|B\n")
    client.expect_nothing_before(b"4|B\n")


def test_malformed_line_disconnects_nobody_and_keeps_the_graph(maze: Maze) -> None:
    one, two = maze.clients(1, 2)
    source = maze.source()
    source.send(b"1|F|1|2\n")
    two.expect(b"1|F|1|2\n")
    noise = random.Random(7)
    junk = [noise.randbytes(50).replace(b"\n", b"") + b"|\n" for _ in range(500)]
    source.send(joined(b"x" + line for line in junk))
    source.send(b"2|S|2\n")
    one.expect(b"2|S|2\n")
    assert maze.rejects() == {"bad_sequence": 500}


def test_malformed_lines_are_logged_escaped_shortened_and_rarely(
    maze: Maze, log: LogCapture
) -> None:
    (client,) = maze.clients(1)
    junk = b"\x1b[31m\x00\xff'\"" + b"A" * 1000 + b"\n"
    maze.source().send(junk * 2_000 + b"1|B\n")
    client.expect(b"1|B\n")
    lines = [entry for entry in log.entries if entry["event"] == "line_rejected"]
    assert 1 <= len(lines) <= 10
    shown = lines[0]["line"]
    assert shown.isascii()
    assert shown.isprintable()
    assert len(shown) < 400
    assert maze.rejects() == {"bad_sequence": 2_000}


def test_line_of_the_maximum_length_is_routed(maze: Maze) -> None:
    (client,) = maze.clients(1)
    line = b"1|B".rjust(4096, b"0")
    maze.source().send(line + b"\r\n2|B\n")
    client.expect(line + b"\r\n2|B\n")


@pytest.mark.parametrize(
    "tail", [b"\n3|B\n", b"\r\n3|B\n", b""], ids=["with LF", "with CRLF", "without end"]
)
def test_line_beyond_the_limit_closes_its_source_but_no_client(
    maze: Maze, log: LogCapture, tail: bytes
) -> None:
    (client,) = maze.clients(1)
    source = maze.source()
    source.send(b"1|B\n" + b"2|B".rjust(4097, b"0") + tail)
    client.expect(b"1|B\n")
    source.read_until_closed()
    maze.await_sources(0)
    assert maze.rejects() == {"line_too_long": 1}
    (line,) = (entry for entry in log.entries if entry["event"] == "source_closed")
    assert line["reason"] == "line_too_long"
    assert dict(maze.server.source.closed) == {"line_too_long": 1}
    maze.source().send(b"1|P|9|1\n")
    client.expect_nothing_before(b"1|P|9|1\n")


def test_line_without_an_end_takes_no_more_memory_than_the_limit(maze: Maze) -> None:
    source = maze.source()
    sending = source.send_in_background(b"1" * 5_000_000)
    source.read_until_closed()
    sending.join(5)
    assert sending.dead


def test_line_limit_is_an_option(start: Callable[..., Maze]) -> None:
    maze = start(line_limit=64)
    (client,) = maze.clients(1)
    source = maze.source()
    source.send(b"1|B".rjust(64, b"0") + b"\n")
    client.expect(b"1|B".rjust(64, b"0") + b"\n")
    source.send(b"2|B".rjust(65, b"0") + b"\n")
    source.read_until_closed()
    assert maze.rejects() == {"line_too_long": 1}


def test_half_line_is_dropped_and_counted_when_the_source_leaves(maze: Maze) -> None:
    (client,) = maze.clients(1)
    source = maze.source()
    source.send(b"1|B\n2|B")
    client.expect(b"1|B\n")
    source.close()
    maze.await_sources(0)
    assert maze.rejects() == {"half_line": 1}
    maze.source().send(b"1|P|9|1\n")
    client.expect_nothing_before(b"1|P|9|1\n")
