"""The reorder buffer under streams of any kind: its bound in bytes, and many runs at a time."""

from hypothesis import given
from hypothesis import strategies as st

from maze.core import Decoder, Reject, ReorderBuffer, Run

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


@given(data=st.data())
def test_runs_together_are_as_one_by_one(data: st.DataObject) -> None:
    decoders = Decoder(), Decoder()  # a chunk counts the runs of it that one buffer holds
    together, one_by_one = ReorderBuffer(), ReorderBuffer()
    for chunk in data.draw(chunks(data.draw(streams()))):
        rejects: list[Reject] = []
        for run in decoders[0].feed(chunk)[0]:
            rejects += one_by_one.add(run)
        assert together.add(*decoders[1].feed(chunk)[0]) == rejects
        limit = data.draw(st.integers(0, 20))
        taken = [together.take_ready(limit), one_by_one.take_ready(limit)]
        assert _lines(taken[0]) == _lines(taken[1])
        for buffer, runs in zip((together, one_by_one), taken, strict=True):
            buffer._check()
            buffer.put_back(runs[len(runs) // 2 :])
            buffer._check()


def _lines(runs: list[Run]) -> list[tuple[int, bytes | None]]:
    return [
        (number, None if run.void else run.line(number))
        for run in runs
        for number in range(run.first, run.end)
    ]
