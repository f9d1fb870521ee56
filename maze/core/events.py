"""The grammar: chunk in, runs and rejects out.

A chunk of well-formed lines is checked whole by one regular expression
(90 ns a line), then split without asking again (525 ns a line); only a chunk
with something odd in it is looked at line by line, by ``decode_line``. Both
ways give the same events.

This module does not know which numbers came before: that a number is a
duplicate or stale is decided in ``reorder`` alone. So events with the same
number come out in separate runs, in the order in which they came.
"""

import re
from collections.abc import Iterator
from operator import itemgetter

from maze.core.rejects import Reason, Reject

FOLLOW, UNFOLLOW, BROADCAST, PRIVATE, STATUS = b"F", b"U", b"B", b"P", b"S"

Event = tuple[int, bytes, bytes, int, int]
"""(sequence, line, type, from user, to user); a user the type does not have is 0."""

FIELD_COUNT = {FOLLOW: 4, UNFOLLOW: 4, BROADCAST: 2, PRIVATE: 4, STATUS: 3}
NUMBER_LIMIT = 2**63
NUMBER_DIGITS = 19
"""the digits of 2**63 - 1; leading zeros do not count"""

# Every number of up to 18 digits is below 2**63. The possessive quantifiers
# keep the match linear and free of a backtracking stack.
_WELL_FORMED = re.compile(
    rb"(?:[0-9]{1,18}+\|"
    rb"(?:[FUP]\|[0-9]{1,18}+\|[0-9]{1,18}+|S\|[0-9]{1,18}+|B)"
    rb"\r?+\n)*+"
)
_sequence_of = itemgetter(0)
_line_of = itemgetter(1)
MAX_REJECTS = 1_000
"""of one ``feed``; 256 KiB can be 262,144 malformed lines, half a second's work"""
EVENT_BYTES, LIST_BYTES = 225, 100
"""what an event and a list of them take in memory beyond the lines, measured"""


def parse_number(field: bytes) -> int | None:
    """The value of a sequence number or user id, None if the field is neither."""
    if not field.isdigit():
        return None
    if len(field) >= NUMBER_DIGITS:
        field = field.lstrip(b"0") or b"0"
        if len(field) > NUMBER_DIGITS:
            return None
    number = int(field)
    return number if number < NUMBER_LIMIT else None


def content_of(line: bytes) -> bytes:
    """The line without its terminator: LF, or CR LF."""
    return line.removesuffix(b"\n").removesuffix(b"\r")


class Run:
    """Events with contiguous sequence numbers, in order, ``first`` to ``end`` - 1.

    A *void* run stands for one number that is used but has nothing to deliver:
    its line was malformed behind a valid sequence number.
    """

    __slots__ = ("_bytes", "end", "events", "first", "void")

    def __init__(self, events: list[Event], *, void: bool = False) -> None:
        self._bytes = 0  # not counted yet
        self.events = events
        self.first = events[0][0]
        self.end = self.first + len(events)
        self.void = void

    def __len__(self) -> int:
        return len(self.events)

    def clip(self, first: int, end: int) -> "Run":
        """The part of the run from number ``first`` to ``end`` - 1, itself if that is all."""
        if first <= self.first and end >= self.end:
            return self
        return Run(self.events[first - self.first : end - self.first], void=self.void)

    @property
    def memory(self) -> tuple[int, int]:
        """What the run keeps from being freed: a key, shared by runs that share it, and bytes."""
        if not self._bytes:
            lines = sum(map(len, map(_line_of, self.events)))
            self._bytes = lines + EVENT_BYTES * len(self.events) + LIST_BYTES
        return id(self.events), self._bytes

    def hold(self, ready: bool) -> int:
        """One more run is held, among those that are ready or those that are not.

        Returns the bytes of memory that were not held there before.
        """
        return self.memory[1]

    def release(self, ready: bool) -> int:
        """The run is held there no longer. Returns the bytes that are not, either."""
        return self.memory[1]

    def line(self, sequence: int) -> bytes:
        """The bytes of one event."""
        return self.events[sequence - self.first][1]


