"""The source port: accepts event sources and reads what they send.

Each source has a greenlet, which reads chunks, decodes them, and submits the runs to the intake.
"""

from collections import Counter
from enum import StrEnum
from typing import Any, Literal

import structlog
from gevent import Greenlet, GreenletExit
from gevent.event import Event
from gevent.socket import socket, wait_read

from maze.core import Decoder, Reason, ReorderBufferFullError, Run, is_http_request, is_proxy_header
from maze.listener.access import Access
from maze.listener.connection_limits import MAX_SOURCE_HANDSHAKES
from maze.listener.handshake_rejects import HandshakeError, HandshakeReason
from maze.listener.registration_wait import Registration
from maze.listener.tls import TLS_HANDSHAKE
from maze.log.reject_log import RejectLog
from maze.log.text import escaped
from maze.net.connection import Connection
from maze.net.peer import Address, Peer
from maze.net.serving import Serving
from maze.net.sockets import current_greenlet, has_vanished, is_broken, peek, peer_has_closed
from maze.pipeline.intake import Intake
from maze.settings.options import Settings

log = structlog.get_logger()

CHUNK_BYTES = 256 * 1024
"""Maximum bytes of one read. If a fifth of the events are broadcasts, such a chunk gives each
client about 50 KB, the best size for a send."""

SMALL_READ_BYTES = 4 * 1024
"""Size below which a read is small, in bytes. After a small read, the next one waits until the
socket is readable: a read that finds nothing costs more than such a wait. TLS connections do not
wait, because they may hold bytes that the socket no longer has."""

LAST_ACK_SECONDS = 5.0
"""Maximum wait for the last commit once a source has left, and then for telling the source."""

FIRST_EVENTS = 1_000
"""Events of a source that are examined to see whether it repeats what was received before."""

SHOWN_RUNS = 20
"""Maximum runs of a chunk named in one log line."""

MAX_PEEK_BYTES = 8 * 1024
"""Maximum bytes inspected of what a waiting source has sent; an HTTP request line fits."""

MAX_WAITING = 100
"""Maximum sources that wait for a slot. More than ``max-sources`` can wait only if most of them
have already ended their streams."""


class SourceCloseReason(StrEnum):
    """Why a source's connection ended."""

    LEFT = "left"
    """The source ended its stream."""
    RESET = "reset"
    """The connection broke."""
    VANISHED = "vanished"
    """The source no longer answers: its host or the network path to it is gone."""
    GAP = "gap"
    """A gap did not fill, and the gap policy is to fail."""
    LINE_TOO_LONG = "line_too_long"
    """A line exceeded the limit."""
    HTTP = "http"
    """The first line was an HTTP request line."""
    TLS = "tls"
    """The peer began a TLS handshake on a plain port."""
    PROXY = "proxy"
    """The peer sent a PROXY header, but is not one of the proxies."""
    STOPPED = "stopped"
    """The server stopped."""


FOREIGN = {SourceCloseReason.HTTP, SourceCloseReason.TLS, SourceCloseReason.PROXY}
"""Reasons that show that a peer does not speak the protocol of sources. Nothing that it sent is
decoded: a web page can make a browser speak other protocols to any port, and choose much of what
the browser sends."""


