"""Make the sources and clients of a play, as its conduct says."""

import socket
from collections.abc import Sequence

from simulator.play.acknowledgements import Acknowledgement
from simulator.play.client import Client
from simulator.play.conduct import Conduct, Timing
from simulator.play.resending import Connect, ResendingSource
from simulator.play.resuming import ResumingClient
from simulator.play.source import Source
from simulator.play.timestamps import Timestamps
from simulator.play.unsteady import UnsteadySession
from simulator.stream.oracle import Expectation
from simulator.stream.workload import Chunk


class Peers:
    """Makes sources and clients over connections."""

    def __init__(
        self, timing: Timing, conduct: Conduct, source_timestamps: Timestamps, connect: Connect
    ) -> None:
        self._timing = timing
        self._conduct = conduct
        self._source_timestamps = source_timestamps
        self._connect = connect  # a source again

    def source(
        self, connection: socket.socket, chunks: Sequence[Chunk], first: Acknowledgement | None
    ) -> Source:
        """Return a source; it sends again if it has a first acknowledgement."""
        rate, cut, lines = self._timing.rate, self._conduct.cut, self._conduct.log_lines
        if first is None:
            timestamps = self._source_timestamps if self._conduct.timed else None
            return Source(connection, chunks, rate, cut=cut, timestamps=timestamps, lines=lines)
        return ResendingSource(
            *(connection, chunks, rate),
            first=first,
            last=self._conduct.last,
            connect=self._connect,
            timeout=self._timing.timeout,
            cut=cut,
            lines=lines,
        )

    def client(
        self, user: int, connection: socket.socket, expected: Expectation
    ) -> Client | UnsteadySession:
        """Return a client; how it behaves depends on its user."""
        conduct = self._conduct
        if (habit := conduct.habits.get(user)) is not None:
            return UnsteadySession(user, connection, expected, habit)
        lines = conduct.log_lines
        if (leavings := conduct.resuming.get(user)) is not None:
            return ResumingClient(user, connection, expected, leavings, lines=lines)
        timestamps = Timestamps() if user in conduct.timed else None
        return Client(user, connection, expected, timestamps=timestamps, lines=lines)
