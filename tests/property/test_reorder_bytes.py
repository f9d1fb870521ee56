"""The reorder buffer's bound in bytes, under streams of any kind."""

from hypothesis import given
from hypothesis import strategies as st

from maze.core import Decoder, ReorderBuffer

from .streams import chunks, streams


@given(data=st.data(), byte_limit=st.integers(0, 6_000))
def test_no_more_bytes_wait_than_may_and_every_number_is_taken_or_given_up(
    data: st.DataObject, byte_limit: int
) -> None:
    decoder, buffer = Decoder(), ReorderBuffer(byte_limit=byte_limit)
    taken: list[int] = []
    given_up = 0

    def take(limit: int) -> None:
        for run in buffer.take_ready(limit):
            taken.extend(range(run.first, run.end))
        buffer._check()

    for chunk in data.draw(chunks(data.draw(streams()))):
        for run in decoder.feed(chunk)[0]:
            buffer.add(run)
            buffer._check()
        given_up += sum(reject.count for reject in buffer.enforce_limit())
        buffer._check()
        assert buffer.waiting_bytes <= byte_limit
        take(data.draw(st.integers(0, 20)))
    take(1_000_000)
    assert buffer.ready_bytes == 0
    assert taken == sorted(set(taken))
    assert len(taken) + given_up == buffer.next_sequence - 1
