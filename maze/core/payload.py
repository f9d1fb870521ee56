"""The bytes that a session gets from a batch, and how much memory they take."""

from collections.abc import Sequence


class Tape:
    """The broadcasts of one batch, joined. All payloads that refer to the tape share it."""

    __slots__ = ("data", "holders")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.holders = 0


class Payload:
    """The bytes that a session gets from one batch. Sessions that get the same bytes may share it.

    The bytes are ``parts``, joined; parts that are slices of the ``tape`` refer to it. ``size`` is
    the length of all parts, ``own_size`` the length of those that are not slices of the tape; both
    in bytes.
    """

    __slots__ = ("holders", "own_size", "parts", "size", "tape")

    def __init__(
        self, parts: Sequence[bytes | memoryview], size: int, own_size: int, tape: Tape
    ) -> None:
        self.parts = parts
        self.size = size
        self.own_size = own_size
        self.tape = tape
        self.holders = 0

    def hold(self) -> int:
        """Count one more queue as holder; return by how many bytes the memory held grows."""
        self.holders += 1
        if self.holders > 1:
            return 0
        if self.own_size == self.size:
            return self.size
        self.tape.holders += 1
        return self.own_size + (len(self.tape.data) if self.tape.holders == 1 else 0)

    def release(self) -> int:
        """Count one holder less; return by how many bytes the memory held shrinks."""
        self.holders -= 1
        if self.holders:
            return 0
        if self.own_size == self.size:
            return self.size
        self.tape.holders -= 1
        return self.own_size + (0 if self.tape.holders else len(self.tape.data))
