"""Frames: what is read is what was written, or an error."""

from __future__ import annotations

import io

import pytest

from maze.net.frames import FrameError, read_frames, write_frame


def frames(*contents: tuple[bytes, bytes]) -> bytes:
    out = io.BytesIO()
    for kind, content in contents:
        write_frame(out, kind, content)
    return out.getvalue()


def test_frames_are_read_as_they_were_written() -> None:
    written = [(b"B", b""), (b"C", b"a" * 100_000), (b"R", b"\n"), (b"E", b"3")]
    assert list(read_frames(io.BytesIO(frames(*written)))) == written
    assert not list(read_frames(io.BytesIO(b"")))


def test_every_cut_and_every_changed_byte_is_found() -> None:
    whole = frames((b"C", b"abc"), (b"E", b"1"))
    first = len(frames((b"C", b"abc")))
    for cut in range(1, len(whole)):
        if cut != first:
            with pytest.raises(FrameError):
                list(read_frames(io.BytesIO(whole[:cut])))
        changed = bytearray(whole)
        changed[cut] ^= 1
        with pytest.raises(FrameError):
            list(read_frames(io.BytesIO(bytes(changed))))
