"""Find the first fault in what each failing client received, and describe it.

The stream is deterministic. It is routed again for the failing clients, to generate the expected
lines around the failure and compare them with the lines received.
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
POSITION = "wrong position"

_MAX_SHOWN = 120
"""Maximum length of a line that is shown whole; characters, escapes included."""


@dataclass(frozen=True)
class Fault:
    """The first event at which a client's stream differs from the expected one."""

    user: int
    kind: str  # one of the six constants
    position: int  # counted from 1 among the client's own events
    expected: bytes | None  # None: nothing more was expected
    received: bytes | None  # None: nothing more was received
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
    """Return the first fault of each failing client. Route the whole stream once."""
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
    """What a client should have received: all sequence numbers, and the lines near the fault."""

    def __init__(self, evidence: Evidence) -> None:
        self.sequences = array("Q")
        self.lines: list[bytes] = []
        self.before = 0  # events before the first of ``lines``
        self.head = 0  # verified bytes of the first of ``lines``
        self._start = evidence.start
        self._stop = evidence.start + len(evidence.kept) + MAX_BLOCK
        self._offset = 0

    def add(self, step: Step, indices: list[int]) -> None:
        """Append the events of the step that the client should receive."""
        self.sequences.extend(map(step.first.__add__, indices))
        size = sum(len(step.lines[index]) for index in indices)
        if self._offset + size <= self._start:
            self._offset += size
            self.before += len(indices)
            return
        for index in indices:
            self._add_line(step.lines[index])

    def has(self, sequence: int) -> bool:
        """Return whether the client should receive the event."""
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
    # The part of the first line before the failing block is verified, so it was received.
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
    got = received[place] if place < len(received) else None
    position = expected.before + place + 1
    if evidence.wrong and place == len(received):
        wrong = evidence.wrong
        return Fault(
            evidence.user,
            POSITION,
            position,
            wrong.expected,
            wrong.received,
            wrong.why,
            evidence.fate,
        )
    kind, why = _classify(workload, expected, wanted, received[place:])
    return Fault(evidence.user, kind, position, wanted, got, why, evidence.fate)


def _classify(
    workload: Workload, expected: _Expected, wanted: bytes | None, received: list[bytes]
) -> tuple[str, str]:
    """Return the kind and description of a fault; ``wanted`` was expected."""
    if not received:
        if wanted is None:
            return DISCONNECTED, "the client received everything, but was disconnected"
        return MISSING, "nothing more was received"
    got, later = received[0], received[1:]
    if wanted is not None and not got.endswith(b"\n") and wanted.startswith(got):
        return MISSING, "the line is cut off and nothing more was received"
    follows = wanted in later
    sequence = _sequence(got)
    if sequence is not None and workload.line(sequence) == got:
        return _classify_event(expected, wanted, sequence, follows=follows)
    if wanted is not None and (sequence == _sequence(wanted) or not follows):
        return ALTERED, "other bytes were received in its place"
    return UNEXPECTED, "the line received is not in the stream"


def _classify_event(
    expected: _Expected, wanted: bytes | None, sequence: int, *, follows: bool
) -> tuple[str, str]:
    """Return the kind and description of a fault if the line received is in the stream."""
    if not expected.has(sequence):
        return UNEXPECTED, "the event received is not for this user"
    if wanted is None or sequence < (_sequence(wanted) or 0):
        return UNEXPECTED, "the event received is a repetition"
    if follows:
        return OUT_OF_ORDER, "a later event was received first"
    return MISSING, "a later event was received instead"


def _split(received: bytes) -> list[bytes]:
    """Split into lines at LF; the last one may be incomplete."""
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
    if len(text) <= _MAX_SHOWN:
        return text
    return f"{text[:_MAX_SHOWN]}... ({len(line)} bytes)"
