"""Generate the stream of events: a pure function of its parameters, equal on every machine.

Only ``random()`` and ``getrandbits()`` are used, whose sequences are the same in every version of
Python. Each step of 20,000 events has its own generator, so that any event can be generated without
those before it. A shorter stream is therefore a prefix of a longer one (except for gaps), and
neither batches nor clients change the events. Where a fault takes the place of an event, the step
has an event that nobody receives.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from random import Random
from struct import unpack
from typing import NamedTuple

from simulator.stream.faults import NO_FAULTS, Extras, Faults, between, missing_numbers, using_up

FOLLOW, UNFOLLOW, BROADCAST, PRIVATE, STATUS = range(5)
LETTERS = b"FUBPS"
STEP_EVENTS = 20_000
"""Events in a step. Each step has its own generator."""

MAX_USERS = 2**32 - 1

_KIND_BITS = 20
"""Random bits that choose a kind. The rarest of the original mix gets 101 of 2^20 draws, which is
within 0.3% of its share."""

Mix = tuple[float, float, float, float, float]

ORIGINAL_MIX: Mix = (14.72, 14.72, 0.0096, 15.12, 55.43)
"""Percentage of each kind in ten million events of the challenge's original simulator."""

EVEN_MIX: Mix = (1, 1, 1, 1, 1)


class Step(NamedTuple):
    """Up to 20,000 consecutive events in sequence order, as columns."""

    first: int  # the sequence number of index 0
    kinds: list[int]
    senders: list[int]
    recipients: list[int]
    lines: list[bytes]


class Chunk(NamedTuple):
    """Whole lines that a source sends, and their number."""

    data: bytes
    events: int


