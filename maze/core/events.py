"""Decodes chunks of bytes into runs of events and rejects.

One regular expression checks whether all lines of a chunk are well-formed and have numbers of at
most 18 digits (90 ns a line). If so, the chunk is split without further checks (525 ns a line).
Otherwise ``decode_line`` decodes it line by line. Both paths give the same events.

This module does not keep track of sequence numbers: only ``reorder`` decides whether one is a
duplicate or stale. Events with the same number therefore go into separate runs, in order of
arrival.
"""

import re
from collections.abc import Iterator
from operator import itemgetter

from maze.core.rejects import Reason, Reject

FOLLOW, UNFOLLOW, BROADCAST, PRIVATE, STATUS = b"F", b"U", b"B", b"P", b"S"
FOLLOW_UNCHANGED, UNFOLLOW_UNCHANGED = b"f", b"u"
"""Types that the fan-out gives to follows and unfollows that did not change the graph. They never
come from a source. Whoever goes back over routed events must not undo these."""

Event = tuple[int, bytes, bytes, int, int]
"""(sequence, line, type, from user, to user); a user that the type does not have is 0."""

FIELD_COUNT = {FOLLOW: 4, UNFOLLOW: 4, BROADCAST: 2, PRIVATE: 4, STATUS: 3}
"""Fields of a line, by event type."""
NUMBER_LIMIT = 2**63
"""Exclusive upper bound of sequence numbers and user ids."""
NUMBER_DIGITS = 19
"""Digits of 2**63 - 1; leading zeros do not count."""

# Every number of up to 18 digits is below 2**63. The possessive quantifiers keep the match linear
# and without a backtracking stack.
_WELL_FORMED = re.compile(
    rb"(?:[0-9]{1,18}+\|"
    rb"(?:[FUP]\|[0-9]{1,18}+\|[0-9]{1,18}+|S\|[0-9]{1,18}+|B)"
    rb"\r?+\n)*+"
)
_sequence_of = itemgetter(0)
_line_of = itemgetter(1)
WAITING, READY, RECENT = 0, 1, 2
"""Holders of runs, each of which counts its memory: the reorder buffer, for runs that wait behind a
gap and for runs that are ready, and ``recent``."""
MAX_REJECTS = 1_000
"""Maximum rejects per ``feed``: 256 KiB may hold 262,144 malformed lines (half a second)."""
EVENT_BYTES, LIST_BYTES = 225, 100
"""Memory of an event and of a list of events, without the lines (measured)."""


def parse_number(field: bytes) -> int | None:
    """Return the value of a sequence number or user id; None if the field is neither."""
    if not field.isdigit():
        return None
    if len(field) >= NUMBER_DIGITS:
        field = field.lstrip(b"0") or b"0"
        if len(field) > NUMBER_DIGITS:
            return None
    number = int(field)
    return number if number < NUMBER_LIMIT else None


def content_of(line: bytes) -> bytes:
    """Return the line without its terminator: LF, or CR LF."""
    return line.removesuffix(b"\n").removesuffix(b"\r")


class Run:
    """Events with contiguous sequence numbers, in order, ``first`` to ``end`` - 1.

    A *void* run stands for one number that is used but has nothing to deliver: its line has a
    valid sequence number, but is malformed otherwise.

    ``events`` changes only when the run is routed: see ``FOLLOW_UNCHANGED``. A run is routed once.
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
        """Return the run of the numbers ``first`` to ``end`` - 1; this run if that is all of it."""
        if first <= self.first and end >= self.end:
            return self
        return Run(self.events[first - self.first : end - self.first], void=self.void)

    @property
    def memory(self) -> tuple[int, int]:
        """Key and bytes of the memory that the run keeps alive; shared memory has one key."""
        if not self._bytes:
            lines = sum(map(len, map(_line_of, self.events)))
            self._bytes = lines + EVENT_BYTES * len(self.events) + LIST_BYTES
        return id(self.events), self._bytes

    def hold(self, holder: int) -> int:
        """Count the run as held; return by how many bytes the holder's memory grows.

        ``holder`` is WAITING, READY or RECENT. Memory is counted separately for each.
        """
        return self.memory[1]

    def release(self, holder: int) -> int:
        """Count the run as released; return by how many bytes the holder's memory shrinks."""
        return self.memory[1]

    def line(self, sequence: int) -> bytes:
        """Return the bytes of one event."""
        return self.events[sequence - self.first][1]


def lines_of(runs: list[Run]) -> bytes:
    """Return the lines of the runs, in order; void runs have none."""
    return b"".join([event[1] for run in runs if not run.void for event in run.events])


class Decoder:
    """Decodes the bytes of one source; keeps a half line until the rest of it arrives.

    ``line_limit`` is a security limit: the longest line accepted, in bytes without its terminator.
    It must be at least 64; a well-formed line without superfluous zeros is shorter. After a longer
    line, ``overflowed`` is true and all further bytes are ignored. ``max_rejects`` bounds the time
    that one ``feed`` takes.
    """

    def __init__(self, line_limit: int = 4096, max_rejects: int = MAX_REJECTS) -> None:
        self._line_limit = line_limit
        self._max_rejects = max_rejects
        self._left = b""
        self.overflowed = False
        self.unread = False
        """Whether complete lines are left; the next ``feed`` decodes them, even without data."""

    def feed(self, data: bytes) -> tuple[list[Run], list[Reject]]:
        """Decode the bytes of one ``recv``; return runs, sorted by first number, and rejects.

        Decoding stops after ``max_rejects`` rejects; then ``unread`` tells whether lines are left.
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
        """Return a reject for the half line that is left, if any. ``unread`` must be false."""
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
    """Return the events of a chunk that matches ``_WELL_FORMED``."""
    events: list[Event] = []
    for line in chunk.splitlines(keepends=True):
        fields = line.split(b"|")
        # int() ignores the terminator after the last field.
        if len(fields) == 4:
            sequence, kind, sender, target = fields
            events.append((int(sequence), line, kind, int(sender), int(target)))
        elif len(fields) == 3:
            events.append((int(fields[0]), line, STATUS, int(fields[2]), 0))
        else:
            events.append((int(fields[0]), line, BROADCAST, 0, 0))
    return events


def decode_line(line: bytes) -> Event | Reject:
    """Decode a line of any form. The caller has checked its length."""
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
    """Sort the events by number and split them into runs of contiguous numbers."""
    if not events:
        return []
    events.sort(key=_sequence_of)  # stable: events with the same number stay in order
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
