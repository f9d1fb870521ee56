"""The order and the routing of events, one at a time, in the plainest form there is.

It knows nothing of runs, batches, tapes and indexes: a dict of the lines that
are held, a set for whom each user follows, a list of lines for each client. As
in the server a chunk is taken in whole (``feed``) before anything of it is
routed (``route``). Where core and model differ, the protocol says who is right.
"""

from collections import Counter, defaultdict
from itertools import count

from .grammar import parse, split


class Model:
    """Every number below ``floor`` that is not ``held`` was routed or given up."""

    def __init__(self, first: int = 1, line_limit: int = 4096) -> None:
        self.first, self.line_limit, self.rejects = first, line_limit, Counter[str]()
        self.half_lines = defaultdict[int, bytes](bytes)
        self.clients: dict[str, tuple[int, list[bytes]]] = {}
        self.undelivered: list[bytes] = []
        self.reset()

    def reset(self) -> None:
        self.floor, self.held = self.first, dict[int, bytes]()
        self.next = self.first
        """The number after the highest one that was routed."""
        self.follows = defaultdict[int, set[int]](set)

    def missing(self) -> int:
        return next(number for number in count(self.floor) if number not in self.held)

    def waiting(self) -> list[int]:
        missing = self.missing()
        return sorted(number for number in self.held if number > missing)

    def feed(self, source: int, data: bytes) -> bool:
        """Take a chunk in; false if one of its lines is too long, so that the source is closed."""
        data = self.half_lines[source] + data
        lines, self.half_lines[source], fits = split(data, self.line_limit)
        for line in lines:
            self.take(line)
        self.rejects["line_too_long"] += not fits
        return fits

    def take(self, line: bytes) -> None:
        reason, number, *_ = parse(line)
        held = self.held.get(number, b"")
        if (not held and number >= self.floor) or (held and parse(held)[0] and not reason):
            self.held[number] = line
        elif not reason:
            reason = "stale" if not held else "duplicate" if line == held else "conflict"
        self.rejects[reason] += bool(reason)

    def finish(self, source: int) -> None:
        self.rejects["half_line"] += bool(self.half_lines.pop(source, b""))

    def give_up_gaps(self, limit: int = 0, below: int = 2**63) -> None:
        """Give up the lowest missing numbers while more than ``limit`` events wait.

        Of these numbers, only those lower than ``below``.
        """
        while len(waiting := self.waiting()) > limit and self.missing() < below:
            end = min(waiting[0], below)
            self.rejects["skipped"] += end - self.missing()
            self.floor = end

    def route(self) -> None:
        end = self.missing()
        ready = [number for number in sorted(self.held) if number < end]
        self.next = ready[-1] + 1 if ready else self.next
        for line in map(self.held.pop, ready):
            reason, _, kind, users = parse(line)
            if reason:
                continue
            if kind in b"FU":
                (set.add if kind == b"F" else set.discard)(self.follows[users[0]], users[1])
            connected = {user for user, _ in self.clients.values()}
            if kind in b"FP" and users[1] not in connected:
                self.undelivered.append(line)
            for user, received in self.clients.values():
                to_user = kind in b"FP" and users[1] == user
                to_follower = kind == b"S" and users[0] in self.follows[user]
                if kind == b"B" or to_user or to_follower:
                    received.append(line)
        self.floor = end
