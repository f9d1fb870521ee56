"""Faults from evidence that is made up, where a server would be too much."""

import pytest
from brute_force import streams

from simulator.play.client import Evidence
from simulator.stream.workload import Workload
from simulator.verdict.diagnosis import ALTERED, MISSING, OUT_OF_ORDER, UNEXPECTED, Fault, diagnose

WORKLOAD = Workload(events=500, clients=3, users=6)
USER = WORKLOAD.connected[0]
LINES = streams(WORKLOAD)[USER]
STREAM = b"".join(LINES)


def fault_in(start: int, kept: bytes, *, whole: bool = True) -> Fault:
    (fault,) = diagnose(WORKLOAD, [Evidence(USER, start, kept, whole, "fate")])
    assert (fault.user, fault.fate) == (USER, "fate")
    return fault


def without(nth: int) -> bytes:
    return b"".join(LINES[: nth - 1] + LINES[nth:])


@pytest.mark.parametrize("start", [0, 3, 64, 100, 101, 102, 103, 104, 105, 106, 107, 108])
def test_the_window_may_begin_anywhere_in_a_line(start: int) -> None:
    fault = fault_in(start, without(40)[start:])
    assert (fault.kind, fault.position) == (MISSING, 40)
    assert (fault.expected, fault.received) == (LINES[39], LINES[40])


def test_half_a_line_at_the_end_of_what_was_kept_is_no_fault() -> None:
    kept = without(40)[: len(b"".join(LINES[:60])) + 2]
    assert fault_in(0, kept, whole=False).position == 40


def test_half_a_line_that_is_another() -> None:
    kept = b"".join(LINES[:5]) + b"??"
    fault = fault_in(0, kept)
    assert (fault.kind, fault.position, fault.received) == (ALTERED, 6, b"??")


def test_the_terminator_counts() -> None:
    kept = STREAM.replace(LINES[9], LINES[9][:-1] + b"\r\n")
    fault = fault_in(0, kept)
    assert (fault.kind, fault.position) == (ALTERED, 10)
    assert fault.received == LINES[9][:-1] + b"\r\n"


def test_the_far_event_first() -> None:
    kept = b"".join([*LINES[:5], LINES[20], *LINES[5:20], *LINES[21:]])
    assert fault_in(0, kept).kind == OUT_OF_ORDER


def test_the_same_number_with_other_bytes_before_the_right_line() -> None:
    other = LINES[9].replace(b"|", b"!")
    assert fault_in(0, STREAM.replace(LINES[9], other + LINES[9])).kind == UNEXPECTED
    other = LINES[9].replace(b"\n", b"0\n")
    fault = fault_in(0, STREAM.replace(LINES[9], other + LINES[9]))
    assert fault.kind == ALTERED


def test_a_repeat_from_long_ago() -> None:
    fault = fault_in(len(STREAM), LINES[3])
    assert (fault.kind, fault.position) == (UNEXPECTED, len(LINES) + 1)
    assert (fault.expected, fault.received) == (None, LINES[3])
    assert fault.why == "the event received is a repetition"


def test_a_sequence_number_beyond_all_numbers() -> None:
    assert fault_in(0, b"9" * 5000 + b"|B\n" + STREAM).kind == UNEXPECTED


def test_a_fault_in_words() -> None:
    fault = fault_in(len(STREAM), b"x" * 500)
    assert str(fault).splitlines() == [
        f"user {USER}: unexpected at its event {len(LINES) + 1}: "
        "the line received is not in the stream",
        "    expected  nothing",
        "    received  '" + "x" * 119 + "... (500 bytes)",
        "    fate",
    ]
