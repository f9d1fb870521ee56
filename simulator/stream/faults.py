"""Add faults to the stream. According to the protocol, each has exactly one outcome.

Two kinds are part of the stream itself (``Workload.step``): sequence numbers that are never sent,
and malformed lines in the place of an event, which use up its number. The others are extra lines
(``Extras``) that must not change what is delivered:
- the same event again
- a different event with the same number
- a malformed line without a number
- a malformed line with a number that was sent before
- a malformed line with the number of an event that takes its place before the number is routed
"""

import re
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from random import Random

Draw = Callable[[], float]

_MALFORMED_WITH_NUMBER = (
    b"|X|1|2",
    b"|f|1|2",
    b"|F|1",
    b"|F|1|2|3",
    b"|B|",
    b"|B|7",
    b"|S",
    b"|S|-1",
    b"|P|1| 2",
    b"|P||5",
    b"|P|1|9223372036854775808",
    b"|S|\xc3\xa9",
    b"|S|1\x00",
    b"|",
    b"",
)
"""Malformed rests of a line after a valid sequence number, which counts as used."""

_MALFORMED_WITHOUT_NUMBER = (
    b"",
    b"|B",
    b"-%d|B",
    b"+%d|B",
    b" %d|B",
    b"%d |B",
    b"%d.0|B",
    b"0x%d|B",
    b"9223372036854775808|B",
    b"\xd9\xa3|B",
    b"\x00",
    b"hello",
)
"""Malformed lines that use no sequence number; ``%d`` is the number of an event."""

EVENT = re.compile(rb"(\d{1,18})\|(?:[FUP]\|\d{1,18}\|\d{1,18}|B|S\|\d{1,18})(\r?\n)")
"""A valid event with its terminator."""

_MAX_GAP = 3
"""Maximum sequence numbers in a gap."""


@dataclass(frozen=True)
class Faults:
    """The amounts of faults: shares in percent of all events, and a number of gaps."""

    duplicates: float = 0
    conflicts: float = 0
    malformed: float = 0
    gaps: int = 0

    @property
    def extras(self) -> bool:
        """Whether lines are added to those of the stream itself."""
        return bool(self.duplicates or self.conflicts or self.malformed)


NO_FAULTS = Faults()


def missing_numbers(gaps: int, events: int, seed: int) -> tuple[int, ...]:
    """Return the numbers never sent, ascending: ``gaps`` gaps of 1 to 3, which may overlap."""
    draw = Random(f"{seed} gaps").random
    missing: set[int] = set()
    for _ in range(gaps):
        first = int(draw() * events) + 1
        missing.update(range(first, min(first + int(draw() * _MAX_GAP), events) + 1))
    return tuple(sorted(missing))


def between(numbers: tuple[int, ...], first: int, stop: int) -> tuple[int, ...]:
    """Return those of the ascending numbers that are from ``first`` to ``stop`` - 1."""
    return numbers[bisect_left(numbers, first) : bisect_left(numbers, stop)]


def using_up(sequence: int, draw: Draw, end: bytes) -> bytes:
    """Return a malformed line that uses up the sequence number."""
    return b"%d" % sequence + _pick(_MALFORMED_WITH_NUMBER, draw) + end


class Extras:
    """Mixes extra lines into shuffled batches.

    ``alone`` means that no other source sends the same events. Only then may a malformed line
    precede the event with its number: otherwise, a source that is ahead may have made the number
    the next one, and the malformed line would use it up.
    """

    def __init__(self, faults: Faults, users: int, seed: int, feed: int, *, alone: bool) -> None:
        self._faults = faults
        self._users = users
        self._draw = Random(f"{seed} extras {feed}").random
        self._alone = alone
        self._late: list[bytes] = []

    def mixed_into(self, batch: list[bytes], order: list[int]) -> list[bytes]:
        """Return the lines of a batch in this order, with extra lines among them."""
        size = len(order)
        placed = [(self._draw() * size, line) for line in self.late()]
        lowest = self._lowest_behind(batch, order)
        for place, index in enumerate(order):
            line = batch[index]
            placed.append((place, line))
            event = EVENT.fullmatch(line)
            if event is None:
                continue
            for extra in self._extras(event):
                self._put_behind(placed, place, size, extra)
            if self._hit(self._faults.malformed / 2):
                held_back = self._alone and lowest[place] < index
                self._put_malformed(placed, place, size, event, held_back=held_back)
        # The sort is stable: an extra line with the place of an event follows it.
        placed.sort(key=itemgetter(0))
        return [line for _, line in placed if line]

    def late(self) -> list[bytes]:
        """Return the extra lines that were postponed to the next batch, or to the end."""
        late, self._late = self._late, []
        return late

    def _hit(self, percent: float) -> bool:
        return self._draw() * 100 < percent

    @staticmethod
    def _lowest_behind(batch: list[bytes], order: list[int]) -> list[int]:
        """Return for each place the lowest event after it, which holds back all higher events."""
        lowest = [len(batch)] * (len(order) + 1)
        for place in range(len(order) - 1, -1, -1):
            index = order[place]
            lowest[place] = min(lowest[place + 1], index if batch[index] else len(batch))
        return lowest[1:]

    def _extras(self, event: re.Match[bytes]) -> list[bytes]:
        extras = []
        if self._hit(self._faults.duplicates):
            extras.append(event[0])
        if self._hit(self._faults.conflicts):
            extras.append(self._conflicting(event))
        return extras

    def _conflicting(self, event: re.Match[bytes]) -> bytes:
        users = [int(self._draw() * self._users) + 1 for _ in range(2)]
        kinds = [b"|B", b"|S|%d" % users[0]]
        kinds += [b"|%c|%d|%d" % (letter, *users) for letter in b"FUP"]
        line = event[1] + _pick(tuple(kinds), self._draw) + event[2]
        return line if line != event[0] else self._conflicting(event)

    def _put_behind(
        self, placed: list[tuple[float, bytes]], place: int, size: int, line: bytes
    ) -> None:
        if self._hit(50):
            placed.append((place + self._draw() * (size - place), line))
        else:
            self._late.append(line)

    def _put_malformed(
        self,
        placed: list[tuple[float, bytes]],
        place: int,
        size: int,
        event: re.Match[bytes],
        *,
        held_back: bool,
    ) -> None:
        sequence, end = int(event[1]), event[2]
        if self._hit(33):
            form = _pick(_MALFORMED_WITHOUT_NUMBER, self._draw)
            line = form % sequence if b"%d" in form else form
            placed.append((self._draw() * size, line + end))
        elif held_back and self._hit(50):
            placed.append((place - 0.5, using_up(sequence, self._draw, end)))
        else:
            self._put_behind(placed, place, size, using_up(sequence, self._draw, end))


def _pick(choices: tuple[bytes, ...], draw: Draw) -> bytes:
    return choices[int(draw() * len(choices))]
