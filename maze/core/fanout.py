"""Turns a batch and the follow graph into a payload for each session.

Sessions connect and disconnect only between batches, so all sessions of a user get the same bytes
from a batch. One payload is made for each user, and the user's sessions share it.

Broadcasts are stored once. Each batch has a *tape*: its broadcast lines, joined. Users who get
nothing but broadcasts share one payload, the tape itself, so a broadcast to 1,000 sessions costs
one append. For other users, each event of their own is stored with the length of the tape at that
point. Their payload alternates between the slice of the tape up to that point and the event.
"""

import sys
from collections import defaultdict

from maze.core.events import (
    BROADCAST,
    FIELD_COUNT,
    FOLLOW,
    FOLLOW_UNCHANGED,
    PRIVATE,
    STATUS,
    UNFOLLOW_UNCHANGED,
    Run,
)
from maze.core.graph import CHANGED, REFUSED, FollowGraph, Member, Recipient
from maze.core.payload import Payload, Tape
from maze.core.rejects import Reason, Reject, Undelivered

SLICE_BYTES = 4096
"""Minimum length of a slice of the tape that is referred to, not copied. At about this length a
copy costs as much as one more part of a vectored send (both about 0.3 us)."""

ASKED_BYTES = 64
"""Bytes counted towards ``batch_bytes`` for each user who has to be checked for a status update
because it is entering or leaving audiences. A check takes as long as storing that many bytes."""

Delivery = tuple[int, bytes]
"""(length of the tape before the event, line of the event)"""

Tally = tuple[int, int, int]
"""(events routed, deliveries, bytes delivered) of one event type"""


