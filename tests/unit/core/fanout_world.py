"""A fan-out with sessions, for its tests."""

from maze.core import Decoder, Fanout, FollowGraph, Payload, Recipient


class World:
    """A fan-out, and a session for each user that connects: ``7``, then ``7/2``, ``7/3``."""

    keeps_undelivered = False

    def __init__(self, *users: int, **bounds: int) -> None:
        self.fanout = Fanout(FollowGraph(**bounds), keeps_undelivered=self.keeps_undelivered)
        self.recipients: dict[str, Recipient] = {}
        for user in users:
            self.connect(user)

    def connect(self, user: int) -> None:
        count = 1 + sum(recipient.user == user for recipient in self.recipients.values())
        name = f"{user}" if count == 1 else f"{user}/{count}"
        self.recipients[name] = Recipient(user)
        self.fanout.graph.connect(self.recipients[name])
        self.fanout.graph._check()

    def disconnect(self, name: str) -> None:
        self.fanout.graph.disconnect(self.recipients.pop(name))
        self.fanout.graph._check()

    def payloads(self, *contents: str) -> dict[str, Payload]:
        """Route one batch of numbered lines; a payload for each session that got something."""
        stream = "".join(f"{number}|{text}\n" for number, text in enumerate(contents, start=1))
        return self.payloads_of(stream.encode())

    def payloads_of(self, stream: bytes) -> dict[str, Payload]:
        """Route one batch of whatever the stream holds."""
        runs, rejects = Decoder().feed(stream)
        assert not rejects
        payloads, rest = self.fanout.route(runs)
        assert rest == []
        self.fanout.graph._check()
        names = {recipient: name for name, recipient in self.recipients.items()}
        assert len(payloads) == len(dict(payloads)), "a session gets one payload a batch"
        return {names[recipient]: payload for recipient, payload in payloads}

    def route(self, *contents: str) -> dict[str, str]:
        """What each session got, as the numbers of the lines."""
        got: dict[str, str] = {}
        for session, payload in self.payloads(*contents).items():
            data = bytes_of(payload)
            assert data.endswith(b"\n"), "whole lines only"
            got[session] = " ".join(line.split("|")[0] for line in data.decode().splitlines())
        return got


class KeepingWorld(World):
    """A world that keeps undelivered events."""

    keeps_undelivered = True


def bytes_of(payload: Payload) -> bytes:
    data = b"".join(payload.parts)
    assert payload.size == len(data)
    return data


def crowded(*sessions: int) -> World:
    """A world in which users 1 and 2 follow 10 to 15, and nothing is entered at once."""
    world = World(at_once=0)
    follows = [f"F|{user}|{followed}" for user in (1, 2) for followed in range(10, 16)]
    assert world.route(*follows) == {}
    for user in sessions:
        world.connect(user)
    return world
