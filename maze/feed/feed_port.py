"""The feed port: an ingest serves its journal to edges.

The batches committed last come from a ring, older ones from the journal's file, read by a native
thread. An edge that wants what is not committed yet waits for the next commit. Each edge asks only
for what it has room for, so a slow one holds up nobody.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from hmac import compare_digest
from itertools import chain
from time import monotonic
from typing import IO

import gevent
import structlog
from gevent.event import Event
from gevent.socket import socket

from maze.core import Position
from maze.feed.messages import (
    MAX_GREETING_BYTES,
    READ,
    SNAPSHOT,
    STATE,
    Greeting,
    Read,
    State,
    encode_batch,
    encode_error,
    encode_snapshot,
)
from maze.feed.ring import Ring
from maze.journal.frames import Frame, FrameError, read_frames
from maze.journal.journal import Batch, JournalError, JournalReader
from maze.net.native_thread import run_in_thread
from maze.net.peer import Address, Peer
from maze.net.sockets import current_greenlet, send_at_once

log = structlog.get_logger()

GREETING_SECONDS = 5.0
"""Time for an edge to send its first line."""

MAX_REQUEST_BYTES = 1024
"""Size of the largest request."""


class Edge:
    """An edge that is connected."""

    def __init__(self, name: str, peer: Peer) -> None:
        self.name = name
        self.peer = peer
        self.greenlet = current_greenlet()
        self.routed: Position | None = None
        """What it has routed, as it said last; None if it does not follow on this connection."""
        self.knows_end = False
        """Whether it was told that nothing follows."""
        self.has: Position | None = None
        """What it has got and asked to continue from."""
        self.moved_at = 0.0
        """When that last changed, by the monotonic clock."""
        self.sent_bytes = 0
        self.has_committed = Event()


class FeedPort:
    """Serves a journal to edges. ``position`` returns up to where it is durable.

    ``on_move`` is called with the position of the edge that is furthest behind, whenever that may
    have changed; with None if there is no edge.
    """

    def __init__(
        self,
        reader: JournalReader,
        ring: Ring,
        position: Callable[[], Position],
        token: str,
        on_move: Callable[[Position | None], None] = lambda position: None,
    ) -> None:
        self._on_move = on_move
        self._reader = reader
        self._ring = ring
        self._position = position
        self._token = token
        self._kept_from = ring.position
        self._needless_below = Position(0, 0)
        self._has_ended = False
        self._is_closed = False
        self._edges: dict[Edge, None] = {}
        self.dropped = 0
        """Edges that were dropped because they held up the sources."""
        self.sent_bytes = {"ring": 0, "file": 0, "snapshot": 0}
        """Bytes sent to edges, by where they came from."""
        self._someone_moved = Event()
        self._greenlets: set[gevent.Greenlet[..., object]] = set()

    @property
    def edges(self) -> list[Edge]:
        """The edges that follow the journal."""
        return list(self._edges)

    def edges_status(self) -> list[dict[str, object]]:
        """Return what is known of each edge that follows; ``lag_events`` are not routed yet."""
        epoch, number = self._position()
        return [
            {
                "name": edge.name,
                "address": edge.peer,
                "position": str(edge.routed),
                "lag_events": number - edge.routed.next if edge.routed.epoch == epoch else number,
                "sent_bytes": edge.sent_bytes,
            }
            for edge in self._edges
            if edge.routed  # it does: this is for the type checker
        ]

    def begin(self) -> None:
        """Begin where the journal ends; nothing was served yet."""
        self._ring.begin(self._position())

    def on_committed(self, batches: Sequence[Batch]) -> None:
        """Keep batches that were committed, and serve the edges that wait for them."""
        self._ring.add(batches)
        self._wake()

    def finish(self, timeout: float) -> bool:
        """Tell edges that nothing follows, and wait until all have routed everything.

        Return False if some have not after ``timeout`` seconds.
        """
        self._has_ended = True
        self._wake()
        deadline = monotonic() + timeout
        while any(edge.routed != self._position() for edge in self._edges):
            self._someone_moved.clear()
            if not self._someone_moved.wait(max(0.0, deadline - monotonic())):
                return False
        return True

    def drop_behind(self, position: Position, seconds: float) -> None:
        """Drop edges that are below a position and have not moved for so long.

        What they need is no longer kept for them, even if they connect again.
        """
        now = monotonic()
        for edge in self.edges:
            if edge.has and edge.has < position and now - edge.moved_at > seconds:
                self._needless_below = position
                self.dropped += 1
                log.error("edge_dropped", edge=edge.name, peer=edge.peer, position=str(edge.has))
                edge.greenlet.kill(block=False)

    def close(self) -> None:
        """End all connections."""
        self._is_closed = True
        gevent.killall(list(self._greenlets), block=False)

    def handle(self, sock: socket, address: Address) -> None:
        """Serve one connection. The listener calls this in a greenlet of its own."""
        if self._is_closed:  # the connection was accepted before the port closed
            return
        greenlet = current_greenlet()
        self._greenlets.add(greenlet)
        try:
            self._handle(sock, address)
        finally:
            self._greenlets.discard(greenlet)

    def _handle(self, sock: socket, address: Address) -> None:
        peer = Peer(address)
        with suppress(OSError):
            send_at_once(sock)
        sock.settimeout(GREETING_SECONDS)
        try:
            with sock.makefile("rb") as requests:
                greeting = self._greeting(sock, requests, peer)
                if greeting is None:
                    return
                sock.settimeout(None)
                self._serve(sock, requests, Edge(greeting.name, peer))
        except OSError as error:
            log.debug("edge_cut_off", edge=peer, error=str(error.strerror or error))

    def _greeting(self, sock: socket, requests: IO[bytes], peer: Peer) -> Greeting | None:
        """Return the edge's greeting; None, once it was told why, if it is refused."""
        line = requests.readline(MAX_GREETING_BYTES)
        if not line:  # who connected only looked whether somebody listens
            return None
        greeting = Greeting.decode(line)
        if greeting is None:
            reason = "this is the feed of a Follower Maze ingest, for edges of the same version"
        elif not compare_digest(greeting.token.encode(), self._token.encode()):
            reason = "the token is wrong: set MAZE_FEED_TOKEN to that of the ingest"
        else:
            sock.sendall(self._state().encode())
            return greeting
        log.warning("edge_refused", edge=peer, reason=reason)
        sock.sendall(encode_error(JournalError(reason)))
        return None

    def _serve(self, sock: socket, requests: IO[bytes], edge: Edge) -> None:
        reason = "left"
        try:
            for request in read_frames(requests, MAX_REQUEST_BYTES):
                for part in self._answer(edge, request):
                    sock.sendall(part)
                    edge.sent_bytes += len(part)
        except (FrameError, OSError) as error:
            reason = str(getattr(error, "strerror", None) or error)
        finally:
            if edge in self._edges:
                del self._edges[edge]
                self._note_move()
                log.info("edge_disconnected", edge=edge.name, peer=edge.peer, reason=reason)

    def _answer(self, edge: Edge, request: Frame) -> Iterable[bytes]:
        """Return the frames that answer a request."""
        frames: Iterable[bytes] = []
        try:
            if request.kind == READ:
                frames = self._read(edge, Read.decode(request.content))
            elif request.kind == SNAPSHOT:
                frames = self._snapshot()
            elif request.kind == STATE:
                self._kept_from = run_in_thread(self._reader.kept_from)
            else:
                raise FrameError("it sent an unknown request")
        except JournalError as error:
            return [encode_error(error)]
        return chain(frames, [self._state().encode()])

    def _read(self, edge: Edge, request: Read) -> Iterable[bytes]:
        after = request.after
        if request.wait_milliseconds:  # the edge follows the journal on this connection
            if edge not in self._edges:
                self._edges[edge] = None
                log.info("edge_connected", edge=edge.name, peer=edge.peer)
            edge.routed = request.routed
            if edge.has != after:
                edge.has, edge.moved_at = after, monotonic()
            self._note_move()
            is_done = edge.knows_end and edge.routed == after
            if after == self._position() and (is_done or not self._has_ended):
                edge.has_committed.clear()
                edge.has_committed.wait(request.wait_milliseconds / 1000)
            edge.knows_end = self._has_ended
        if after == self._position():
            return []
        frames = self._ring.frames_after(after, request.max_bytes)
        if frames is not None:
            return self._counted("ring", frames)
        batches = run_in_thread(self._reader.read, after, request.max_bytes)
        return self._counted("file", map(encode_batch, batches))

    def _snapshot(self) -> Iterable[bytes]:
        snapshot = run_in_thread(self._reader.get_snapshot, _report_unusable)
        return self._counted("snapshot", encode_snapshot(snapshot) if snapshot else [])

    def _counted(self, origin: str, frames: Iterable[bytes]) -> Iterator[bytes]:
        """Yield frames, and count their bytes as they are sent."""
        for frame in frames:
            self.sent_bytes[origin] += len(frame)
            yield frame

    def _state(self) -> State:
        return State(self._position(), self._kept_from, self._has_ended)

    def _note_move(self) -> None:
        self._someone_moved.set()
        needed = (edge.has for edge in self._edges if edge.has and edge.has >= self._needless_below)
        self._on_move(min(needed, default=None))

    def _wake(self) -> None:
        for edge in self._edges:
            edge.has_committed.set()


def _report_unusable(message: str) -> None:
    log.warning("snapshot_not_used", error=message)
