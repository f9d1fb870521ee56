"""A round's stream, with every mistake that a source can make, and the lines that each user gets.

The expected lines depend only on the order of the stream, not on time: a number that is left out
never comes later, and a number that a malformed line uses comes once.
"""

from __future__ import annotations

import random

from property.grammar import parse
from property.model import Model

USERS = range(40)
WINDOW = 200
"""Lines within which the order is shuffled; far less than the server's reorder limit."""
WIDE_BYTES = 3_000
KINDS = "FUBPS"
WEIGHTS = [30, 10, 5, 30, 25]
MALFORMED = [b"%d|X", b"%d|B|1", b"%d|F|1", b"%d|P|1|-2", b"%d"]
JUNK = [
    b"",
    b"|",
    b"x|B",
    b"-1|B",
    b"\xff\x00\n\x80",
    b"99999999999999999999|B",
    b"GET / HTTP/1.1\r",
]


class Stream:
    """The bytes that the source sends (``sent``), and the lines for each user (``expected``)."""

    def __init__(self, pick: random.Random, count: int, gaps: bool) -> None:
        self._pick = pick
        self._wide = range(count // 2, count // 2 + 120)
        """Numbers in the middle of the stream: long broadcasts that fill the queue of a client
        that does not read."""
        numbers = list(range(1, count + 1))
        if gaps:
            for _ in range(3):
                start = pick.randrange(count)
                del numbers[start : start + pick.choice([1, 5, 50])]
        self.marker = b"%d|B\n" % (count + 1)
        """The last line, a broadcast."""
        self.sent = b"".join(self._disorder([self._line(number) for number in numbers]))
        self.sent += self.marker
        self.expected = self._by_the_model()
        self.wide_at = self.sent.find(b"%0*d" % (WIDE_BYTES // 2, 0))
        """Offset in ``sent`` of the first long broadcast."""
        self.wide_bytes = WIDE_BYTES * len(set(numbers) & set(self._wide))

    def _line(self, number: int) -> bytes:
        pick = self._pick
        if number in self._wide:
            return b"%0*d|B\n" % (WIDE_BYTES, number)
        if pick.random() < 0.01:
            return pick.choice(MALFORMED).replace(b"%d", b"%d" % number) + b"\n"
        kind = pick.choices(KINDS, WEIGHTS)[0]
        users = [pick.choice(USERS) for _ in range({"B": 0, "S": 1}.get(kind, 2))]
        fields = "|".join(map(str, [number, kind, *users]))
        return fields.encode() + pick.choice([b"\n", b"\r\n"])

    def _disorder(self, lines: list[bytes]) -> list[bytes]:
        """Shuffle the lines within windows; add duplicates, conflicts and junk."""
        pick, sent = self._pick, list[bytes]()
        for start in range(0, len(lines), WINDOW):
            window = lines[start : start + WINDOW]
            pick.shuffle(window)
            sent += window
            sent += pick.choices(window, k=pick.randrange(10))
            sent += [pick.choice(JUNK) + b"\n" for _ in range(pick.randrange(5))]
            for line in pick.choices(window, k=2):
                reason, number, *_ = parse(line)
                if not reason:
                    sent.append(b"%d|P|1|2\n" % number)
        return sent

    def _by_the_model(self) -> dict[int, list[bytes]]:
        model = Model()
        for user in USERS:
            model.clients[str(user)] = (user, [])
        model.feed(0, self.sent)
        model.give_up_gaps()
        model.route()
        return dict(model.clients.values())
