"""The two ways through the pure twin; these names are private to it."""

import pytest

from maze.core import events


@pytest.mark.parametrize(
    "chunk",
    [
        b"",
        b"1|B\n",
        b"1|B\r\n",
        b"2|F|1|2\n1|U|3|4\r\n3|S|5\n4|P|6|7\r\n5|B\r\n",
        b"007|S|000\n0|P|0|0\n",
        b"%d|P|%d|%d\n" % ((10**18 - 1,) * 3),
    ],
)
def test_the_fast_way_and_the_slow_way_give_the_same_events(chunk: bytes) -> None:
    assert events._WELL_FORMED.fullmatch(chunk)
    assert events._split(chunk) == [events.decode_line(line) for line in events._lines(chunk)]


@pytest.mark.parametrize(
    "chunk",
    [
        b"\n",
        b"1|B",
        b"1|B\r",
        b"1|B\r\r\n",
        b"1|B\n\n",
        b"|B\n",
        b"1|X\n",
        b"1|S|\n",
        b"1|S|1|2\n",
        b"1|F|1\n",
        b"1|B|\n",
        b"1|F|1|2|3\n",
        b"1|F|-1|2\n",
        b"1|F|1 |2\n",
        b"1|F|1|2\x00\n",
        b"1\n",
        b"%d|B\n" % 10**18,
        b"1|B\r2|B\n",
    ],
)
def test_the_fast_way_is_not_taken_for_anything_odd(chunk: bytes) -> None:
    assert not events._WELL_FORMED.fullmatch(chunk)
    assert not events._WELL_FORMED.fullmatch(b"1|B\n" + chunk)


def test_a_long_chunk_is_matched_without_exhausting_the_stack() -> None:
    chunk = b"1|F|22|333\r\n" * 100_000
    assert events._WELL_FORMED.fullmatch(chunk)
    assert not events._WELL_FORMED.fullmatch(chunk + b"x\n")
