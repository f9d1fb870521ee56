"""The protocol in the plainest words: one event at a time, a set of followers for each user.

Slow and clear. Tests hold the oracle against it, and the servers of these tests route with it.
"""

from collections import defaultdict
from collections.abc import Iterable

from simulator.stream.workload import Workload


class Model:
    """Who is to be notified of an event, given all events before it."""

    def __init__(self) -> None:
        self.followers: dict[int, set[int]] = defaultdict(set)

    def audience(self, line: bytes, connected: Iterable[int]) -> list[int]:
        """The connected users who receive the line, in the order of `connected`."""
        _, kind, *ids = line.decode("ascii").rstrip("\r\n").split("|")
        sender, recipient = [*map(int, ids), 0, 0][:2]
        if kind == "B":
            return list(connected)
        if kind == "S":
            return [user for user in connected if user in self.followers[sender]]
        if kind == "F":
            self.followers[recipient].add(sender)
        if kind == "U":
            self.followers[recipient].discard(sender)
            return []
        return [user for user in connected if user == recipient]


def streams(workload: Workload) -> dict[int, list[bytes]]:
    """The lines that each connected user must receive."""
    model = Model()
    received: dict[int, list[bytes]] = {user: [] for user in workload.connected}
    for step in workload.steps():
        for line in step.lines:
            for user in model.audience(line, received):
                received[user].append(line)
    return received