class Decoder:
    """One source's bytes in, runs and rejects out; holds the half line between chunks.

    ``line_limit`` is a security limit: the longest line accepted, in bytes
    without its terminator; it must be at least 64 (a well-formed line with no
    needless zeros is shorter). Once a line is longer, ``overflowed`` is true
    and whatever follows is ignored. ``max_rejects`` bounds the time that one
    ``feed`` takes.
    """

    def __init__(self, line_limit: int = 4096, max_rejects: int = MAX_REJECTS) -> None:
        self._line_limit = line_limit
        self._max_rejects = max_rejects
        self._left = b""
        self.overflowed = False
        self.unread = False
        """whole lines are left that were not decoded: the next feed does, be it of nothing"""

    def feed(self, data: bytes) -> tuple[list[Run], list[Reject]]:
        """Decode what one ``recv`` gave. Runs come sorted by their first number.

        With ``max_rejects`` rejects it stops; what is left is ``unread``.
        """
        if self.overflowed:
            return [], []
        data = self._left + data
        end = data.rfind(b"\n") + 1
        chunk, self._left = data[:end], data[end:]
        self.unread = False
        rejects: list[Reject] = []
        if _WELL_FORMED.fullmatch(chunk):
            runs = _runs_of(_split(chunk))
        else:
            runs, rejects = self._decode_odd(chunk)
        if not self.overflowed and not self.unread:
            self._check_half_line(rejects)
        return runs, rejects

    def finish(self) -> list[Reject]:
        """The source has no more to say: what is left, if nothing is unread, is a half line."""
        if not self._left or self.overflowed:
            return []
        half_line, self._left = self._left, b""
        return [Reject(Reason.HALF_LINE, half_line)]

    def _check_half_line(self, rejects: list[Reject]) -> None:
        if len(content_of(self._left)) > self._line_limit:
            rejects.append(self._overflow(self._left))

    def _decode_odd(self, chunk: bytes) -> tuple[list[Run], list[Reject]]:
        events: list[Event] = []
        voids: list[Run] = []
        rejects: list[Reject] = []
        read = 0
        for line in _lines(chunk):
            if len(rejects) == self._max_rejects:
                self._left = chunk[read:] + self._left
                self.unread = True
                break
            read += len(line)
            if len(content_of(line)) > self._line_limit:
                rejects.append(self._overflow(line))
                break
            decoded = decode_line(line)
            if not isinstance(decoded, Reject):
                events.append(decoded)
                continue
            rejects.append(decoded)
            if decoded.sequence is not None:
                voids.append(Run([(decoded.sequence, line, b"", 0, 0)], void=True))
        return _runs_of(events) + voids, rejects

    def _overflow(self, line: bytes) -> Reject:
        self.overflowed = True
        self._left = b""
        return Reject(Reason.LINE_TOO_LONG, line)


def _lines(chunk: bytes) -> Iterator[bytes]:
    start = 0
    while end := chunk.find(b"\n", start) + 1:
        yield chunk[start:end]
        start = end


def _split(chunk: bytes) -> list[Event]:
    """The events of a chunk that ``_WELL_FORMED`` has matched."""
    events: list[Event] = []
    for line in chunk.splitlines(keepends=True):
        fields = line.split(b"|")
        # int() passes over the terminator behind the last field.
        if len(fields) == 4:
            sequence, kind, sender, target = fields
            events.append((int(sequence), line, kind, int(sender), int(target)))
        elif len(fields) == 3:
            events.append((int(fields[0]), line, STATUS, int(fields[2]), 0))
        else:
            events.append((int(fields[0]), line, BROADCAST, 0, 0))
    return events


def decode_line(line: bytes) -> Event | Reject:
    """The whole grammar, a line at a time. The line is within the limit."""
    fields = content_of(line).split(b"|")
    sequence = parse_number(fields[0])
    if sequence is None:
        return Reject(Reason.BAD_SEQUENCE, line)
    if len(fields) < 2:
        return Reject(Reason.BAD_FIELDS, line, sequence)
    kind = fields[1]
    if kind not in FIELD_COUNT:
        return Reject(Reason.BAD_TYPE, line, sequence)
    if len(fields) != FIELD_COUNT[kind]:
        return Reject(Reason.BAD_FIELDS, line, sequence)
    users = [parse_number(field) for field in fields[2:]]
    sender, target = [*users, 0, 0][:2]
    if sender is None or target is None:
        return Reject(Reason.BAD_USER, line, sequence)
    return sequence, line, kind, sender, target


def _runs_of(events: list[Event]) -> list[Run]:
    """Sort the events by number and cut them wherever the next number is not the next."""
    if not events:
        return []
    events.sort(key=_sequence_of)  # stable: of two with one number the first stays first
    runs = []
    start = 0
    expected = events[0][0]
    for index, event in enumerate(events):
        if event[0] != expected:
            runs.append(Run(events[start:index]))
            start = index
            expected = event[0]
        expected += 1
    runs.append(Run(events[start:]))
    return runs
