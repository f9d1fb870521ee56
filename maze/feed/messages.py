"""What an edge and its ingest say to each other.

The edge begins with a line: ``maze-feed 1 TOKEN NAME``; the token is ``-`` if there is none. Then
it sends requests, one at a time, and the ingest answers each with frames, the last of which is
``END``, with the state of the journal, or ``ERROR``. ``net.frames`` has the form of a frame.
Bytes in, bytes out.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from maze.core import Position
from maze.journal.journal import (
    AheadError,
    Batch,
    Bounds,
    JournalError,
    NoSnapshotError,
    OtherEpochError,
    Snapshot,
    TrimmedError,
    UnavailableError,
)
from maze.journal.snapshot_frames import BEGIN, CHUNK, END, begin_content, parse_begin
from maze.net.frames import FrameError, encode_frame

GREETING = b"maze-feed 1"
"""First words of an edge; the number is the version of these messages."""

MAX_GREETING_BYTES = 1024
"""Maximum length of an edge's first line."""

STATE, READ, SNAPSHOT = b"q", b"r", b"s"
"""Kinds of requests: for the state of the journal, for the batches after a position, and for the
newest snapshot."""

BATCH, ERROR, ALIVE = b"b", b"x", b"w"
"""Kinds of frames in answers, besides BEGIN and CHUNK of a snapshot: a batch, an error, and a sign
that the ingest is still reading its disk."""

MAX_FRAME_BYTES = 2**31 - 1
"""Size of the largest frame: a batch has up to 16,384 lines of up to 1 MiB each."""

_REQUEST = struct.Struct("<QQIIQQ")
_BATCH = struct.Struct("<QQQ?QQQI")
_END = struct.Struct("<QQQQ?")
_ERRORS: dict[bytes, type[JournalError]] = {
    b"t": TrimmedError,
    b"o": OtherEpochError,
    b"a": AheadError,
    b"n": NoSnapshotError,
    b"u": UnavailableError,
}
_NO_BOUNDS = Bounds(0, 0, 0)


class Greeting(NamedTuple):
    """An edge's first line."""

    token: str
    name: str

    def encode(self) -> bytes:
        """Return the line."""
        return b"%s %s %s\n" % (GREETING, self.token.encode() or b"-", self.name.encode())

    @classmethod
    def decode(cls, line: bytes) -> "Greeting | None":
        """Return the greeting; None if the line is not whole, or none of this version."""
        if not line.endswith(b"\n"):
            return None
        start, *rest = line[:-1].rsplit(b" ", 2)
        try:
            token, name = (word.decode() for word in rest)
        except ValueError:
            return None
        return cls("" if token == "-" else token, name) if start == GREETING else None


class Read(NamedTuple):
    """A request for the batches after a position."""

    after: Position
    max_bytes: int
    wait_milliseconds: int
    """How long the ingest may wait for a batch if there is none."""
    routed: Position
    """What the edge has routed so far."""

    def encode(self) -> bytes:
        """Return the request as a frame."""
        content = _REQUEST.pack(*self.after, self.max_bytes, self.wait_milliseconds, *self.routed)
        return encode_frame(READ, content)

    @classmethod
    def decode(cls, content: bytes) -> "Read":
        """Return the request that a frame holds. Raise FrameError."""
        epoch, number, max_bytes, wait, *routed = _unpack(_REQUEST, content)
        return cls(Position(epoch, number), max_bytes, wait, Position(*routed))


class State(NamedTuple):
    """The state of the journal, at the end of an answer."""

    position: Position
    kept_from: Position
    """Where the kept batches begin; only the answer to STATE has the present value."""
    has_ended: bool
    """Whether the ingest stops, and nothing will follow the position."""

    def encode(self) -> bytes:
        """Return the last frame of an answer."""
        return encode_frame(END, _END.pack(*self.position, *self.kept_from, self.has_ended))

    @classmethod
    def decode(cls, content: bytes) -> "State":
        """Return the state that a frame holds. Raise FrameError."""
        *numbers, has_ended = _unpack(_END, content)
        return cls(Position(*numbers[:2]), Position(*numbers[2:]), bool(has_ended))


def encode_batch(batch: Batch) -> bytes:
    """Return a batch as a frame."""
    head = _BATCH.pack(
        *batch[:3],
        batch.bounds is not None,
        *(batch.bounds or _NO_BOUNDS),
        len(batch.unchanged),
    )
    return encode_frame(BATCH, b"".join((head, batch.unchanged, batch.body)))


def decode_batch(content: bytes) -> Batch:
    """Return the batch that a frame holds. Raise FrameError."""
    epoch, first, end, has_bounds, *values, size = _unpack(_BATCH, content[: _BATCH.size])
    rest = _BATCH.size + size
    if rest > len(content):
        raise FrameError("a batch ends within its marks")
    bounds = Bounds(*values) if has_bounds else None
    return Batch(epoch, first, end, content[rest:], bounds, content[_BATCH.size : rest])


def encode_snapshot(snapshot: Snapshot) -> Iterator[bytes]:
    """Return the frames of a snapshot; each is encoded when it is due."""
    yield encode_frame(BEGIN, begin_content(snapshot.position, snapshot.bounds))
    for chunk in snapshot.chunks:
        yield encode_frame(CHUNK, chunk)


def decode_begin(content: bytes) -> Snapshot:
    """Return the snapshot that begins with a frame; its chunks come next. Raise FrameError."""
    return Snapshot(*parse_begin(content), [])


def encode_error(error: JournalError) -> bytes:
    """Return the last frame of an answer that is an error."""
    code = next((code for code, kind in _ERRORS.items() if isinstance(error, kind)), b"j")
    return encode_frame(ERROR, code + str(error).encode())


def decode_error(content: bytes) -> JournalError:
    """Return the error that a frame holds."""
    kind, text = _ERRORS.get(content[:1], JournalError), content[1:].decode("utf-8", "replace")
    return NoSnapshotError() if kind is NoSnapshotError else kind(text)


def _unpack(form: struct.Struct, content: bytes) -> tuple[int, ...]:
    try:
        return form.unpack(content)
    except struct.error:
        raise FrameError("a frame has another size than its kind has") from None
