"""The steps in which a chunk with many rejects is taken."""

import pytest

from maze.core import Decoder, Reason, Reject

LIMIT = 64
"""the smallest line limit there is"""


def test_a_feed_stops_with_the_rejects_it_may_have_and_the_next_goes_on() -> None:
    decoder = Decoder(LIMIT, max_rejects=2)
    runs, rejects = decoder.feed(b"1|B\nx\n2|B\ny\n3|B\nz\n4|B\n5|")
    assert [(run.first, run.end) for run in runs] == [(1, 3)]
    assert [reject.line for reject in rejects] == [b"x\n", b"y\n"]
    assert decoder.unread
    runs, rejects = decoder.feed(b"")
    assert [(run.first, run.end) for run in runs] == [(3, 5)]
    assert [reject.line for reject in rejects] == [b"z\n"]
    assert not decoder.unread
    runs, rejects = decoder.feed(b"B\n")
    assert [(run.first, run.end) for run in runs] == [(5, 6)]


def test_nothing_is_unread_where_the_last_line_was_the_last_reject() -> None:
    decoder = Decoder(LIMIT, max_rejects=2)
    decoder.feed(b"1|B\nx\ny\n5|")
    assert not decoder.unread
    assert decoder.finish() == [Reject(Reason.HALF_LINE, b"5|")]


def test_what_comes_while_lines_are_unread_follows_them() -> None:
    decoder = Decoder(LIMIT, max_rejects=1)
    lines = []
    for data in (b"x\ny\nz", b"z\n1|B\nw", b"", b""):
        runs, rejects = decoder.feed(data)
        lines += [reject.line for reject in rejects] + [run.line(run.first) for run in runs]
    assert lines == [b"x\n", b"y\n", b"zz\n", b"1|B\n"]
    assert not decoder.unread
    assert decoder.finish() == [Reject(Reason.HALF_LINE, b"w")]


@pytest.mark.parametrize("tail", [b"\n", b""], ids=["whole", "half"])
def test_a_line_that_is_too_long_is_found_in_its_turn(tail: bytes) -> None:
    decoder = Decoder(LIMIT, max_rejects=1)
    too_long = b"z" * (LIMIT + 1) + tail
    assert decoder.feed(b"x\ny\n" + too_long)[1] == [Reject(Reason.BAD_SEQUENCE, b"x\n")]
    assert (decoder.unread, decoder.overflowed) == (True, False)
    rejects = decoder.feed(b"")[1]
    while decoder.unread:
        rejects += decoder.feed(b"")[1]
    assert rejects == [
        Reject(Reason.BAD_SEQUENCE, b"y\n"),
        Reject(Reason.LINE_TOO_LONG, too_long),
    ]
    assert decoder.overflowed


def test_a_chunk_of_nothing_but_junk_is_taken_in_steps_of_a_thousand() -> None:
    decoder = Decoder()
    steps = [len(decoder.feed(b"\n" * 2_500)[1])]
    while decoder.unread:
        steps.append(len(decoder.feed(b"")[1]))
    assert steps == [1_000, 1_000, 500]
