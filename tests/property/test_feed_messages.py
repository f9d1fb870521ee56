"""The messages of the feed: what was encoded is decoded again."""

from hypothesis import given
from hypothesis import strategies as st
from unit.feed.reading import content_of

from maze.core import Position
from maze.feed.feed_port import MAX_REQUEST_BYTES
from maze.feed.messages import (
    BATCH,
    READ,
    Greeting,
    Read,
    State,
    decode_batch,
    decode_begin,
    encode_batch,
    encode_snapshot,
)
from maze.journal.journal import Batch, Bounds, Snapshot
from maze.journal.snapshot_frames import BEGIN, CHUNK, END

NUMBERS = st.integers(0, 2**64 - 1)
POSITIONS = st.builds(Position, NUMBERS, NUMBERS)
BOUNDS = st.builds(Bounds, NUMBERS, NUMBERS, NUMBERS)
BATCHES = st.builds(
    Batch,
    NUMBERS,
    NUMBERS,
    NUMBERS,
    st.binary(max_size=30),
    st.none() | BOUNDS,
    st.binary(max_size=30),
)
TOKENS = st.from_regex(r"[!-~]{2,20}", fullmatch=True)


@given(
    token=st.just("") | TOKENS,
    name=st.from_regex(r"[a-z0-9:.-]{0,20}", fullmatch=True),
)
def test_a_greeting_is_decoded_again(token: str, name: str) -> None:
    greeting = Greeting(token, name)
    assert Greeting.decode(greeting.encode()) == greeting


@given(
    after=POSITIONS, size=st.integers(0, 2**32 - 1), wait=st.integers(0, 2**32 - 1), end=POSITIONS
)
def test_a_read_is_decoded_again(after: Position, size: int, wait: int, end: Position) -> None:
    request = Read(after, size, wait, end)
    frame = request.encode()
    content = content_of(frame, READ)
    assert Read.decode(content) == request
    assert len(content) <= MAX_REQUEST_BYTES


@given(position=POSITIONS, kept_from=POSITIONS, has_ended=st.booleans())
def test_a_state_is_decoded_again(position: Position, kept_from: Position, has_ended: bool) -> None:
    state = State(position, kept_from, has_ended)
    assert State.decode(content_of(state.encode(), END)) == state


@given(BATCHES)
def test_a_batch_is_decoded_again(batch: Batch) -> None:
    assert decode_batch(content_of(encode_batch(batch), BATCH)) == batch


@given(position=POSITIONS, bounds=BOUNDS, chunks=st.lists(st.binary(max_size=30), max_size=3))
def test_a_snapshot_is_decoded_again(
    position: Position, bounds: Bounds, chunks: list[bytes]
) -> None:
    snapshot = Snapshot(position, bounds, chunks)
    begin, *others = encode_snapshot(snapshot)
    decoded = decode_begin(content_of(begin, BEGIN))
    decoded.chunks.extend(content_of(frame, CHUNK) for frame in others)
    assert decoded == snapshot
