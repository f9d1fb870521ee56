"""Owns the verdict's words: the first thing that went wrong for a client, and how.

Must never know sockets. The stream is deterministic, so it is routed once more for the failing
clients alone, the expected lines around the place of the failure are rebuilt, and compared line
by line with what came.
"""

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from simulator.play.client import Evidence
from simulator.stream.oracle import MAX_BLOCK, Oracle
from simulator.stream.workload import Step, Workload

MISSING = "missing"
UNEXPECTED = "unexpected"
ALTERED = "altered"
OUT_OF_ORDER = "out of order"
DISCONNECTED = "disconnected"
_SHOWN_BYTES = 120


@dataclass(frozen=True)
class Fault:
    """The first event at which a client's stream is not what the protocol says."""

    user: int
    kind: str  # one of the five above
    position: int  # counted from 1 among the client's own events
    expected: bytes | None  # None: nothing more was to come
    received: bytes | None  # None: nothing more came
    why: str
    fate: str  # what became of the connection

    def __str__(self) -> str:
        return (
            f"user {self.user}: {self.kind} at its event {self.position:,}: {self.why}\n"
            f"    expected  {_shown(self.expected)}\n"
            f"    received  {_shown(self.received)}\n"
            f"    {self.fate}"
        )


def diagnose(workload: Workload, failures: Sequence[Evidence]) -> list[Fault]:
    """The first fault of each failing client; takes one more routing of the whole stream."""
    expected = [_Expected(evidence) for evidence in failures]
    oracle = Oracle([evidence.user for evidence in failures])
    for step in workload.steps():
        for client, indices in zip(expected, oracle.route(step), strict=True):
            client.add(step, indices)
    return [
        _first_fault(workload, evidence, client)
        for evidence, client in zip(failures, expected, strict=True)
    ]


class _Expected:
    """What one client should have received: all sequence numbers, and the lines near the fault."""

    def __init__(self, evidence: Evidence) -> None:
        self.sequences = array("Q")
        self.lines: list[bytes] = []
        self.before = 0  # events before the first of `lines`
        self.head = 0  # bytes of the first of `lines` that are verified already
        self._start = evidence.start
        self._stop = evidence.start + len(evidence.kept) + MAX_BLOCK
        self._offset = 0

    def add(self, step: Step, indices: list[int]) -> None:
        """Appends the events of the step that the client should receive."""
        self.sequences.extend(map(step.first.__add__, indices))
        size = sum(len(step.lines[index]) for index in indices)
        if self._offset + size <= self._start:
            self._offset += size
            self.before += len(indices)
            return
        for index in indices:
            self._add_line(step.lines[index])

    def has(self, sequence: int) -> bool:
        """Whether the event is one of the client's."""
        place = bisect_left(self.sequences, sequence)
        return place < len(self.sequences) and self.sequences[place] == sequence

    def _add_line(self, line: bytes) -> None:
        begin, end = self._offset, self._offset + len(line)
        self._offset = end
        if end <= self._start:
            self.before += 1
        elif begin <= self._stop:
            if not self.lines:
                self.head = self._start - begin
            self.lines.append(line)


def _first_fault(workload: Workload, evidence: Evidence, expected: _Expected) -> Fault:
    # The part of the first line that lies before the failing block is verified, so it came.
    head = expected.lines[0][: expected.head] if expected.lines else b""
    received = _split(head + evidence.kept)
    if not evidence.whole and received and not received[-1].endswith(b"\n"):
        received.pop()
    place = 0
    while (
        place < min(len(received), len(expected.lines)) and received[place] == expected.lines[place]
    ):
        place += 1
    wanted = expected.lines[place] if place < len(expected.lines) else None
    came = received[place] if place < len(received) else None
    kind, why = _classify(workload, expected, wanted, received[place:])
    position = expected.before + place + 1
    return Fault(evidence.user, kind, position, wanted, came, why, evidence.fate)


def _classify(
    workload: Workload, expected: _Expected, wanted: bytes | None, received: list[bytes]
) -> tuple[str, str]:
    """The kind of a fault and the words for it, when `wanted` should have come first."""
    if not received:
        if wanted is None:
            return DISCONNECTED, "the client had received everything, but must stay connected"
        return MISSING, "nothing more came"
    came, later = received[0], received[1:]
    if wanted is not None and not came.endswith(b"\n") and wanted.startswith(came):
        return MISSING, "the line is cut off and nothing more came"
    follows = wanted in later
    sequence = _sequence(came)
    if sequence is not None and workload.line(sequence) == came:
        return _classify_event(expected, wanted, sequence, follows=follows)
    if wanted is not None and (sequence == _sequence(wanted) or not follows):
        return ALTERED, "other bytes came in its place"
    return UNEXPECTED, "what came is not a line of the stream"


def _classify_event(
    expected: _Expected, wanted: bytes | None, sequence: int, *, follows: bool
) -> tuple[str, str]:
    """The same, when what came is an event of the stream as it was sent."""
    if not expected.has(sequence):
        return UNEXPECTED, "what came is not meant for this user"
    if wanted is None or sequence < (_sequence(wanted) or 0):
        return UNEXPECTED, "what came had come before"
    if follows:
        return OUT_OF_ORDER, "a later event came first"
    return MISSING, "a later event came instead"


def _split(received: bytes) -> list[bytes]:
    """Lines by LF alone; the last one may be half."""
    *whole, rest = received.split(b"\n")
    lines = [line + b"\n" for line in whole]
    return [*lines, rest] if rest else lines


def _sequence(line: bytes) -> int | None:
    digits = line.strip().partition(b"|")[0]
    return int(digits) if digits.isdigit() and len(digits) < 20 else None


def _shown(line: bytes | None) -> str:
    if line is None:
        return "nothing"
    text = repr(line)[1:]
    return text if len(text) <= _SHOWN_BYTES else f"{text[:_SHOWN_BYTES]}... ({len(line)} bytes)"