@dataclass(frozen=True)
class Workload:
    """Events 1 to ``events`` among users 1 to ``users``, of whom ``clients`` are connected."""

    events: int
    clients: int
    users: int
    batch: int = 100
    seed: int = 666
    mix: Mix = ORIGINAL_MIX
    crlf: bool = False
    faults: Faults = NO_FAULTS
    sources: int = 1

    @cached_property
    def connected(self) -> tuple[int, ...]:
        """The ids of the connected users, in the order of connecting."""
        draw = Random(f"{self.seed} clients").random
        chosen: dict[int, None] = {}
        while len(chosen) < self.clients:
            chosen[int(draw() * self.users) + 1] = None
        return tuple(chosen)

    @cached_property
    def missing(self) -> tuple[int, ...]:
        """The sequence numbers that are never sent, ascending."""
        return missing_numbers(self.faults.gaps, self.events, self.seed)

    @cached_property
    def _kind_of_draw(self) -> bytes:
        """The kind for each of 2^20 draws. A kind of weight 0 is never drawn."""
        bounds = list(accumulate(self.mix))
        kinds = bytearray()
        for kind, bound in enumerate(bounds):
            kinds += bytes([kind]) * (round(bound / bounds[-1] * 2**_KIND_BITS) - len(kinds))
        return bytes(kinds)

    @cached_property
    def _templates(self) -> tuple[bytes, ...]:
        end = b"\r\n" if self.crlf else b"\n"
        tails = (b"|%d|%d", b"|%d|%d", b"", b"|%d|%d", b"|%d")
        return tuple(b"%%d|%c" % LETTERS[kind] + tails[kind] + end for kind in range(5))

    def steps(self) -> Iterator[Step]:
        """Generate all events in sequence order."""
        for number in range(-(-self.events // STEP_EVENTS)):
            yield self.step(number)

    def step(self, number: int) -> Step:
        """Generate the step that begins with event ``number`` * 20,000 + 1."""
        first = number * STEP_EVENTS + 1
        size = min(STEP_EVENTS, self.events - first + 1)
        bits = Random(f"{self.seed} events {number}").getrandbits
        kind_of_draw = self._kind_of_draw
        kinds = [kind_of_draw[word >> 32 - _KIND_BITS] for word in _words(bits)[:size]]
        senders = self._user_ids(_words(bits)[:size])
        recipients = self._user_ids(_words(bits)[:size])
        step = Step(
            first, kinds, senders, recipients, self._lines(first, kinds, senders, recipients)
        )
        if self.faults.malformed or self.faults.gaps:
            self._spoil(step, Random(f"{self.seed} faults {number}").random)
        return step

    def line(self, sequence: int) -> bytes | None:
        """Return the line of an event, or None if the stream has no such sequence number."""
        if not 1 <= sequence <= self.events:
            return None
        number, index = divmod(sequence - 1, STEP_EVENTS)
        return self.step(number).lines[index]

    def _spoil(self, step: Step, draw: Callable[[], float]) -> None:
        """Replace events by malformed lines (half of all malformed lines) and by gaps (no line)."""
        end = b"\r\n" if self.crlf else b"\n"
        for index in range(len(step.lines)):
            if draw() * 200 < self.faults.malformed:
                self._replace(step, index, using_up(step.first + index, draw, end))
        for sequence in between(self.missing, step.first, step.first + len(step.lines)):
            self._replace(step, sequence - step.first, b"")

    @staticmethod
    def _replace(step: Step, index: int, line: bytes) -> None:
        # A private message to user 0, who is never connected.
        step.kinds[index], step.recipients[index] = PRIVATE, 0
        step.lines[index] = line

    def _user_ids(self, words: Sequence[int]) -> list[int]:
        users = self.users
        return [(word * users >> 32) + 1 for word in words]

    def _lines(
        self, first: int, kinds: list[int], senders: list[int], recipients: list[int]
    ) -> list[bytes]:
        templates = self._templates
        lines: list[bytes] = []
        add = lines.append
        for sequence, (kind, sender, recipient) in enumerate(
            zip(kinds, senders, recipients, strict=True), first
        ):
            if kind == BROADCAST:
                add(templates[kind] % sequence)
            elif kind == STATUS:
                add(templates[kind] % (sequence, sender))
            else:
                add(templates[kind] % (sequence, sender, recipient))
        return lines


def _words(bits: Callable[[int], int]) -> Sequence[int]:
    """Return 32 random bits for each event of a step; a draw per event would take twice as long."""
    return unpack(f"<{STEP_EVENTS}I", bits(32 * STEP_EVENTS).to_bytes(4 * STEP_EVENTS, "little"))


class Shuffler:
    """Shuffles the events of a source within batches of random size, 1 to ``batch``.

    Each feed, counted from 0, has its own order.
    """

    def __init__(self, workload: Workload, feed: int = 0) -> None:
        name = f"{workload.seed} order {feed}" if feed else f"{workload.seed} order"
        self._random = Random(name).random
        self._batch = workload.batch
        self._extras: Extras | None = None
        if workload.faults.extras or workload.faults.gaps:
            self._extras = Extras(
                workload.faults, workload.users, workload.seed, feed, alone=workload.sources == 1
            )
        self._size = self._draw_size()
        self._waiting: list[bytes] = []

    def add(self, lines: list[bytes]) -> Chunk:
        """Take the next lines in sequence order; return the batches that are now complete."""
        lines = self._waiting + lines
        sent: list[bytes] = []
        taken = 0
        while taken + self._size <= len(lines):
            sent += self._shuffled(lines[taken : taken + self._size])
            taken += self._size
            self._size = self._draw_size()
        self._waiting = lines[taken:]
        return Chunk(b"".join(sent), len(sent))

    def rest(self) -> Chunk:
        """Return the last, incomplete batch."""
        lines, self._waiting = self._shuffled(self._waiting), []
        if self._extras is not None:
            lines += self._extras.late()
        return Chunk(b"".join(lines), len(lines))

    def _draw_size(self) -> int:
        return int(self._random() * self._batch) + 1

    def _shuffled(self, batch: list[bytes]) -> list[bytes]:
        # Unlike random.shuffle, a sort by random() is the same in every version of Python.
        draw = self._random
        if self._extras is None:
            return sorted(batch, key=lambda _line: draw())
        order = sorted(range(len(batch)), key=lambda _index: draw())
        return self._extras.mixed_into(batch, order)
