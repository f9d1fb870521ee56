"""What a session gets from a batch, and how much memory that holds.

The fan-out hands out one of these objects a session and batch.
"""

from collections.abc import Sequence


class Tape:
    """The broadcasts of one batch, joined: stored once, whatever number of payloads refer to it."""

    __slots__ = ("data", "holders")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.holders = 0


class Payload:
    """The bytes one session gets from one batch; sessions that get the same may share it.

    ``parts``, joined, are the bytes; those that are parts of the ``tape`` refer
    to it. ``size`` is the bytes of all parts, ``own_size`` of those that are
    this payload's own.
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
        """One more queue has it. Returns the bytes of memory that were not held before."""
        self.holders += 1
        if self.holders > 1:
            return 0
        if self.own_size == self.size:
            return self.size
        self.tape.holders += 1
        return self.own_size + (len(self.tape.data) if self.tape.holders == 1 else 0)

    def release(self) -> int:
        """One queue has done with it. Returns the bytes of memory that are held no longer."""
        self.holders -= 1
        if self.holders:
            return 0
        if self.own_size == self.size:
            return self.size
        self.tape.holders -= 1
        return self.own_size + (0 if self.tape.holders else len(self.tape.data))
