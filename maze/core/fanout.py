"""A batch and the follow graph in, one payload per session out.

Broadcasts are stored once. A batch has a *tape*: its broadcast lines, joined.
A session that got nothing of its own is handed the tape, the same object for
all; so a broadcast to 1,000 sessions costs one append. A session that did get
something of its own keeps, for each such event, how long the tape was at that
moment; its payload is slices of the tape up to there, and the event, in turn.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from maze.core.events import BROADCAST, FOLLOW, PRIVATE, STATUS, Run
from maze.core.graph import FollowGraph, Recipient

Delivery = tuple[int, bytes]
"""(length of the tape before the event, the event's line)"""


class Fanout:
    """Routes runs; a pure function of the ordered stream and of who is connected when."""

    def __init__(self, graph: FollowGraph) -> None:
        self.graph = graph

    def route(self, runs: Iterable[Run]) -> list[tuple[Any, bytes]]:
        """Route every event of the runs, in order.

        Returns (session, payload) for each session that gets anything, where
        session is what the recipient was connected with. Sessions that get
        the broadcasts alone share one payload object.
        """
        graph = self.graph
        broadcasts: list[bytes] = []
        tape_size = 0
        own: defaultdict[Recipient, list[Delivery]] = defaultdict(list)
        for run in runs:
            for _, line, kind, sender, target in run.events:
                if kind == BROADCAST:
                    broadcasts.append(line)
                    tape_size += len(line)
                    continue
                if kind == STATUS:
                    recipients = graph.audience(sender)
                elif kind == PRIVATE:
                    recipients = graph.of_user(target)
                elif kind == FOLLOW:
                    graph.follow(sender, target)
                    recipients = graph.of_user(target)
                else:
                    graph.unfollow(sender, target)
                    continue
                if recipients:
                    delivery = (tape_size, line)
                    for recipient in recipients:
                        own[recipient].append(delivery)
        tape = b"".join(broadcasts)
        payloads = [(recipient.session, _weave(tape, own[recipient])) for recipient in own]
        if tape:
            payloads += [(other.session, tape) for other in graph.recipients if other not in own]
        return payloads


def _weave(tape: bytes, deliveries: list[Delivery]) -> bytes:
    """One session's payload: its own events between the broadcasts."""
    parts: list[bytes] = []
    mark = 0
    for position, line in deliveries:
        if position != mark:
            parts.append(tape[mark:position])
            mark = position
        parts.append(line)
    parts.append(tape[mark:])
    return b"".join(parts)
