"""The feed port: an ingest serves its journal to edges.

The batches committed last come from a ring, older ones from the journal's file, read by a native
thread. An edge that wants what is not committed yet waits for the next commit. Each edge asks only
for what it has room for, so a slow one holds up nobody.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from hmac import compare_digest
from io import BufferedReader
from socket import SHUT_WR
from time import monotonic
from typing import IO, TypeVar

import gevent
import structlog
from gevent.event import Event
from gevent.socket import socket

from maze.core import Position
from maze.feed.messages import (
    ALIVE,
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
from maze.journal.journal import (
    Batch,
    JournalError,
    JournalReader,
    TrimmedError,
    UnavailableError,
)
from maze.listener.access import Access
from maze.listener.handshake_rejects import HandshakeError, HandshakeReason
from maze.listener.tls import TLS_HANDSHAKE
from maze.net.connection import Connection
from maze.net.frames import Frame, FrameError, encode_frame, read_frames
from maze.net.native_thread import ThreadCall
from maze.net.peer import Address, Peer
from maze.net.serving import Serving
from maze.net.sockets import current_greenlet, send_at_once
from maze.net.stream import file_of

log = structlog.get_logger()

GREETING_SECONDS = 5.0
"""Time for an edge to send its first line."""

MAX_REQUEST_BYTES = 1024
"""Size of the largest request."""

ALIVE_SECONDS = 1.0
"""Time after which an edge that waits for the disk is told that the ingest is still there."""

CLOSE_SECONDS = 1.0
"""Time for a refused edge to read the reason and close its connection."""

Result = TypeVar("Result")


class EdgeConnection:
    """The connection of an edge."""

    def __init__(self, name: str, peer: Peer, connection: Connection) -> None:
        self.name = name
        self.peer = peer
        self.connection = connection
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
        self.woken = Event()

    def wait(self, seconds: float) -> None:
        """Wait until the edge is woken or has left, for at most ``seconds``."""
        self.woken.clear()
        # An edge that waits for an answer sends nothing, so if there is something to read, it left.
        watcher = gevent.get_hub().loop.io(self.connection.descriptor, 1)
        watcher.start(self.woken.set)
        try:
            self.woken.wait(seconds)
        finally:
            watcher.stop()
            watcher.close()


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
        *,
        on_move: Callable[[Position | None], None] = lambda position: None,
        access: Access | None = None,
    ) -> None:
        self._on_move = on_move
        self._reader = reader
        self._ring = ring
        self._position = position
        self._token = token
        self._access = access
        self._kept_from = ring.position
        self._needless_below = Position(0, 0)
        self._has_ended = False
        self._edges: dict[EdgeConnection, None] = {}
        self.dropped = 0
        """Number of edges dropped because they held up the sources."""
        self.sent_bytes = {"ring": 0, "file": 0, "snapshot": 0}
        """Bytes sent to edges, by origin."""
        self._someone_moved = Event()
        self.serving = Serving()

    @property
    def edges(self) -> list[EdgeConnection]:
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
        self.serving.close()

    def handle(self, sock: socket, address: Address) -> None:
        """Serve one connection. The listener calls this in a greenlet of its own."""
        self.serving.run(self._handle, sock, address)

    def _handle(self, sock: socket, address: Address) -> None:
        peer = Peer(address)
        send_at_once(sock)
        try:
            connection = self._authorized(sock, address, peer)
            if connection is None:
                return
            connection.settimeout(GREETING_SECONDS)
            with file_of(connection) as requests:
                greeting = self._greeting(connection, requests, peer)
                if greeting is not None:
                    connection.settimeout(None)
                    edge = EdgeConnection(greeting.name, peer, connection)
                    self._serve(edge, requests)
            connection.send_close_notify()
        except OSError as error:
            log.debug("edge_cut_off", edge=peer, error=str(error.strerror or error))

    def _authorized(self, sock: socket, address: Address, peer: Peer) -> Connection | None:
        """Return the connection, after its TLS handshake if there is one; None if it is refused."""
        if self._access is None:
            return Connection(sock)
        try:
            return self._access.authorize(sock, address, self._access.deadline())[0]
        except HandshakeError as error:
            is_plain = error.reason is HandshakeReason.PLAIN_TEXT
            if is_plain:  # what it sent is not logged: it may hold the token
                error.detail = "the feed is over TLS, and the edge has no feed-tls-ca"
            self._access.rejects.record(error, peer)
            if is_plain:
                reason = "the ingest serves its feed over TLS: set --feed-tls-ca"
                sock.sendall(encode_error(UnavailableError(reason)))
        except Exception:  # affects this connection only
            self._access.rejects.fail(peer)
        _await_close(sock)
        return None

    def _greeting(
        self, connection: Connection, requests: BufferedReader, peer: Peer
    ) -> Greeting | None:
        """Return the edge's greeting; None, once it was told why, if it is refused."""
        if requests.peek(1)[:1] == TLS_HANDSHAKE and connection.direct:
            reason = "it speaks TLS, and this feed is plain: set feed-tls-cert and feed-tls-key"
            self._refuse(connection, peer, reason)
            return None
        line = requests.readline(MAX_GREETING_BYTES)
        if not line:  # who connected only looked whether somebody listens
            return None
        greeting = Greeting.decode(line)
        if greeting is None:
            reason = "this is the feed of a Follower Maze ingest, for edges of the same version"
        elif not compare_digest(greeting.token.encode(), self._token.encode()):
            reason = "the token is wrong: set MAZE_FEED_TOKEN to that of the ingest"
        else:
            connection.send_all(self._state().encode())
            return greeting
        self._refuse(connection, peer, reason)
        return None

    def _refuse(self, connection: Connection, peer: Peer, reason: str) -> None:
        log.warning("edge_refused", edge=peer, reason=reason)
        connection.send_all(encode_error(JournalError(reason)))

    def _serve(self, edge: EdgeConnection, requests: IO[bytes]) -> None:
        reason = "left"
        try:
            for request in read_frames(requests, MAX_REQUEST_BYTES):
                for part in self._answer(edge, request):
                    edge.connection.send_all(part)
                    edge.sent_bytes += len(part)
        except BrokenPipeError:  # it has left before it was answered
            pass
        except (FrameError, OSError) as error:
            reason = str(getattr(error, "strerror", None) or error)
        finally:
            if edge in self._edges:
                del self._edges[edge]
                self._note_move()
                log.info("edge_disconnected", edge=edge.name, peer=edge.peer, reason=reason)

    def _answer(self, edge: EdgeConnection, request: Frame) -> Iterator[bytes]:
        """Yield the frames that answer a request."""
        try:
            if request.kind == READ:
                yield from self._read(edge, Read.decode(request.content))
            elif request.kind == SNAPSHOT:
                yield from self._snapshot()
            elif request.kind == STATE:
                self._kept_from = yield from _in_thread(self._reader.kept_from)
            else:
                raise FrameError("it sent an unknown request")
        except JournalError as error:
            if isinstance(error, TrimmedError):  # so nothing has to be kept for it
                edge.has = None
                self._note_move()
            yield encode_error(error)
        else:
            yield self._state().encode()

    def _read(self, edge: EdgeConnection, request: Read) -> Iterator[bytes]:
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
                edge.wait(request.wait_milliseconds / 1000)
            edge.knows_end = self._has_ended
        if after == self._position():
            return
        frames = self._ring.frames_after(after, request.max_bytes)
        if frames is not None:
            yield from self._counted("ring", frames)
        else:
            batches = yield from _in_thread(self._reader.read, after, request.max_bytes)
            yield from self._counted("file", map(encode_batch, batches))

    def _snapshot(self) -> Iterator[bytes]:
        snapshot = yield from _in_thread(self._reader.get_snapshot, _report_unusable)
        if snapshot:
            yield from self._counted("snapshot", encode_snapshot(snapshot))

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
            edge.woken.set()


def _report_unusable(message: str) -> None:
    log.warning("snapshot_not_used", error=message)


def _in_thread(call: Callable[..., Result], *arguments: object) -> Generator[bytes, None, Result]:
    """Return what a call in a native thread returns; yield signs of life until then."""
    running = ThreadCall(call, *arguments)
    while not running.wait(ALIVE_SECONDS):
        yield encode_frame(ALIVE, b"")
    return running.result()


def _await_close(sock: socket) -> None:
    """Wait until the peer has read what was sent, and closes; a reset could discard it."""
    with suppress(OSError), gevent.Timeout(CLOSE_SECONDS, False):  # type: ignore[arg-type]
        sock.settimeout(None)
        sock.shutdown(SHUT_WR)
        while sock.recv(MAX_REQUEST_BYTES):
            pass
