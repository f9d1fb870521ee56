"""How tests read the frames of a feed."""

import io

from maze.feed.messages import MAX_FRAME_BYTES
from maze.net.frames import read_frames


def content_of(frame: bytes, kind: bytes) -> bytes:
    """Return the content of a frame, which must be of that kind."""
    (found,) = read_frames(io.BytesIO(frame), MAX_FRAME_BYTES)
    assert found.kind == kind
    return found.content