class SourcePort:
    """The port for event sources, with ``max-sources`` slots.

    With ``on-source-disconnect=reset``, the last source keeps its slot until everything received
    is routed. A new source that connects in the meantime waits for the slot, so that a source can
    be restarted without being refused. A waiting source that has itself ended its stream does not
    keep another source from waiting.
    """

    def __init__(
        self,
        settings: Settings,
        intake: Intake,
        rejects: RejectLog,
        registration: Registration,
        access: Access,
    ) -> None:
        self._settings = settings
        self._registration = registration
        self._intake = intake
        self._rejects = rejects
        self.access = access
        self._handshakes = 0
        self._sources: dict[socket, Peer] = {}
        self._waiting_for_slot: dict[socket, tuple[Peer, Greenlet[..., Any]]] = {}
        """Sources that wait for a slot, in the order in which they connected."""
        self._stream_has_begun = False
        """Whether data was decoded since the last stream ended. If not, the end of a connection
        ends no stream: it may be a probe, or an HTTP request to the wrong port."""
        self._stream_is_ending = False
        self._slots_changed = Event()
        self.serving = Serving()
        self.refused = 0
        self.closed: Counter[SourceCloseReason] = Counter()
        self.received_bytes = 0
        self.traces = settings.log_level == "debug"

    @property
    def sources(self) -> list[Peer]:
        """The peers of the sources that have a slot."""
        return list(self._sources.values())

    def handle(self, sock: socket, address: Address) -> None:
        """Serve one connection. The listener calls this in a greenlet of its own."""
        self.serving.run(self._authorize, sock, address)

    def close(self) -> None:
        """Stop reading from all sources, without ending their streams."""
        self._intake.close()
        self.serving.close()

    def _authorize(self, sock: socket, address: Address) -> None:
        """Serve the connection if access control admits it."""
        peer = Peer(address)
        self._handshakes += 1
        try:
            if self._handshakes > MAX_SOURCE_HANDSHAKES:
                raise HandshakeError(HandshakeReason.BUSY, detail="too many in the handshake")
            deadline = self.access.deadline()
            if self.access.is_proxy(address):
                address = self.access.real_address(sock, address, deadline)
                peer = peer.at(address)
            connection, _ = self.access.authorize(sock, address, deadline)
            self.access.check_source(connection)
        except HandshakeError as error:
            self.refused += 1
            self.access.rejects.record(error, peer)
            return
        except Exception:  # affects this connection only
            self.refused += 1
            self.access.rejects.fail(peer)
            return
        finally:
            self._handshakes -= 1
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
        acknowledging = None
        if self._settings.source_acks:
            acknowledging = self._intake.acknowledgements.begin(connection)
        try:
            reason = self._read(connection, peer)
            if self._stream_has_begun and len(self._sources) == 1:
                self._stream_is_ending = True
                self._stream_has_begun = False
                self._intake.end_stream(peer)
            if acknowledging and reason is SourceCloseReason.LEFT:
                self._intake.await_durable(LAST_ACK_SECONDS)
                acknowledging.finish(LAST_ACK_SECONDS)
        finally:
            if acknowledging:
                self._intake.acknowledgements.end(acknowledging)
            self._stream_is_ending = False
            del self._sources[sock]
            self._slots_changed.set()
            self.closed[reason] += 1
            counts = self._totals() - before
            log.info("source_disconnected", source=peer, reason=reason.value, **counts)

    def _refuse(self, peer: Peer, **details: object) -> None:
        """Count and log a source that gets no slot."""
        self.refused += 1
        log.warning("source_refused", source=peer, connected=self.sources, **details)

    def _totals(self) -> Counter[str]:
        """Return the numbers of events routed and rejected since the server started."""
        rejected = {reason.value: count for reason, count in self._rejects.counts.items()}
        return Counter({"routed_events": self._intake.stats.routed_events, **rejected})

    def _wait_for_slot(self, sock: socket, peer: Peer) -> bool:
        """Wait until the source has a slot; return False at once if it may not wait."""
        waiting = self._waiting_for_slot
        self._drop_invalid_waiting()
        sending = [other for other in (*self._sources, *waiting) if not peer_has_closed(other)]
        if len(sending) >= self._settings.max_sources or len(waiting) >= MAX_WAITING:
            return False
        waiting[sock] = peer, current_greenlet()
        try:
            while self._stream_is_ending or not self._may_take_slot(sock):
                self._slots_changed.clear()
                self._slots_changed.wait()
        finally:
            waiting.pop(sock, None)
            self._slots_changed.set()
        self._sources[sock] = peer
        return True

    def _may_take_slot(self, sock: socket) -> bool:
        """Return whether a slot is free for this waiting source: first come, first served."""
        free_slots = self._settings.max_sources - len(self._sources)
        return sock in list(self._waiting_for_slot)[:free_slots]

    def _drop_invalid_waiting(self) -> None:
        """Refuse waiting sources whose connection broke or that speak another protocol."""
        for sock, (peer, greenlet) in list(self._waiting_for_slot.items()):
            if is_broken(sock):
                detail = "connection broke while waiting for a slot"
            elif self.access.context is None and self._foreign_protocol(peek(sock, MAX_PEEK_BYTES)):
                detail = "speaks another protocol"
            else:
                continue
            del self._waiting_for_slot[sock]
            self._refuse(peer, detail=detail)
            greenlet.kill(block=False)

    def _read(self, connection: Connection, peer: Peer) -> SourceCloseReason:
        """Read until the source ends, is cut off, or must be closed; return the reason."""
        decoder = Decoder(self._settings.line_limit)
        first_events = _FirstEvents(self._intake, self._rejects)
        data, reason = self._receive_start(connection, peer)
        if protocol := self._foreign_protocol(data):
            return _close(protocol, peer, received=escaped(data))
        while True:
            if data:
                try:
                    self._submit(decoder, data, peer)
                except ReorderBufferFullError as error:
                    return _close(SourceCloseReason.GAP, peer, error=str(error))
                first_events.check(peer)
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
        """Receive until the peer's protocol is known. Return the same as ``_receive``."""
        start, reason = self._receive(connection, peer, 0)
        while not reason and self._foreign_protocol(start) is None:
            data, reason = self._receive(connection, peer, 0)
            start += data
        return start, reason

    def _foreign_protocol(self, start: bytes) -> SourceCloseReason | Literal[False] | None:
        """Return the foreign protocol that begins with these bytes.

        Return False if there is none, and None if more bytes are needed to tell.
        """
        if start[:1] == TLS_HANDSHAKE:
            return SourceCloseReason.TLS
        is_proxied = is_proxy_header(start)
        if is_proxied is not False:
            return is_proxied and SourceCloseReason.PROXY
        return is_http_request(start, self._settings.line_limit) and SourceCloseReason.HTTP

    def _receive(
        self, connection: Connection, peer: Peer, previous_bytes: int
    ) -> tuple[bytes, SourceCloseReason | None]:
        """Return the next bytes and None, or no bytes and the reason why no more follow.

        ``previous_bytes`` is the size of the previous read.
        """
        try:
            if previous_bytes < SMALL_READ_BYTES and connection.direct:
                wait_read(connection.descriptor)
            data = connection.recv(CHUNK_BYTES)
        except OSError as error:
            return b"", _cut_off(error, peer)
        self.received_bytes += len(data)
        return data, None if data else SourceCloseReason.LEFT

    def _submit(self, decoder: Decoder, data: bytes, peer: Peer) -> None:
        """Decode a chunk and submit its runs, in steps if it has many rejects."""
        while True:
            if self._registration.batch_waits:
                with self._intake.holding_up():
                    self._registration.wait_for_batch()
            if self.serving.is_closed:  # ``close`` was called, but has not ended this greenlet yet
                raise GreenletExit
            self._stream_has_begun = True
            runs, rejects = decoder.feed(data)
            if self.traces:
                _trace(len(data), runs, peer)
            self._rejects.record(rejects, peer)
            self._intake.submit(runs, peer)
            if not decoder.unread:
                return
            data = b""


