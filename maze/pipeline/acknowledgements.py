"""Acknowledgements: tells sources up to which number the journal has the events.

An acknowledgement is ``A|epoch|next``: every event below ``next`` is durable. A source that comes
back sends again from there. All sources get the same acknowledgements, on connecting and after
commits. They never hold anything up: while a source takes none, only the newest is kept for it.
"""

from __future__ import annotations

from collections.abc import Callable

import gevent
from gevent.event import Event

from maze.core import Position
from maze.net.connection import Connection, unsent_parts


def acknowledgement(position: Position) -> bytes:
    """Return the line that acknowledges everything below a position."""
    return b"A|%d|%d\n" % position


class AcknowledgedSource:
    """One source that is told of commits. ``durable`` returns the position to tell."""

    def __init__(self, connection: Connection, durable: Callable[[], Position]) -> None:
        self._connection = connection
        self._durable = durable
        self._told: Position | None = None
        self._committed = Event()
        self._committed.set()
        self._has_told = Event()
        self._greenlet = gevent.spawn(self._write)

    def on_commit(self) -> None:
        """Tell the source, as soon as it can be told."""
        self._committed.set()

    def finish(self, timeout: float) -> None:
        """Wait until the source is told the newest position, for at most ``timeout`` seconds."""
        with gevent.Timeout.start_new(timeout) as limit:
            try:
                while self._told != self._durable() and not self._greenlet.dead:
                    self._has_told.clear()
                    self._has_told.wait()
            except gevent.Timeout as error:
                if error is not limit:
                    raise

    def close(self) -> None:
        """Stop telling; return once nothing uses the connection any more."""
        self._greenlet.kill()

    def _write(self) -> None:
        while True:
            self._committed.wait()
            self._committed.clear()
            position = self._durable()
            if position != self._told and not _send_all(self._connection, position):
                self._has_told.set()
                return
            self._told = position
            self._has_told.set()


class Acknowledgements:
    """All sources that are told of commits. ``durable`` returns the position to tell."""

    def __init__(self, durable: Callable[[], Position]) -> None:
        self._durable = durable
        self._sources: set[AcknowledgedSource] = set()

    def on_commit(self) -> None:
        """Tell all sources, as soon as they can be told."""
        for source in self._sources:
            source.on_commit()

    def begin(self, connection: Connection) -> AcknowledgedSource:
        """Tell a source now and after each commit, until ``end``."""
        source = AcknowledgedSource(connection, self._durable)
        self._sources.add(source)
        return source

    def end(self, source: AcknowledgedSource) -> None:
        """Stop telling a source; return once nothing uses its connection any more."""
        self._sources.discard(source)
        source.close()


def _send_all(connection: Connection, position: Position) -> bool:
    """Send an acknowledgement, however long it takes; return False if the connection is broken."""
    parts: list[bytes | memoryview] = [acknowledgement(position)]
    while parts or connection.unsent_bytes:
        try:
            if parts:
                parts = list(unsent_parts(connection.send(parts), parts))
            else:
                connection.send_unsent()
        except BlockingIOError:
            connection.wait_writable(None)
        except OSError:  # the read of the source reports it
            return False
    return True
