"""The source port: a greenlet per source, chunks in, runs into the reorder buffer."""

from collections import Counter
from enum import StrEnum
from typing import Any, Literal

import structlog
from gevent import Greenlet, GreenletExit
from gevent.event import Event
from gevent.socket import socket, wait_read

from maze.core import Decoder, ReorderBufferFullError, Run, is_http_request
from maze.listener.access import Access
from maze.listener.connection_limits import MAX_OPENING_SOURCES
from maze.listener.refusals import HandshakeError, HandshakeReason
from maze.listener.registration_wait import Registration
from maze.listener.tls import HANDSHAKE
from maze.log.reject_log import RejectLog
from maze.log.text import escaped
from maze.net.connection import Connection
from maze.net.peer import Address, Peer
from maze.net.sockets import current_greenlet, has_vanished, is_broken, peek, peer_has_closed
from maze.pipeline.router import Router
from maze.settings.options import Settings

log = structlog.get_logger()

CHUNK_BYTES = 256 * 1024
"""One recv: with a fifth of broadcasts it gives each client some 50 KB, a send's best size."""

SMALL_READ_BYTES = 4 * 1024
"""After less than that the next recv waits first: to ask in vain costs more than to be told.
Not with TLS, which may have in hand what its socket has not."""

SHOWN_RUNS = 20
"""of one chunk, in a line of the log"""

MAX_PEEK_BYTES = 8 * 1024
"""Looked at of what a source has sent that waits for a place: an HTTP request line fits."""

MAX_WAITING = 100
"""Connections that may wait for a place. More than ``max-sources`` can wait only if most of them
have already ended their stream."""

TLS_HANDSHAKE = bytes([HANDSHAKE])
"""first byte of every TLS connection"""


class SourceCloseReason(StrEnum):
    """Why a source's connection ended."""

    LEFT = "left"
    """it had no more to send"""
    RESET = "reset"
    """the connection broke"""
    VANISHED = "vanished"
    """the source, or the way to it, is not there any more: it does not answer"""
    GAP = "gap"
    """a gap did not fill, and the policy is to fail"""
    LINE_TOO_LONG = "line_too_long"
    """one of its lines was longer than the limit"""
    HTTP = "http"
    """its first line was an HTTP request line"""
    TLS = "tls"
    """it began a TLS handshake on a plain port"""
    STOPPED = "stopped"
    """the server stopped"""


FOREIGN = {SourceCloseReason.HTTP, SourceCloseReason.TLS}
"""Reasons that mean that the peer is not a source. Nothing that it sent is decoded: a web page can
make a browser speak these protocols to any port, and chooses much of what the browser sends."""


