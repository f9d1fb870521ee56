"""The messages of the feed: versions, tokens, errors, and frames of another size."""

import pytest

from maze.core import Position
from maze.feed.messages import (
    BATCH,
    ERROR,
    MAX_GREETING_BYTES,
    READ,
    Greeting,
    Read,
    State,
    decode_batch,
    decode_begin,
    decode_error,
    encode_batch,
    encode_error,
    encode_snapshot,
)
from maze.journal.journal import (
    AheadError,
    Batch,
    Bounds,
    JournalError,
    JournalFileError,
    NoSnapshotError,
    OtherEpochError,
    Snapshot,
    TrimmedError,
    UnavailableError,
)
from maze.journal.snapshot_frames import BEGIN, END
from maze.net.frames import FrameError

from .reading import content_of

# The greeting.


@pytest.mark.parametrize("token", ["", "--", "a-token-with-dashes-", "-----------------"])
def test_a_token_may_have_dashes(token: str) -> None:
    line = Greeting(token, "host-1:77").encode()
    assert line == b"maze-feed 1 %s host-1:77\n" % (token.encode() or b"-")
    assert Greeting.decode(line) == Greeting(token, "host-1:77")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"maze-feed 1\n",
        b"maze-feed 1 -\n",
        b"maze-feed 1 - host more\n",
        b"maze-feed 2 - host\n",
        b"maze-feed 10 - host\n",
        b"maze-feed - host\n",
        b"GET / HTTP/1.1\r\n",
        b"7\n",
        b"maze-feed 1 \xff host\n",
        b"maze-feed 1 - \xff\n",
    ],
)
def test_a_line_that_is_no_greeting_of_this_version(line: bytes) -> None:
    assert Greeting.decode(line) is None


@pytest.mark.parametrize("line", [b"maze-feed 1 - host", b"maze-feed 1 - " + b"n" * 2000])
def test_a_line_that_has_no_end_is_no_greeting(line: bytes) -> None:
    assert Greeting.decode(line[:MAX_GREETING_BYTES]) is None


# Requests and answers.


@pytest.mark.parametrize(
    "error",
    [
        TrimmedError("what follows 1-2 is no longer kept"),
        OtherEpochError("no batch ends at 1-2"),
        AheadError("1-2 is ahead of the journal"),
        NoSnapshotError(),
        UnavailableError("the disk ist kaputt, señor"),
        JournalError("another one"),
        JournalError(""),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_is_decoded_again(error: JournalError) -> None:
    decoded = decode_error(content_of(encode_error(error), ERROR))
    assert type(decoded) is type(error)
    assert str(decoded) == str(error)


def test_an_error_without_a_kind_of_its_own_keeps_its_text() -> None:
    decoded = decode_error(content_of(encode_error(JournalFileError("damaged")), ERROR))
    assert type(decoded) is JournalError
    assert str(decoded) == "damaged"


@pytest.mark.parametrize("content", [b"", b"?what", b"t\xff\xfe"])
def test_an_error_that_nobody_knows_is_an_error_still(content: bytes) -> None:
    assert isinstance(decode_error(content), JournalError)


@pytest.mark.parametrize("change", [-1, 1])
def test_a_frame_of_another_size_is_refused(change: int) -> None:
    for frame, kind, decode in (
        (Read(Position(1, 2), 3, 4, Position(5, 6)).encode(), READ, Read.decode),
        (State(Position(1, 2), Position(3, 4), True).encode(), END, State.decode),
        (next(encode_snapshot(Snapshot(Position(1, 2), Bounds(3, 4, 5), []))), BEGIN, decode_begin),
    ):
        content = content_of(frame, kind)
        wrong = content[:change] if change < 0 else content + b"x"
        with pytest.raises(FrameError):
            decode(wrong)


def test_a_batch_that_ends_within_its_head_or_marks_is_refused() -> None:
    """Without its end a body is only shorter; the frame's checksum covers that."""
    content = content_of(encode_batch(Batch(1, 2, 3, b"", Bounds(4, 5, 6), b"marks")), BATCH)
    for size in range(len(content)):
        with pytest.raises(FrameError):
            decode_batch(content[:size])
