"""Random streams, compared with a simple model that handles one event at a time."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from .peers import joined, until
from .running import Maze

USERS = 12
"""Users with sessions: 0 to 7, user 0 with two. The others never connect."""
CONNECTED = [*range(8), 0]
JUNK = [b"", b"x", b"|", b"-1|B", b"1 |B", b"\xff\x00|B", b"99999999999999999999|B"]


class Stream:
    """A random stream: its lines in order, and the disorder in which they are sent."""

    def __init__(self, seed: int, count: int) -> None:
        self.pick = random.Random(seed)
        self.lines = [self._line(number) for number in range(1, count + 1)]

    def _line(self, number: int) -> bytes:
        pick = self.pick
        sender, target = pick.randrange(USERS), pick.randrange(USERS)
        kind = pick.choices("FUBPSX", weights=[30, 10, 5, 25, 28, 2])[0]
        end = pick.choice([b"\n", b"\n", b"\r\n"])
        zeros = b"0" * pick.choice([0, 0, 0, 1, 19])
        if kind == "B":
            return zeros + b"%d|B" % number + end
        if kind == "S":
            return zeros + b"%d|S|%d" % (number, sender) + end
        return zeros + b"%d|%c|%d|" % (number, ord(kind), sender) + zeros + b"%d" % target + end

    def sent(self) -> bytes:
        """Return the lines shuffled in windows, with duplicates, stale lines and junk added."""
        pick = self.pick
        sent: list[bytes] = []
        window = pick.choice([1, 10, 100, len(self.lines)])
        for start in range(0, len(self.lines), window):
            batch = self.lines[start : start + window]
            batch += [line for line in batch if pick.random() < 0.1]
            if start:
                batch += pick.choices(self.lines[:start], k=pick.randrange(3))
            pick.shuffle(batch)
            for line in batch:
                if pick.random() < 0.05:
                    sent.append(pick.choice(JUNK) + b"\n")
                sent.append(line)
        return joined(sent)


def expected_of(lines: list[bytes]) -> list[bytes]:
    """Return what each of CONNECTED has to receive."""
    followers: defaultdict[int, set[int]] = defaultdict(set)
    got: list[list[bytes]] = [[] for _ in CONNECTED]
    for line in lines:
        _, kind, *users = line.decode().strip().split("|")
        sender, target = [*map(int, users), -1, -1][:2]
        if kind == "F":
            followers[target].add(sender)
        elif kind == "U":
            followers[target].discard(sender)
        for user, inbox in zip(CONNECTED, got, strict=True):
            told = {
                "F": user == target,
                "B": True,
                "P": user == target,
                "S": user in followers[sender],
            }
            if told.get(kind, False):
                inbox.append(line)
    return [joined(inbox) for inbox in got]


@pytest.mark.parametrize("seed", range(12))
def test_clients_receive_what_the_model_predicts(maze: Maze, seed: int) -> None:
    stream = Stream(seed, count=3_000)
    clients = maze.clients(*CONNECTED)
    source = maze.source()
    sent = stream.sent()
    at = 0
    while at < len(sent):
        size = stream.pick.choice([1, 7, 100, 5_000, 60_000])
        source.send(sent[at : at + size])
        at += size
    marker = b"%d|B\n" % (len(stream.lines) + 1)
    source.send(marker)
    for client, expected in zip(clients, expected_of(stream.lines), strict=True):
        client.expect(expected)
        client.expect_nothing_before(marker)


@pytest.mark.parametrize("seed", range(100, 104))
def test_clients_that_connect_and_leave_receive_whole_lines_in_order(maze: Maze, seed: int) -> None:
    stream = Stream(seed, count=6_000)
    source = maze.source()
    sending = source.send_in_background(joined(stream.lines))
    positions = {line: index for index, line in enumerate(stream.lines)}
    staying = maze.clients(*CONNECTED[1:3])
    while not sending.dead or maze.server.router.stats.routed_events < 5_000:
        visitor = maze.client(stream.pick.choice(CONNECTED))
        inbox = visitor.read_in_background()
        until(lambda i=inbox, s=sending: i.size or s.dead, "the visitor to receive anything")  # type: ignore[misc]
        visitor.half_close()
        received = inbox.all().splitlines(keepends=True)
        found = [positions[line] for line in received[:-1]]
        assert found == sorted(set(found))
    source.send(b"6001|B\n")
    for client in staying:
        received = [b""]
        while received[-1] != b"6001|B\n":
            received.append(client.read_line())
        found = [positions[line] for line in received[1:-1]]
        assert found == sorted(set(found))
