"""The rounds of the soak: in each, a source plays one stream while clients connect and leave.

At the end of a round all visitors have left, and the server holds what it held at the end of
the previous round.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import gevent
from end_to_end.peers import Address, Client, Source, until

from .clients import Checked, Visitors
from .stream import USERS, Stream

STAYING = 20
"""Clients that stay connected through all rounds."""
VISITORS = 24
EVENTS = 6_000
PATIENCE = 60.0
CHUNK_BYTES = 4_000


class Rounds:
    """Rounds played against a server; all but the timing follows from the seed."""

    def __init__(
        self, source: Address, clients: Address, sessions: Path, seed: int, counts: Counter[str]
    ) -> None:
        self._sessions = sessions
        self._counts = counts
        self._source_address = source
        self._client_address = clients
        self._seed = seed
        self._pick = random.Random(seed)
        self._staying = [self._stay(user) for user in self._pick.choices(USERS, k=STAYING)]
        self._readers = [gevent.spawn(client.read_on) for client in self._staying]

    def next_stream(self) -> Stream:
        """Return the stream of the next round."""
        self._pick = random.Random(f"{self._seed} {self._counts['rounds']}")
        self._ending = self._pick.choice(["close", "half line", "reset"])
        # A reset follows only when all events are delivered; those behind a gap would not be yet.
        return Stream(self._pick, EVENTS, gaps=self._ending != "reset")

    def play(self, stream: Stream) -> None:
        """Play one round; raise AssertionError if a check fails."""
        for client in self._staying:
            client.begin(stream, 0)
        visitors = Visitors(self._client_address, self._sessions, self._pick, stream)
        source = Source(self._source_address)
        self._send(source, stream, visitors)
        if self._ending == "reset":
            self._await_all()
            source.send(b"7|B")
            source.reset()
        else:
            source.send(b"7|" if self._ending == "half line" else b"")
            source.half_close()
            source.read_until_closed()
            source.close()
            self._await_all()
        visitors.await_all(PATIENCE)
        self._count(stream, visitors)

    def close(self) -> None:
        """Wait, after the server has stopped, until every staying client has seen the end."""
        gevent.joinall(self._readers, timeout=PATIENCE, raise_error=True)
        assert all(client.ended for client in self._staying), "a connection did not end"

    def _stay(self, user: int) -> Checked:
        client = Client(self._client_address)
        client.send(b"%d\n" % user)
        return Checked(client, user)

    def _send(self, source: Source, stream: Stream, visitors: Visitors) -> None:
        """Send the stream in chunks, while visitors connect, and now and then a second source."""
        chunks = range(0, len(stream.sent), CHUNK_BYTES)
        arrivals = Counter(self._pick.choices(chunks, k=VISITORS))
        for start in chunks:
            for _ in range(arrivals[start]):
                visitors.send_in(start)
            if self._pick.random() < 0.02:
                self._intrude()
            source.send(stream.sent[start : start + CHUNK_BYTES])
            gevent.sleep(0.01)

    def _intrude(self) -> None:
        intruder = Source(self._source_address)
        intruder.send_in_background(b"1|P|666|1\n")
        intruder.read_until_closed()
        intruder.close()
        self._counts["sources refused"] += 1

    def _await_all(self) -> None:
        def have_all() -> bool:
            for reader in self._readers:
                assert not reader.ready() or reader.get(), "a staying client was disconnected"
            return all(client.has_all() for client in self._staying)

        until(have_all, "every staying client to get the round's last line", PATIENCE)

    def _count(self, stream: Stream, visitors: Visitors) -> None:
        self._counts["rounds"] += 1
        self._counts["lines sent"] += stream.sent.count(b"\n")
        self._counts["visitors"] += visitors.arrived
        self._counts["lines checked"] += visitors.lines
        self._counts["lines checked"] += sum(
            len(stream.expected[client.user]) for client in self._staying
        )
