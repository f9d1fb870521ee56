"""Owns the faults in what a source sends: what the protocol says of each is still exact.

Must never know sockets or clients. Two kinds are part of the stream itself (`Workload.step`):
numbers that are never sent, and events in whose place a malformed line uses the number up. The
others are extra lines (`Extras`) that change nothing, wherever the server's reads cut the stream:
an event again, other bytes with its number, a malformed line without a number, one with a number
that came before, and one with a number that is still waiting when its event takes the place.
"""

import re
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from random import Random

Draw = Callable[[], float]

_USED = (
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
"""behind a valid number: malformed, and the number counts as used"""

_NUMBERLESS = (
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
"""malformed, and no number is used; %d is some event's"""

_EVENT = re.compile(rb"(\d{1,18})\|(?:[FUP]\|\d{1,18}\|\d{1,18}|B|S\|\d{1,18})(\r?\n)")
_LONGEST_GAP = 3


@dataclass(frozen=True)
class Faults:
    """How much of each; percentages are of the events."""

    duplicates: float = 0
    conflicts: float = 0
    malformed: float = 0
    gaps: int = 0

    @property
    def extras(self) -> bool:
        """Whether there are lines beside those of the stream itself."""
        return bool(self.duplicates or self.conflicts or self.malformed)


NO_FAULTS = Faults()


def missing_numbers(gaps: int, events: int, seed: int) -> tuple[int, ...]:
    """The numbers that are never sent, ascending: `gaps` times one to three, some of which meet."""
    draw = Random(f"{seed} gaps").random
    missing: set[int] = set()
    for _ in range(gaps):
        first = int(draw() * events) + 1
        missing.update(range(first, min(first + int(draw() * _LONGEST_GAP), events) + 1))
    return tuple(sorted(missing))


def between(numbers: tuple[int, ...], first: int, stop: int) -> tuple[int, ...]:
    """Those of the ascending numbers from `first` to `stop` - 1."""
    return numbers[bisect_left(numbers, first) : bisect_left(numbers, stop)]


def using_up(sequence: int, draw: Draw, end: bytes) -> bytes:
    """A malformed line that uses the number up."""
    return b"%d" % sequence + _pick(_USED, draw) + end


class Extras:
    """Puts extra lines between those of a shuffled batch.

    `alone`: no other source sends the same events. Only then may a malformed line come before the
    event with its number: while another source is ahead, the number could be used up by it.
    """

    def __init__(self, faults: Faults, users: int, seed: int, feed: int, *, alone: bool) -> None:
        self._faults = faults
        self._users = users
        self._draw = Random(f"{seed} extras {feed}").random
        self._alone = alone
        self._late: list[bytes] = []

    def mixed_into(self, batch: list[bytes], order: list[int]) -> list[bytes]:
        """The batch, whose events are in sequence order, in the order given, with its extras."""
        size = len(order)
        placed = [(self._draw() * size, line) for line in self.late()]
        lowest = self._lowest_behind(batch, order)
        for place, index in enumerate(order):
            line = batch[index]
            placed.append((place, line))
            event = _EVENT.fullmatch(line)
            if event is None:
                continue
            for extra in self._extras(event):
                self._put_behind(placed, place, size, extra)
            if self._hit(self._faults.malformed / 2):
                held_back = self._alone and lowest[place] < index
                self._put_malformed(placed, place, size, event, held_back=held_back)
        # Stable: what has the place of an event comes after it.
        placed.sort(key=itemgetter(0))
        return [line for _, line in placed if line]

    def late(self) -> list[bytes]:
        """The extras of one batch that come in the next, or at the end."""
        late, self._late = self._late, []
        return late

    def _hit(self, percent: float) -> bool:
        return self._draw() * 100 < percent

    @staticmethod
    def _lowest_behind(batch: list[bytes], order: list[int]) -> list[int]:
        """For each place the lowest event that comes after it, which holds back all above it."""
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
            form = _pick(_NUMBERLESS, self._draw)
            line = form % sequence if b"%d" in form else form
            placed.append((self._draw() * size, line + end))
        elif held_back and self._hit(50):
            placed.append((place - 0.5, using_up(sequence, self._draw, end)))
        else:
            self._put_behind(placed, place, size, using_up(sequence, self._draw, end))


def _pick(choices: tuple[bytes, ...], draw: Draw) -> bytes:
    return choices[int(draw() * len(choices))]