class SourcePort:
    """Accepts event sources, as many at a time as ``max-sources`` says.

    A source that has closed its end keeps its place until all it sent is
    routed. A new one that comes meanwhile waits for that place, so that a
    source can be restarted without being refused. A waiting source that has
    itself closed its end does not keep another from waiting behind it.
    """

    def __init__(
        self,
        settings: Settings,
        router: Router,
        rejects: RejectLog,
        registration: Registration,
        access: Access,
    ) -> None:
        self._settings = settings
        self._registration = registration
        self._router = router
        self._rejects = rejects
        self.access = access
        self._opening = 0
        self._closed = False
        self._sources: dict[socket, Peer] = {}
        self._waiting: dict[socket, tuple[Peer, Greenlet[..., Any]]] = {}
        self._has_begun = False
        """a source has sent something since the last stream ended: a probe, or an HTTP request that
        came to the wrong port, ends no stream"""
        self._ending = False
        self._line_moved = Event()
        self._greenlets: set[Greenlet[..., Any]] = set()
        self.refused = 0
        self.closed: Counter[SourceCloseReason] = Counter()
        self.received_bytes = 0
        self.traces = settings.log_level == "debug"

    @property
    def sources(self) -> list[Peer]:
        """The peers of the connected sources."""
        return list(self._sources.values())

    def handle(self, sock: socket, address: Address) -> None:
        """Serve one connection; the StreamServer spawns a greenlet for it."""
        if self._closed:  # accepted before the port was closed, and served only now
            return
        greenlet = current_greenlet()
        self._greenlets.add(greenlet)
        try:
            self._authorize(sock, address)
        finally:
            self._greenlets.discard(greenlet)

    def close(self) -> None:
        """Read no more from any source, and let nothing follow from that."""
        self._closed = True
        for greenlet in list(self._greenlets):
            greenlet.kill(block=False)

    def _authorize(self, sock: socket, address: Address) -> None:
        """Serve the connection if access control lets it in."""
        peer = Peer(address)
        self._opening += 1
        try:
            if self._opening > MAX_OPENING_SOURCES:
                raise HandshakeError(HandshakeReason.BUSY, detail="too many in the handshake")
            connection, _ = self.access.authorize(sock, address, self.access.deadline())
            self.access.check_source(connection)
        except HandshakeError as error:
            self.refused += 1
            self.access.rejects.record(error, peer)
            return
        except Exception:  # it costs this connection and no other
            self.refused += 1
            self.access.rejects.fail(peer)
            return
        finally:
            self._opening -= 1
        connection.settimeout(None)
        try:
            self._serve(sock, connection, peer)
        finally:
            connection.send_close_notify()

    def _serve(self, sock: socket, connection: Connection, peer: Peer) -> None:
        if not self._wait_for_slot(sock, peer):
            self._refuse(peer)
            return
        log.info("source_connected", source=peer)
        before = self._totals()
        reason = SourceCloseReason.STOPPED
        try:
            reason = self._read(connection, peer)
            if self._has_begun and len(self._sources) == 1:
                self._ending = True
                self._has_begun = False
                self._router.end_stream(peer)
        finally:
            self._ending = False
            del self._sources[sock]
            self._line_moved.set()
            self.closed[reason] += 1
            caused = self._totals() - before
            log.info("source_disconnected", source=peer, reason=reason.value, **caused)

    def _refuse(self, peer: Peer, **why: object) -> None:
        self.refused += 1
        log.warning("source_refused", source=peer, connected=self.sources, **why)

    def _totals(self) -> Counter[str]:
        """What was routed and what rejected since the server started."""
        rejected = {reason.value: count for reason, count in self._rejects.counts.items()}
        return Counter({"routed_events": self._router.routed_events, **rejected})

    def _wait_for_slot(self, sock: socket, peer: Peer) -> bool:
        """Give the source a place, if need be once it is its turn; return whether it got one."""
        self._drop_false_successors()
        staying = [
            other for other in (*self._sources, *self._waiting) if not peer_has_closed(other)
        ]
        if len(staying) >= self._settings.max_sources or len(self._waiting) >= MAX_WAITING:
            return False
        self._waiting[sock] = peer, current_greenlet()
        try:
            while self._ending or not self._is_next(sock):
                self._line_moved.clear()
                self._line_moved.wait()
        finally:
            self._waiting.pop(sock, None)
            self._line_moved.set()
        self._sources[sock] = peer
        return True

    def _is_next(self, sock: socket) -> bool:
        free = self._settings.max_sources - len(self._sources)
        return sock in list(self._waiting)[:free]

    def _drop_false_successors(self) -> None:
        """Refuse waiting sources whose connections are broken, or speak another protocol."""
        for sock, (peer, greenlet) in list(self._waiting.items()):
            if is_broken(sock):
                why = "its connection broke while it waited for a place"
            elif self.access.context is None and self._foreign(peek(sock, MAX_PEEK_BYTES)):
                why = "it speaks another protocol"
            else:
                continue
            del self._waiting[sock]
            self._refuse(peer, detail=why)
            greenlet.kill(block=False)

    def _read(self, connection: Connection, peer: Peer) -> SourceCloseReason:
        """Read until the source ends, is cut off, or has to be closed; which of them it was."""
        decoder = Decoder(self._settings.line_limit)
        data, reason = self._receive_start(connection, peer)
        if foreign := self._foreign(data):
            return _close(foreign, peer, received=escaped(data))
        while True:
            if data:
                try:
                    self._take(decoder, data, peer)
                except ReorderBufferFullError as error:
                    return _close(SourceCloseReason.GAP, peer, error=str(error))
            if decoder.overflowed:
                limit = self._settings.line_limit
                return _close(SourceCloseReason.LINE_TOO_LONG, peer, limit_bytes=limit)
            if reason:
                break
            data, reason = self._receive(connection, peer, len(data))
        self._rejects.record(decoder.finish(), peer)
        return reason

    def _receive_start(
        self, connection: Connection, peer: Peer
    ) -> tuple[bytes, SourceCloseReason | None]:
        """Receive until it is clear which protocol the peer speaks; see ``_receive``."""
        start, reason = self._receive(connection, peer, 0)
        while not reason and self._foreign(start) is None:
            data, reason = self._receive(connection, peer, 0)
            start += data
        return start, reason

    def _foreign(self, start: bytes) -> SourceCloseReason | Literal[False] | None:
        """Return which foreign protocol begins so; False if none, None if too few bytes came."""
        if start[:1] == TLS_HANDSHAKE:
            return SourceCloseReason.TLS
        return is_http_request(start, self._settings.line_limit) and SourceCloseReason.HTTP

    def _receive(
        self, connection: Connection, peer: Peer, received: int
    ) -> tuple[bytes, SourceCloseReason | None]:
        """Return the next bytes, or none and why no more will come.

        ``received`` is the size of the previous read, in bytes.
        """
        try:
            if received < SMALL_READ_BYTES and connection.direct:
                wait_read(connection.descriptor)
            data = connection.recv(CHUNK_BYTES)
        except OSError as error:
            return b"", _cut_off(error, peer)
        self.received_bytes += len(data)
        return data, None if data else SourceCloseReason.LEFT

    def _take(self, decoder: Decoder, data: bytes, peer: Peer) -> None:
        """Decode a chunk and submit its runs; in steps, if it has many rejects."""
        while True:
            self._registration.wait_for_batch()
            if self._closed:  # it ran on before the end of its greenlet reached it
                raise GreenletExit
            self._has_begun = True
            runs, rejects = decoder.feed(data)
            if self.traces:
                _trace(len(data), runs, peer)
            self._rejects.record(rejects, peer)
            self._router.submit(runs, peer)
            if not decoder.unread:
                return
            data = b""


def _trace(size: int, runs: list[Run], peer: Peer) -> None:
    """At debug: which numbers a chunk brought."""
    shown_runs = [f"{run.first}-{run.end - 1}" for run in runs[:SHOWN_RUNS]]
    log.debug(
        "chunk_received",
        source=peer,
        chunk_bytes=size,
        received_events=sum(len(run) for run in runs if not run.void),
        sequences=",".join(shown_runs) + (",..." if len(runs) > SHOWN_RUNS else ""),
    )


def _cut_off(error: OSError, peer: Peer) -> SourceCloseReason:
    write = log.debug if isinstance(error, ConnectionResetError) else log.warning
    write("source_cut_off", source=peer, error=error.strerror)
    return SourceCloseReason.VANISHED if has_vanished(error) else SourceCloseReason.RESET


def _close(reason: SourceCloseReason, peer: Peer, **why: object) -> SourceCloseReason:
    write = log.warning if reason in FOREIGN else log.error
    write("source_closed", source=peer, reason=reason.value, **why)
    return reason
