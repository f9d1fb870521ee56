"""The frames of a snapshot, on the pipe from the child that makes it, and on a feed."""

import struct

from maze.core import Position
from maze.journal.journal import Bounds
from maze.net.frames import FrameError

BEGIN, CHUNK, REPORT, END = b"B", b"C", b"R", b"E"
"""Kinds of frames: position and bounds; a chunk; a line for the log; the number of chunks."""

_BEGIN = struct.Struct("<QQQQQ")
_END = struct.Struct("<Q")


def begin_content(position: Position, bounds: Bounds) -> bytes:
    """Return the content of the first frame."""
    return _BEGIN.pack(*position, *bounds)


def parse_begin(content: bytes) -> tuple[Position, Bounds]:
    """Return position and bounds. Raise FrameError."""
    try:
        epoch, number, *bounds = _BEGIN.unpack(content)
    except struct.error:
        raise FrameError("it wrote a first frame of another size") from None
    return Position(epoch, number), Bounds(*bounds)


def end_content(chunks: int) -> bytes:
    """Return the content of the last frame."""
    return _END.pack(chunks)
