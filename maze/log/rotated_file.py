"""A file of whole lines that others may rename or remove while it is open.

It uses nothing but system calls: what the standard library's handlers do with their files differs
from one version of Python to the next.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from enum import StrEnum

FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK
"""With O_APPEND, lines are written at the end even if another program has cut the file short. With
O_NONBLOCK, a named pipe is opened and written without waiting for its reader."""


class Place(StrEnum):
    """What has become of a file since it was opened."""

    SAME = "same"
    """Its path still leads to it, or no file is open."""
    RENAMED = "renamed"
    """Its path leads elsewhere or nowhere, but it has another name."""
    REMOVED = "removed"
    """It has no name any more: nobody can read it."""


class RotatedFile:
    """A file to which blocks of lines are appended; when it is full, it is renamed.

    A full file ``NAME`` becomes ``NAME.1``, ``NAME.1`` becomes ``NAME.2``, and so on. A block is
    written either whole or not at all. From a pipe nothing can be taken back: if it took a block in
    part, it gets the rest of the line that was cut before it gets the next block.
    """

    def __init__(self, path: str, max_bytes: int, files: int) -> None:
        """Open the file; raise OSError if that fails.

        It is renamed before it exceeds ``max_bytes``; ``files`` files are kept, this one included.
        """
        self.path = os.path.abspath(path)
        self._max_bytes = max_bytes
        self._files = files
        self._descriptor: int | None = None
        self.open()

    def open(self) -> None:
        """Open the path, then close what was open before. Raise OSError, and change nothing."""
        descriptor = os.open(self.path, FLAGS, 0o640)
        self.close()
        self._descriptor = descriptor
        found = os.fstat(descriptor)
        self._identity = found.st_dev, found.st_ino
        self._is_regular = stat.S_ISREG(found.st_mode)
        self._size = found.st_size
        self._is_at_path = True
        self._cut = b""
        """The rest of a line that a pipe took in part."""

    def close(self) -> None:
        """Close the file; ``append`` opens it again."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    def find(self) -> Place:
        """Return what has become of the file; close it if it was removed. Raise OSError."""
        if self._descriptor is None:
            return Place.SAME
        with suppress(FileNotFoundError):
            found = os.stat(self.path)
            if (found.st_dev, found.st_ino) == self._identity:
                self._size = found.st_size  # another program may have cut it short
                self._is_at_path = True
                return Place.SAME
        self._is_at_path = False
        if os.fstat(self._descriptor).st_nlink:
            return Place.RENAMED
        self.close()
        return Place.REMOVED

    def has_room(self, size: int) -> bool:
        """Return whether ``size`` more bytes fit. Only a regular file is ever full."""
        return not self._is_regular or not self._size or self._size + size <= self._max_bytes

    def append(self, block: bytes) -> None:
        """Append lines, whole or not at all; raise OSError if that fails."""
        if self._descriptor is None:
            self.open()
        if not self.has_room(len(block)):
            self._rotate()
        assert self._descriptor is not None
        data = memoryview(self._cut + block)
        written = 0
        try:
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
        except OSError:
            self._undo(self._descriptor, bytes(data), written)
            raise
        self._cut = b""
        self._size += written

    def _undo(self, descriptor: int, data: bytes, written: int) -> None:
        """Take back what was written of a block."""
        if not written:
            return
        if self._is_regular:
            with suppress(OSError):
                os.ftruncate(descriptor, max(os.fstat(descriptor).st_size - written, 0))
        elif data[written - 1 : written] == b"\n":
            self._cut = b""
        else:
            self._cut = data[written : data.find(b"\n", written) + 1]

    def _rotate(self) -> None:
        """Rename the file and its predecessors, and begin a new one. Raise OSError."""
        self.close()  # whatever fails here, the next block opens the path again
        if self._is_at_path:
            for number in range(self._files - 2, 0, -1):
                with suppress(FileNotFoundError):
                    os.replace(f"{self.path}.{number}", f"{self.path}.{number + 1}")
            os.replace(self.path, f"{self.path}.1")
        self.open()