class Fanout:
    """Routes runs of events to the sessions that are connected.

    The result depends only on the ordered stream and on who is connected at each batch.
    """

    def __init__(self, graph: FollowGraph, *, keeps_undelivered: bool = False) -> None:
        self.graph = graph
        self.refused: list[Reject] = []
        """Follows of the last batch that the graph had no room for."""
        self.undelivered: list[Undelivered] = []
        """Private messages and follows of the last batch whose recipients were not connected; only
        if ``keeps_undelivered``."""
        self._keeps_undelivered = keeps_undelivered
        self._tallies = {kind: [0, 0, 0] for kind in FIELD_COUNT}
        self._undelivered_counts = {FOLLOW: 0, PRIVATE: 0}

    def tallies(self) -> dict[bytes, Tally]:
        """Return what was routed since the start, by event type."""
        return {kind: (counts[0], counts[1], counts[2]) for kind, counts in self._tallies.items()}

    def undelivered_counts(self) -> dict[bytes, int]:
        """Return how many events since the start had a user who was not connected, by type.

        Only a follow and a private message are for one user.
        """
        return dict(self._undelivered_counts)

    def route(  # noqa: PLR0912, a call per event would cost a tenth of the speed
        self, runs: list[Run], payload_bytes: int = sys.maxsize, batch_bytes: int = sys.maxsize
    ) -> tuple[list[tuple[Recipient, Payload]], list[Run]]:
        """Route the events of the runs, in order, up to a bound.

        Return a payload for each recipient that gets anything, and the runs that are left.
        Routing stops after the event that brings the lines with recipients to ``payload_bytes``,
        or the bytes stored for all users to ``batch_bytes``.
        Follows and unfollows that did not change the graph are marked in their runs, by their type
        (``FOLLOW_UNCHANGED``). Events that were routed must not be routed again.
        A follow that the graph has no room for is valid and still notifies the user; it is added
        to ``refused``. ``undelivered`` is set as well.
        """
        graph = self.graph
        self.refused = []
        self.undelivered = []
        undelivered_counts = self._undelivered_counts
        everybody = len(graph.recipients)
        tallies = self._tallies
        broadcasts: list[bytes] = []
        tape_size = line_bytes = stored_bytes = 0
        own: defaultdict[Member, list[Delivery]] = defaultdict(list)
        for index, run in enumerate(runs):
            if run.void:
                continue
            for sequence, line, kind, sender, target in run.events:
                tally = tallies[kind]
                tally[0] += 1
                if kind == BROADCAST:
                    broadcasts.append(line)
                    size = len(line)
                    tape_size += size
                    stored_bytes += size
                    tally[1] += everybody
                    tally[2] += size * everybody
                else:
                    if kind == STATUS:
                        members, asked = graph.followers(sender)
                        stored_bytes += ASKED_BYTES * asked
                    elif kind == PRIVATE:
                        members = graph.member(target)
                    elif kind == FOLLOW:
                        self._follow(run, sequence, line, sender, target)
                        members = graph.member(target)
                    else:
                        if not graph.unfollow(sender, target):
                            _mark(run, sequence, UNFOLLOW_UNCHANGED)
                        continue
                    if not members and kind != STATUS:
                        undelivered_counts[kind] += 1
                        if self._keeps_undelivered:
                            self.undelivered.append(Undelivered(line, sequence))
                        continue
                    delivery = (tape_size, line)
                    sessions = 0
                    for member in members:
                        own[member].append(delivery)
                        sessions += len(member.sessions)
                    size = len(line) if members else 0
                    stored_bytes += size * len(members)
                    tally[1] += sessions
                    tally[2] += size * sessions
                line_bytes += size
                if line_bytes >= payload_bytes or stored_bytes >= batch_bytes:
                    return self._payloads(broadcasts, own), _unrouted_runs(sequence, runs[index:])
        return self._payloads(broadcasts, own), []

    def _follow(self, run: Run, sequence: int, line: bytes, sender: int, target: int) -> None:
        if (result := self.graph.follow(sender, target)) == CHANGED:
            return
        _mark(run, sequence, FOLLOW_UNCHANGED)
        if result == REFUSED:
            self.refused.append(Reject(Reason.GRAPH_FULL, line, sequence))

    def _payloads(
        self, broadcasts: list[bytes], own: dict[Member, list[Delivery]]
    ) -> list[tuple[Recipient, Payload]]:
        tape = Tape(b"".join(broadcasts))
        payloads: list[tuple[Recipient, Payload]] = []
        for member, deliveries in own.items():
            payload = _weave(tape, deliveries)
            payloads += [(recipient, payload) for recipient in member.sessions]
        if tape.data:
            shared = Payload([tape.data], len(tape.data), 0, tape)
            served = {recipient for recipient, _ in payloads}
            payloads += [(other, shared) for other in self.graph.recipients if other not in served]
        return payloads


def _mark(run: Run, sequence: int, kind: bytes) -> None:
    """Change the type of an event."""
    _, line, _, sender, target = run.events[sequence - run.first]
    run.events[sequence - run.first] = sequence, line, kind, sender, target


def _unrouted_runs(sequence: int, runs: list[Run]) -> list[Run]:
    """Return what is left of the runs after ``sequence``, a number in the first of them."""
    first, *others = runs
    return [first.clip(sequence + 1, first.end), *others] if sequence + 1 < first.end else others


def _weave(tape: Tape, deliveries: list[Delivery]) -> Payload:
    """Build a user's payload: the user's own events between the broadcasts."""
    parts: list[bytes | memoryview] = []
    own: list[bytes] = []
    data = tape.data
    mark = referred = 0
    for position, line in [*deliveries, (len(data), b"")]:
        if position - mark >= SLICE_BYTES:
            if own:
                parts.append(b"".join(own))
                own = []
            parts.append(memoryview(data)[mark:position])
            referred += position - mark
        elif position != mark:
            own.append(data[mark:position])
        mark = position
        own.append(line)
    if rest := b"".join(own):
        parts.append(rest)
    size = sum(map(len, parts))
    return Payload(parts, size, size - referred, tape)
