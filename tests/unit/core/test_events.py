"""The grammar, row by row, of whichever twin ``maze.core`` exports."""

import tracemalloc
from dataclasses import dataclass, field

import pytest

from maze.core import Decoder, Reason, Reject, Run, parse_number
from maze.core.events import Event

LIMIT = 64
"""the smallest line limit there is"""

VALID_NUMBERS = [
    pytest.param(b"0", 0, id="zero"),
    pytest.param(b"7", 7, id="seven"),
    pytest.param(b"007", 7, id="007-is-7"),
    pytest.param(b"000", 0, id="000-is-0"),
    pytest.param(b"9" * 17, 10**17 - 1, id="17-digits"),
    pytest.param(b"9" * 18, 10**18 - 1, id="18-digits"),
    pytest.param(b"1" + b"0" * 18, 10**18, id="19-digits"),
    pytest.param(b"0" * 18, 0, id="18-zeros"),
    pytest.param(b"0" * 19, 0, id="19-zeros"),
    pytest.param(b"0" * 20 + b"7", 7, id="20-zeros-and-7"),
    pytest.param(b"0" * 3000 + b"7", 7, id="3000-zeros-and-7"),
    pytest.param(b"%d" % (2**63 - 1), 2**63 - 1, id="largest"),
    pytest.param(b"00%d" % (2**63 - 1), 2**63 - 1, id="largest-behind-zeros"),
]

BAD_NUMBERS = [
    pytest.param(b"", id="empty"),
    pytest.param(b"-1", id="minus"),
    pytest.param(b"+1", id="plus"),
    pytest.param(b"-0", id="minus-zero"),
    pytest.param(b" 1", id="blank-before"),
    pytest.param(b"1 ", id="blank-after"),
    pytest.param(b" ", id="blank-alone"),
    pytest.param(b"\t1", id="tab"),
    pytest.param(b"\r1", id="cr-before"),
    pytest.param(b"1\r2", id="cr-inside"),
    pytest.param(b"1\x0b", id="vertical-tab"),
    pytest.param(b"1\x0c", id="form-feed"),
    pytest.param(b"1\x85", id="latin-1-next-line"),
    pytest.param(b"1\x00", id="nul-after"),
    pytest.param(b"\x00", id="nul-alone"),
    pytest.param("\u0661".encode(), id="arabic-indic-digit"),
    pytest.param("\uff11".encode(), id="full-width-digit"),
    pytest.param(b"\xb2", id="latin-1-superscript"),
    pytest.param(b"1_0", id="underscore"),
    pytest.param(b"0x1", id="hexadecimal"),
    pytest.param(b"1.0", id="point"),
    pytest.param(b"1e3", id="exponent"),
    pytest.param(b"one", id="word"),
    pytest.param(b"%d" % 2**63, id="2-to-the-63"),
    pytest.param(b"000%d" % 2**63, id="2-to-the-63-behind-zeros"),
    pytest.param(b"9" * 19, id="19-nines"),
    pytest.param(b"1" + b"0" * 19, id="20-digits"),
    pytest.param(b"9" * 2000, id="2000-digits"),
]


@dataclass
class Decoded:
    """What a decoder made of some chunks."""

    decoder: Decoder
    runs: list[Run] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)

    @property
    def events(self) -> list[Event]:
        return [event for run in self.runs if not run.void for event in run.events]

    @property
    def voids(self) -> list[int]:
        return [run.first for run in self.runs if run.void]

    @property
    def reasons(self) -> list[Reason]:
        return [reject.reason for reject in self.rejects]


def decode(*chunks: bytes, line_limit: int = 4096) -> Decoded:
    decoded = Decoded(Decoder(line_limit))
    for chunk in chunks:
        runs, rejects = decoded.decoder.feed(chunk)
        decoded.runs += runs
        decoded.rejects += rejects
    return decoded


def padded(sequence: int, size: int) -> bytes:
    """A broadcast of that many bytes without terminator, by leading zeros."""
    return b"%0*d|B" % (size - 2, sequence)


# Wire format.