class _FirstEvents:
    """Warns if the first events of a source are all stale: it probably began anew by mistake."""

    def __init__(self, intake: Intake, rejects: RejectLog) -> None:
        self._intake = intake
        self._rejects = rejects
        self._received = intake.stats.received_events
        self._stale = rejects.counts[Reason.STALE]
        self._checked = False

    def check(self, peer: Peer) -> None:
        """Warn once, after ``FIRST_EVENTS``, if all were stale."""
        received = self._intake.stats.received_events - self._received
        if self._checked or received < FIRST_EVENTS:
            return
        self._checked = True
        if self._rejects.counts[Reason.STALE] - self._stale >= received:
            log.warning(
                "source_repeats",
                source=peer,
                stale_events=received,
                continues_at=self._intake.reorder.next_sequence,
                to_begin_anew=self._intake.advice.begin_anew(),
            )


def _trace(size: int, runs: list[Run], peer: Peer) -> None:
    """Log, at level debug, the sequence numbers in a chunk."""
    shown_runs = [f"{run.first}-{run.end - 1}" for run in runs[:SHOWN_RUNS]]
    log.debug(
        "chunk_received",
        source=peer,
        chunk_bytes=size,
        received_events=sum(len(run) for run in runs if not run.void),
        sequences=",".join(shown_runs) + (",..." if len(runs) > SHOWN_RUNS else ""),
    )


def _cut_off(error: OSError, peer: Peer) -> SourceCloseReason:
    """Log that a source's connection broke; return the reason."""
    write = log.debug if isinstance(error, ConnectionResetError) else log.warning
    write("source_cut_off", source=peer, error=error.strerror)
    return SourceCloseReason.VANISHED if has_vanished(error) else SourceCloseReason.RESET


def _close(reason: SourceCloseReason, peer: Peer, **details: object) -> SourceCloseReason:
    """Log that the server closes a source's connection; return the reason."""
    write = log.warning if reason in FOREIGN else log.error
    write("source_closed", source=peer, reason=reason.value, **details)
    return reason
