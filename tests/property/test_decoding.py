"""Properties of the decoder alone, on bytes from anywhere."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from maze.core import Decoder, Reason, Reject, parse_number
from maze.core.events import Event

from .grammar import number, parse
from .streams import LINE_LIMIT, chunks, event_lines, streams

protocol_bytes = st.lists(
    st.sampled_from([bytes([byte]) for byte in b"0179|||FUBPSXx\n\n\n\r \x00\xff+-"]), max_size=200
).map(b"".join)
any_bytes = st.one_of(st.binary(max_size=200), protocol_bytes, streams())


class Decoded:
    """What a decoder makes of a stream in pieces."""

    def __init__(
        self, pieces: list[bytes], line_limit: int = 4096, max_rejects: int = 1_000
    ) -> None:
        self.decoder = Decoder(line_limit, max_rejects)
        self.max_rejects = max_rejects
        self.events: list[Event] = []
        self.voids: list[Event] = []
        self.rejects: list[Reject] = []
        for piece in pieces:
            self.feed(piece)
            while self.decoder.unread:
                self.feed(b"")
        self.rejects += self.decoder.finish()

    def feed(self, data: bytes) -> None:
        runs, rejects = self.decoder.feed(data)
        assert len(rejects) <= self.max_rejects + 1  # the half line at the end may be too long
        self.rejects += rejects
        for run in runs:
            assert (run.first, run.end) == (run.events[0][0], run.first + len(run))
            assert [event[0] for event in run.events] == list(range(run.first, run.end))
            (self.voids if run.void else self.events).extend(run.events)

    @property
    def reasons(self) -> list[Reason]:
        return [reject.reason for reject in self.rejects]


@given(stream=any_bytes, data=st.data())
def test_decoding_does_not_depend_on_where_the_stream_is_cut(
    stream: bytes, data: st.DataObject
) -> None:
    whole, parts = Decoded([stream]), Decoded(data.draw(chunks(stream)))
    assert Counter(parts.events) == Counter(whole.events)
    assert Counter(parts.voids) == Counter(whole.voids)
    assert parts.rejects == whole.rejects


@given(stream=any_bytes, data=st.data())
def test_nor_does_it_with_a_line_that_is_too_long(stream: bytes, data: st.DataObject) -> None:
    whole = Decoded([stream], LINE_LIMIT)
    parts = Decoded(data.draw(chunks(stream)), LINE_LIMIT)
    assert Counter(parts.events) == Counter(whole.events)
    assert parts.reasons == whole.reasons
    assert parts.decoder.overflowed == whole.decoder.overflowed


@given(stream=any_bytes, data=st.data(), max_rejects=st.integers(1, 5))
def test_nor_does_it_on_the_steps_in_which_rejects_come(
    stream: bytes, data: st.DataObject, max_rejects: int
) -> None:
    whole = Decoded([stream], LINE_LIMIT)
    parts = Decoded(data.draw(chunks(stream)), LINE_LIMIT, max_rejects)
    assert Counter(parts.events) == Counter(whole.events)
    assert Counter(parts.voids) == Counter(whole.voids)
    assert parts.reasons == whole.reasons
    assert parts.decoder.overflowed == whole.decoder.overflowed


@given(stream=any_bytes, data=st.data())
def test_every_line_is_an_event_or_exactly_one_reject(stream: bytes, data: st.DataObject) -> None:
    decoded = Decoded(data.draw(chunks(stream)))
    lines = stream.split(b"\n")
    expected = [line + b"\n" for line in lines[:-1]] + [line for line in lines[-1:] if line]
    events = [event[1] for event in decoded.events]
    rejected = [reject.line for reject in decoded.rejects]
    assert Counter(events + rejected) == Counter(expected)


@given(stream=any_bytes)
def test_every_line_is_what_the_grammar_says(stream: bytes) -> None:
    decoded = Decoded([stream[: stream.rfind(b"\n") + 1]])
    for sequence, line, kind, *users in decoded.events:
        reason, *meaning, numbers = parse(line)
        assert (reason, meaning) == ("", [sequence, kind])
        assert users == [*numbers, 0, 0][:2]
    for reject in decoded.rejects:
        reason, sequence, *_ = parse(reject.line)
        assert reject == Reject(
            Reason(reason), reject.line, None if reason == "bad_sequence" else sequence
        )
    used = [reject.sequence for reject in decoded.rejects if reject.sequence is not None]
    assert [event[0] for event in decoded.voids] == used


@given(st.data())
def test_a_well_formed_chunk_is_decoded_as_it_is_beside_something_odd(data: st.DataObject) -> None:
    sequences = data.draw(st.lists(st.integers(0, 30), max_size=40))
    chunk = b"".join(data.draw(event_lines(sequence, plain=True)) for sequence in sequences)
    decoder = Decoder()
    runs, rejects = decoder.feed(chunk)
    odd_runs, odd_rejects = decoder.feed(chunk + b"\n")
    assert [run.events for run in runs] == [run.events for run in odd_runs]
    assert rejects == []
    assert odd_rejects == [Reject(Reason.BAD_SEQUENCE, b"\n")]
    assert Counter(event[1] for run in runs for event in run.events) == Counter(
        chunk.splitlines(keepends=True)
    )


@given(st.lists(st.integers(0, 30), max_size=40))
def test_events_with_one_number_keep_the_order_in_which_they_came(sequences: list[int]) -> None:
    lines = [b"%d|S|%d\n" % (sequence, place) for place, sequence in enumerate(sequences)]
    events = Decoded([b"".join(lines)]).events
    for sequence in set(sequences):
        places = [event[3] for event in events if event[0] == sequence]
        assert places == sorted(places)


@given(
    st.one_of(
        st.binary(max_size=30),
        st.text("0123456789", max_size=40).map(str.encode),
        st.integers(2**63 - 3, 2**63 + 3).map(lambda value: b"%030d" % value),
        st.text(max_size=20).map(str.encode),
    )
)
def test_a_number_is_what_the_grammar_says(text: bytes) -> None:
    value = number(text)
    assert parse_number(text) == (None if value < 0 else value)