@pytest.mark.parametrize("terminator", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize(
    ("content", "sequence", "kind", "sender", "target"),
    [
        (b"666|F|60|50", 666, b"F", 60, 50),
        (b"1|U|12|9", 1, b"U", 12, 9),
        (b"542532|B", 542532, b"B", 0, 0),
        (b"43|P|32|56", 43, b"P", 32, 56),
        (b"634|S|32", 634, b"S", 32, 0),
    ],
)
def test_each_payload_of_the_table_with_either_terminator(
    content: bytes, terminator: bytes, sequence: int, kind: bytes, sender: int, target: int
) -> None:
    decoded = decode(content + terminator)
    assert decoded.events == [(sequence, content + terminator, kind, sender, target)]
    assert decoded.rejects == []


def test_a_line_keeps_its_own_bytes_and_terminator() -> None:
    lines = [b"1|B\r\n", b"002|S|0007\n", b"3|P|00|1\r\n"]
    assert [event[1] for event in decode(b"".join(lines)).events] == lines


def test_a_chunk_of_either_terminator_and_something_odd_keeps_them_too() -> None:
    lines = [b"1|B\r\n", b"2|S|7\n", b"3|P|0|1\r\n"]
    decoded = decode(b"".join(lines) + b"\n")
    assert [event[1] for event in decoded.events] == lines
    assert decoded.reasons == [Reason.BAD_SEQUENCE]


def test_one_cr_belongs_to_the_terminator_and_a_second_does_not() -> None:
    decoded = decode(b"1|B\r\r\n2|S|3\r\r\n")
    assert decoded.rejects == [
        Reject(Reason.BAD_TYPE, b"1|B\r\r\n", 1),
        Reject(Reason.BAD_USER, b"2|S|3\r\r\n", 2),
    ]


def test_a_cr_alone_ends_no_line() -> None:
    decoded = decode(b"1|B\r2|B\n3|B\n")
    assert decoded.rejects == [Reject(Reason.BAD_TYPE, b"1|B\r2|B\n", 1)]
    assert decoded.events == [(3, b"3|B\n", b"B", 0, 0)]


@pytest.mark.parametrize("separator", [b"\x0b", b"\x0c", b"\x1c", b"\x1e", b"\x85"])
def test_what_ends_a_line_elsewhere_ends_none_here(separator: bytes) -> None:
    line = b"1|B" + separator + b"2|B\n"
    assert decode(line).rejects == [Reject(Reason.BAD_TYPE, line, 1)]


# Fields.


@pytest.mark.parametrize(("text", "value"), VALID_NUMBERS)
def test_a_number_is_unsigned_decimal_ascii_below_2_to_the_63(text: bytes, value: int) -> None:
    assert parse_number(text) == value


@pytest.mark.parametrize("text", BAD_NUMBERS)
def test_anything_else_is_no_number(text: bytes) -> None:
    assert parse_number(text) is None


@pytest.mark.parametrize(("text", "value"), VALID_NUMBERS)
def test_a_valid_number_in_every_place_where_a_number_stands(text: bytes, value: int) -> None:
    assert decode(text + b"|B\n").events == [(value, text + b"|B\n", b"B", 0, 0)]
    for line, sender, target in [
        (b"5|S|" + text + b"\n", value, 0),
        (b"5|F|" + text + b"|3\n", value, 3),
        (b"5|P|3|" + text + b"\r\n", 3, value),
    ]:
        assert decode(line).events == [(5, line, line[2:3], sender, target)]


@pytest.mark.parametrize("text", BAD_NUMBERS)
def test_a_malformed_line_without_a_valid_sequence_uses_no_number(text: bytes) -> None:
    for rest in (b"|B\n", b"|F|1|2\r\n", b"|X\n", b"\n", b"|\n"):
        decoded = decode(text + rest)
        assert decoded.rejects == [Reject(Reason.BAD_SEQUENCE, text + rest)]
        assert decoded.runs == []


@pytest.mark.parametrize("text", BAD_NUMBERS)
@pytest.mark.parametrize(
    "form", [b"5|S|%b\n", b"5|F|%b|3\n", b"5|U|3|%b\r\n", b"5|P|3|%b\n", b"5|P|%b|%b\n"]
)
def test_a_malformed_line_with_a_valid_sequence_uses_the_number(form: bytes, text: bytes) -> None:
    line = form.replace(b"%b", text)
    decoded = decode(line)
    assert decoded.rejects == [Reject(Reason.BAD_USER, line, 5)]
    assert decoded.events == []
    assert decoded.voids == [5]


@pytest.mark.parametrize(
    "kind", [b"X", b"f", b"", b"FF", b" F", b"F ", b"B ", b"\x00", b"1", "\uff26".encode()]
)
@pytest.mark.parametrize("rest", [b"", b"|1", b"|1|2", b"|1|2|3", b"|"])
def test_another_type_letter_is_malformed_and_uses_the_number(kind: bytes, rest: bytes) -> None:
    line = b"5|" + kind + rest + b"\n"
    decoded = decode(line)
    assert decoded.rejects == [Reject(Reason.BAD_TYPE, line, 5)]
    assert (decoded.events, decoded.voids) == ([], [5])


@pytest.mark.parametrize(
    "content",
    [
        b"5",
        b"5|F",
        b"5|F|1",
        b"5|F|1|2|3",
        b"5|F|1|2|",
        b"5|U",
        b"5|U|1",
        b"5|U|1|2|3",
        b"5|B|",
        b"5|B|1",
        b"5|P",
        b"5|P|1",
        b"5|P|1|2|3",
        b"5|S",
        b"5|S|1|",
        b"5|S|1|2",
    ],
)
@pytest.mark.parametrize("terminator", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_a_missing_or_extra_field_is_malformed_and_uses_the_number(
    content: bytes, terminator: bytes
) -> None:
    decoded = decode(content + terminator)
    assert decoded.rejects == [Reject(Reason.BAD_FIELDS, content + terminator, 5)]
    assert (decoded.events, decoded.voids) == ([], [5])


@pytest.mark.parametrize("line", [b"\n", b"\r\n", b"\r\r\n", b" \n", b"|\n", b"||||\n", b"\x00\n"])
def test_a_line_with_nothing_in_it_is_malformed(line: bytes) -> None:
    decoded = decode(line)
    assert decoded.rejects == [Reject(Reason.BAD_SEQUENCE, line)]
    assert decoded.runs == []


def test_the_valid_events_around_a_malformed_line_stay() -> None:
    decoded = decode(b"1|B\njunk\n2|X\n3|B\r\n\n4|S|1\n")
    assert [event[0] for event in decoded.events] == [1, 3, 4]
    assert decoded.voids == [2]
    assert decoded.reasons == [Reason.BAD_SEQUENCE, Reason.BAD_TYPE, Reason.BAD_SEQUENCE]


# Runs.


def test_events_with_contiguous_numbers_come_as_one_run() -> None:
    runs = decode(b"3|B\n1|B\n2|B\n").runs
    assert [(run.first, run.end, len(run)) for run in runs] == [(1, 4, 3)]


def test_a_missing_number_cuts_the_run_and_runs_come_sorted() -> None:
    runs = decode(b"9|B\n2|B\n7|B\n1|B\n8|B\n").runs
    assert [(run.first, run.end) for run in runs] == [(1, 3), (7, 10)]


def test_events_with_one_number_come_in_runs_of_their_own_the_first_first() -> None:
    runs = decode(b"2|S|1\n1|B\n2|S|2\n3|B\n2|S|3\n").runs
    assert [[event[1] for event in run.events] for run in runs] == [
        [b"1|B\n", b"2|S|1\n"],
        [b"2|S|2\n"],
        [b"2|S|3\n", b"3|B\n"],
    ]


def test_no_bytes_no_runs() -> None:
    assert decode(b"").runs == []
    assert decode(b"1|B").runs == []


def test_a_run_gives_the_line_of_a_number() -> None:
    (run,) = decode(b"4|B\n5|S|1\r\n6|B\n").runs
    assert [run.line(number) for number in (4, 5, 6)] == [b"4|B\n", b"5|S|1\r\n", b"6|B\n"]


@pytest.mark.parametrize(
    ("first", "end", "numbers"),
    [(4, 5, [4]), (5, 6, [5]), (5, 7, [5, 6]), (4, 6, [4, 5]), (6, 7, [6])],
)
def test_a_run_clips_to_a_part_of_itself(first: int, end: int, numbers: list[int]) -> None:
    (run,) = decode(b"4|B\n5|B\n6|B\n").runs
    part = run.clip(first, end)
    assert [event[0] for event in part.events] == numbers
    assert (part.first, part.end, len(part), part.void) == (first, end, len(numbers), False)


@pytest.mark.parametrize(("first", "end"), [(4, 7), (1, 7), (4, 9), (0, 100)])
def test_a_run_clipped_to_all_of_itself_is_itself(first: int, end: int) -> None:
    (run,) = decode(b"4|B\n5|B\n6|B\n").runs
    assert run.clip(first, end) is run


@pytest.mark.parametrize("other", [b"%d|B\n", b"7%d|B\n"])
def test_a_run_that_waits_keeps_no_more_than_its_own_bytes(other: bytes) -> None:
    """One event that waits for long must not keep the megabyte that came with it."""
    chunk = b"".join(other % number for number in range(1, 100_000)) + b"%d|B\n" % 10**9
    size = len(chunk)
    tracemalloc.start()
    try:
        runs, rejects = Decoder().feed(chunk)
        (kept,) = [run for run in runs if run.first == 10**9]
        del runs, rejects, chunk
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept.line(10**9) == b"%d|B\n" % 10**9
    assert held < size / 3  # some of it is the interpreter's, for objects to come


def test_a_void_run_is_one_number_and_keeps_the_line_that_was_rejected() -> None:
    (run,) = decode(b"4|X\n").runs
    assert (run.first, run.end, len(run), run.void, run.line(4)) == (4, 5, 1, True, b"4|X\n")


# Chunks and the half line.


@pytest.mark.parametrize(
    "stream",
    [
        b"2|B\n1|F|12|34\r\n3|S|12\n",
        b"2|B\r\n\r\n1|F|1|x\njunk\n3|X\r\n4|B\n",
        b"1|B\n\n\n2|B\r\r\n3",
    ],
)
def test_decoding_does_not_depend_on_where_the_stream_is_cut(stream: bytes) -> None:
    whole = decode(stream)
    for cut in range(len(stream) + 1):
        parts = decode(stream[:cut], stream[cut:])
        assert sorted(parts.events) == sorted(whole.events)
        assert sorted(parts.voids) == sorted(whole.voids)
        assert parts.rejects == whole.rejects
        assert parts.decoder.finish() == decode(stream).decoder.finish()


def test_a_stream_read_byte_by_byte_gives_the_same_events() -> None:
    stream = b"2|B\n1|F|12|34\r\n7|X\n3|S|12\n"
    parts = decode(*(stream[index : index + 1] for index in range(len(stream))))
    assert sorted(parts.events) == sorted(decode(stream).events)
    assert parts.rejects == [Reject(Reason.BAD_TYPE, b"7|X\n", 7)]


@pytest.mark.parametrize("half", [b"2", b"2|B", b"2|B\r", b"junk", b"\r", b"|"])
def test_a_half_line_at_the_end_is_dropped_and_counted(half: bytes) -> None:
    decoder = Decoder()
    decoder.feed(b"1|B\n" + half)
    assert decoder.finish() == [Reject(Reason.HALF_LINE, half)]
    assert decoder.finish() == []


def test_a_source_that_ends_behind_a_whole_line_leaves_no_half_line() -> None:
    assert decode(b"1|B\n").decoder.finish() == []
    assert decode().decoder.finish() == []


# The line limit.


@pytest.mark.parametrize("terminator", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_a_line_of_exactly_the_limit_is_accepted_in_any_pieces(terminator: bytes) -> None:
    content = padded(5, LIMIT)
    assert len(content) == LIMIT
    line = content + terminator
    for cut in range(len(line) + 1):
        decoded = decode(line[:cut], line[cut:], line_limit=LIMIT)
        assert decoded.events == [(5, line, b"B", 0, 0)]
        assert (decoded.rejects, decoded.decoder.overflowed) == ([], False)


@pytest.mark.parametrize("terminator", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_a_line_longer_than_the_limit_closes_the_source_in_any_pieces(terminator: bytes) -> None:
    line = padded(5, LIMIT + 1) + terminator
    for cut in range(len(line) + 1):
        decoded = decode(line[:cut], line[cut:], line_limit=LIMIT)
        assert decoded.runs == []
        assert decoded.reasons == [Reason.LINE_TOO_LONG]
        assert decoded.decoder.overflowed


def test_the_line_that_is_too_long_is_in_the_reject() -> None:
    line = padded(5, LIMIT + 1) + b"\r\n"
    assert decode(line, line_limit=LIMIT).rejects == [Reject(Reason.LINE_TOO_LONG, line)]
    assert decode(line[:-2], line_limit=LIMIT).rejects == [Reject(Reason.LINE_TOO_LONG, line[:-2])]


def test_an_incomplete_line_is_too_long_before_its_end_has_come() -> None:
    decoder = Decoder(LIMIT)
    assert decoder.feed(b"1" * LIMIT) == ([], [])
    assert not decoder.overflowed
    runs, (reject,) = decoder.feed(b"1")
    assert (runs, reject.reason) == ([], Reason.LINE_TOO_LONG)
    assert decoder.overflowed


def test_a_cr_behind_a_full_line_may_still_become_its_terminator() -> None:
    line = padded(5, LIMIT)
    assert decode(line + b"\r", line_limit=LIMIT).rejects == []
    assert decode(line + b"\r", b"\n", line_limit=LIMIT).events == [(5, line + b"\r\n", b"B", 0, 0)]
    assert decode(line + b"\r", b"\r", line_limit=LIMIT).reasons == [Reason.LINE_TOO_LONG]
    assert decode(line + b"\r\r\n", line_limit=LIMIT).reasons == [Reason.LINE_TOO_LONG]


@pytest.mark.parametrize("size", [LIMIT, LIMIT + 1])
def test_a_malformed_line_is_too_long_from_the_same_length_on(size: int) -> None:
    reasons = decode(b"x" * size + b"\n", line_limit=LIMIT).reasons
    assert reasons == [Reason.BAD_SEQUENCE if size == LIMIT else Reason.LINE_TOO_LONG]


def test_the_longest_line_without_needless_zeros_is_within_the_smallest_limit() -> None:
    line = b"%d|P|%d|%d\r\n" % (2**63 - 1, 2**63 - 1, 2**63 - 1)
    decoded = decode(line, line_limit=LIMIT)
    assert decoded.events == [(2**63 - 1, line, b"P", 2**63 - 1, 2**63 - 1)]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""], ids=["LF", "CRLF", "half"])
@pytest.mark.parametrize("before", [b"1|B\n2|S|7\n", b"1|B\n2|S|7\njunk\n"])
def test_valid_lines_before_one_that_is_too_long_are_still_delivered(
    before: bytes, end: bytes
) -> None:
    decoded = decode(before + b"x" * (LIMIT + 1) + end, line_limit=LIMIT)
    assert [event[0] for event in decoded.events] == [1, 2]
    assert decoded.reasons[-1] is Reason.LINE_TOO_LONG
    assert decoded.reasons.count(Reason.LINE_TOO_LONG) == 1


@pytest.mark.parametrize("tail", [b"", b"y" * 100, b"4|"])
def test_whatever_follows_a_line_that_is_too_long_is_ignored(tail: bytes) -> None:
    too_long = b"x" * (LIMIT + 1)
    decoded = decode(b"1|B\n" + too_long + b"\n2|B\njunk\n" + tail, b"3|B\n", line_limit=LIMIT)
    assert [event[0] for event in decoded.events] == [1]
    assert decoded.rejects == [Reject(Reason.LINE_TOO_LONG, too_long + b"\n")]
    assert decoded.decoder.feed(b"\n5|B\n") == ([], [])
    assert decoded.decoder.finish() == []


def test_the_limit_is_4_kib_unless_told() -> None:
    assert decode(padded(1, 4096) + b"\n").events
    assert decode(padded(1, 4097) + b"\n").reasons == [Reason.LINE_TOO_LONG]
