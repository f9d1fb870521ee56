"""The closed list of reasons."""

from dataclasses import FrozenInstanceError

import pytest

from maze.core import Reason, Reject


def test_the_list_of_reasons_is_closed() -> None:
    assert {reason.value for reason in Reason} == {
        "bad_sequence",
        "bad_type",
        "bad_fields",
        "bad_user",
        "line_too_long",
        "half_line",
        "duplicate",
        "conflict",
        "stale",
        "skipped",
        "graph_full",
    }


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_is_its_own_word(reason: Reason) -> None:
    assert str(reason) == reason.value == reason.name.lower()
    assert Reason(reason.value) is reason


def test_a_reject_is_one_line_without_number_unless_told() -> None:
    reject = Reject(Reason.BAD_SEQUENCE)
    assert (reject.line, reject.sequence, reject.count) == (b"", None, 1)


def test_a_reject_is_a_value() -> None:
    reject = Reject(Reason.STALE, b"1|B\n", 1)
    assert reject == Reject(Reason.STALE, b"1|B\n", 1, 1)
    assert len({reject, Reject(Reason.STALE, b"1|B\n", 1)}) == 1
    with pytest.raises(FrozenInstanceError):
        reject.count = 2  # type: ignore[misc]
