"""Frames: how parts of a message travel on a pipe or a connection."""

import struct
from collections.abc import Iterator
from typing import IO, NamedTuple
from zlib import crc32

MAX_FRAME_BYTES = 2**24
"""Size of the largest frame (16 MiB); a chunk has about 1 MiB."""

_HEAD = struct.Struct("<cII")  # kind, length, CRC of the kind and the content


class FrameError(Exception):
    """The pipe ended within a frame, or has something else than a frame."""


class Frame(NamedTuple):
    """A frame."""

    kind: bytes
    content: bytes


def encode_frame(kind: bytes, content: bytes) -> bytes:
    """Return a frame."""
    return _HEAD.pack(kind, len(content), crc32(content, crc32(kind))) + content


def write_frame(out: IO[bytes], kind: bytes, content: bytes) -> None:
    """Write a frame."""
    out.write(encode_frame(kind, content))


def read_frames(source: IO[bytes], max_bytes: int = MAX_FRAME_BYTES) -> Iterator[Frame]:
    """Read frames of at most ``max_bytes`` until the pipe ends. Raise FrameError."""
    while head := source.read(_HEAD.size):
        if len(head) < _HEAD.size:
            raise FrameError("it ended within a frame")
        kind, size, crc = _HEAD.unpack(head)
        if size > max_bytes:
            raise FrameError("it wrote something that is no frame")
        content = source.read(size)
        if len(content) < size:
            raise FrameError("it ended within a frame")
        if crc32(content, crc32(kind)) != crc:
            raise FrameError("it wrote a frame with a wrong checksum")
        yield Frame(kind, content)
