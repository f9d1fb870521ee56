"""A batch and the follow graph in, one payload per session out.

Broadcasts are stored once. A batch has a *tape*: its broadcast lines, joined.
The sessions that got nothing of their own share one payload, the tape itself;
so a broadcast to 1,000 sessions costs one append. A session that did get
something of its own keeps, for each such event, how long the tape was at that
moment; its payload is slices of the tape up to there, and the event, in turn.
"""

import sys
from collections import defaultdict

from maze.core.events import BROADCAST, FIELD_COUNT, FOLLOW, PRIVATE, STATUS, Run
from maze.core.graph import FollowGraph, Recipient
from maze.core.payload import Payload, Tape
from maze.core.rejects import Reason, Reject

SLICE_BYTES = 4096
"""A slice of the tape that is shorter is copied, a longer one referred to: about here a
copy begins to cost more than one part more in a vectored send (both some 0.3 us)."""

MOST_MOVES = 500_000
"""so often may recipients come into audiences and leave them in one batch: some 30 ms. A follow
by a user with a thousand sessions is a thousand of them."""

Delivery = tuple[int, bytes]
"""(length of the tape before the event, the event's line)"""

Tally = tuple[int, int, int]
"""(events routed, deliveries, bytes of these deliveries) of one type"""


class Fanout:
    """Routes runs; a pure function of the ordered stream and of who is connected when."""

    def __init__(self, graph: FollowGraph) -> None:
        self.graph = graph
        self.refused: list[Reject] = []
        """the follows of the batch routed last for which the graph had no room"""
        self._tallies = {kind: [0, 0, 0] for kind in FIELD_COUNT}

    def tallies(self) -> dict[bytes, Tally]:
        """What was routed since the start, by event type."""
        return {kind: (counts[0], counts[1], counts[2]) for kind, counts in self._tallies.items()}

    def route(  # noqa: PLR0912 - a call an event would cost a tenth
        self, runs: list[Run], payload_bytes: int = sys.maxsize, batch_bytes: int = sys.maxsize
    ) -> tuple[list[tuple[Recipient, Payload]], list[Run]]:
        """Route the events of the runs, in order, up to a bound.

        Returns a payload for each recipient that gets anything, and the runs
        that are left. Routing stops behind the event with which the lines that
        concern anybody reach ``payload_bytes``, or the bytes to be stored for
        all reach ``batch_bytes``, or audiences have changed too often. A follow
        for which the graph has no room is notified all the same, for the event
        is valid; it is one of ``refused``.
        """
        graph = self.graph
        graph.moves = 0
        self.refused = []
        everybody = len(graph.recipients)
        tallies = self._tallies
        broadcasts: list[bytes] = []
        tape_size = line_bytes = stored_bytes = 0
        own: defaultdict[Recipient, list[Delivery]] = defaultdict(list)
        for index, run in enumerate(runs):
            if run.void:
                continue
            for sequence, line, kind, sender, target in run.events:
                if graph.moves >= MOST_MOVES:
                    return self._payloads(broadcasts, own), _behind(sequence - 1, runs[index:])
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
                        recipients = graph.audience(sender)
                    elif kind == PRIVATE:
                        recipients = graph.of_user(target)
                    elif kind == FOLLOW:
                        self._follow(sequence, line, sender, target)
                        recipients = graph.of_user(target)
                    else:
                        graph.unfollow(sender, target)
                        continue
                    if not recipients:
                        continue
                    delivery = (tape_size, line)
                    for recipient in recipients:
                        own[recipient].append(delivery)
                    size = len(line)
                    stored_bytes += size * len(recipients)
                    tally[1] += len(recipients)
                    tally[2] += size * len(recipients)
                line_bytes += size
                if line_bytes >= payload_bytes or stored_bytes >= batch_bytes:
                    return self._payloads(broadcasts, own), _behind(sequence, runs[index:])
        return self._payloads(broadcasts, own), []

    def _follow(self, sequence: int, line: bytes, sender: int, target: int) -> None:
        if not self.graph.follow(sender, target):
            self.refused.append(Reject(Reason.GRAPH_FULL, line, sequence))

    def _payloads(
        self, broadcasts: list[bytes], own: dict[Recipient, list[Delivery]]
    ) -> list[tuple[Recipient, Payload]]:
        tape = Tape(b"".join(broadcasts))
        payloads = [(recipient, _weave(tape, own[recipient])) for recipient in own]
        if tape.data:
            size = len(tape.data)
            shared = Payload([tape.data], size, 0, tape)
            payloads += [(other, shared) for other in self.graph.recipients if other not in own]
        return payloads


def _behind(sequence: int, runs: list[Run]) -> list[Run]:
    """The runs, the first of which holds the number, from the number after it."""
    first, *others = runs
    return [first.clip(sequence + 1, first.end), *others] if sequence + 1 < first.end else others


def _weave(tape: Tape, deliveries: list[Delivery]) -> Payload:
    """One session's payload: its own events between the broadcasts."""
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
