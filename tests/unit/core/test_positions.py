"""The lines in which positions are asked for and told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maze.core import MISSED, REACHED, IdLine, Position, next_epoch, parse_id_line, position_line

numbers = st.integers(0, 2**63 - 1)
LARGEST = b"9223372036854775807"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"2932", IdLine(2932)),
        (b"2932|", IdLine(2932, True)),
        (b"007|", IdLine(7, True)),
        (b"0|1-2", IdLine(0, True, Position(1, 2))),
        (b"2932|1764100000000-312", IdLine(2932, True, Position(1764100000000, 312))),
        (b"7|001-0", IdLine(7, True, Position(1, 0))),
        (
            b"|".join([LARGEST, LARGEST + b"-" + LARGEST]),
            IdLine(2**63 - 1, True, Position(2**63 - 1, 2**63 - 1)),
        ),
        # What follows the event with the largest number.
        (b"7|1-%d" % 2**63, IdLine(7, True, Position(1, 2**63))),
        (b"7|1-00%d" % 2**63, IdLine(7, True, Position(1, 2**63))),
    ],
)
def test_id_lines(line: bytes, expected: IdLine) -> None:
    assert parse_id_line(line) == expected


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"|", b"x", b"-1", b"+1|", b" 7", b"7 |", b"7|x", b"7|1", b"7|-", b"7|1-", b"7|-1"),
        *(
            b"7||",
            b"7|1-2|",
            b"7|1-2-3",
            b"7|1--2",
            b"7| 1-2",
            b"7|1-2\r",
            b"7|\xb2-1",
            b"7|1-2\x00",
        ),
        *(b"9223372036854775808|", b"7|9223372036854775808-1", b"7|1-9223372036854775809"),
    ],
)
def test_malformed_id_lines(line: bytes) -> None:
    assert parse_id_line(line) is None


@given(numbers, numbers, numbers)
def test_a_position_that_was_told_can_be_sent_back(user: int, epoch: int, number: int) -> None:
    told = position_line(REACHED, Position(epoch, number))
    assert told.startswith(b"=|")
    assert told.endswith(b"\n")
    line = b"%d|" % user + told.removeprefix(b"=|").removesuffix(b"\n")
    assert parse_id_line(line) == IdLine(user, True, Position(epoch, number))
    assert len(line) <= 64


def test_a_missed_position_begins_otherwise() -> None:
    assert position_line(MISSED, Position(5, 7)) == b"!|5-7\n"


@given(numbers, numbers)
def test_epochs_only_rise(last: int, milliseconds: int) -> None:
    epoch = next_epoch(last, milliseconds)
    assert epoch > last
    assert epoch >= milliseconds
    assert epoch in (last + 1, milliseconds)
