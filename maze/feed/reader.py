"""Reads an ingest's journal over its feed."""

import select
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import IO, Any, TypeVar

from maze.core import Position
from maze.feed.messages import (
    ALIVE,
    BATCH,
    ERROR,
    MAX_FRAME_BYTES,
    SNAPSHOT,
    STATE,
    Greeting,
    Read,
    State,
    decode_batch,
    decode_begin,
    decode_error,
)
from maze.journal.journal import (
    Batch,
    JournalError,
    JournalReader,
    Snapshot,
    UnavailableError,
    follows,
)
from maze.journal.snapshot_frames import BEGIN, CHUNK, END
from maze.listener.tls_context import ClientContext, describe_tls_error
from maze.net.frames import FrameError, encode_frame, read_frames
from maze.net.peer import UNIX
from maze.settings.feed_address import FeedAddress

Content = TypeVar("Content")

NOWHERE = Position(0, 0)
"""The routed position of a reader that routes nothing."""


class FeedReader(JournalReader):
    """Reads a journal over one connection, which is made when it is needed.

    ``sockets`` is the ``socket`` module, and all methods block the thread; or ``gevent.socket``,
    and they let the event loop go on. An ingest that has not answered for ``timeout`` seconds, and
    has not said that it is still reading its disk, counts as gone. ``tls`` returns the context of
    the next connection; None makes it a plain one. Every method raises UnavailableError if the
    ingest cannot be reached, and may be called again.
    """

    tells_position = True
    """Whether the last answer told the journal's position."""
    tells_end = True
    """Whether the ingest tells when it stops."""

    def __init__(
        self,
        address: FeedAddress,
        greeting: Greeting,
        *,
        timeout: float,
        sockets: ModuleType = socket,
        tls: Callable[[], ClientContext | None] = lambda: None,
    ) -> None:
        self._address = address
        self._greeting = greeting
        self._timeout = timeout
        self._sockets = sockets
        self._tls = tls
        self._socket: Any = None
        self._file: IO[bytes] | None = None
        self._after = NOWHERE
        self.state: State | None = None
        """State of the journal at the last answer; None before the first."""

    def close(self) -> None:
        """End the connection. Any thread may call this; a call that waits for an answer fails."""
        sock, self._socket, self._file = self._socket, None, None
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def position(self) -> Position:
        """Return the position after the last batch."""
        return self._ask_state().position

    def kept_from(self) -> Position:
        """Return where the kept batches begin."""
        return self._ask_state().kept_from

    def read(self, after: Position, max_bytes: int) -> list[Batch]:
        """Return the batches after a position; see ``JournalReader.read``."""
        self.request(after, max_bytes)
        return self.receive()

    def request(
        self, after: Position, max_bytes: int, *, wait: float = 0.0, routed: Position = NOWHERE
    ) -> None:
        """Ask for the batches after a position; ``receive`` comes next.

        If there is none, the ingest waits for one, for at most ``wait`` seconds. ``routed`` tells
        it what was routed so far.
        """
        self._send(Read(after, max_bytes, int(1000 * wait), routed).encode(), wait)
        self._after = after

    def receive(self) -> list[Batch]:
        """Return the batches that were asked for; see ``JournalReader.read``."""
        batches: list[Batch] = []
        after = self._after
        for kind, content in self._answer():
            if kind != BATCH:
                raise self._lost("it sent an unexpected frame")
            batch = self._decode(decode_batch, content)
            is_within = not batches and batch[:2] <= after < batch.position
            if not (is_within or follows(batch, after)):
                raise self._lost(f"the batch {batch.position} does not follow {after}")
            batches.append(batch)
            after = batch.position
        return batches

    def get_snapshot(self, report: Callable[[str], None]) -> Snapshot | None:
        """Return the newest usable snapshot; the ingest reports those that are not usable."""
        self._send(encode_frame(SNAPSHOT, b""), 0.0)
        snapshot = None
        for kind, content in self._answer():
            if kind == BEGIN and snapshot is None:
                snapshot = self._decode(decode_begin, content)
            elif kind == CHUNK and snapshot is not None:
                snapshot.chunks.append(content)
            else:
                raise self._lost("it sent an unexpected frame")
        return snapshot

    def _ask_state(self) -> State:
        """Return the present state of the journal."""
        self._send(encode_frame(STATE, b""), 0.0)
        for _ in self._answer():
            raise self._lost("it sent an unexpected frame")
        assert self.state is not None
        return self.state

    def _send(self, request: bytes, wait: float) -> None:
        sock = self._socket  # another thread may call ``close``
        if sock is None or _has_ended(sock):
            self.close()
            sock = self._connect()
        try:
            sock.settimeout(wait + self._timeout)
            sock.sendall(request)
        except OSError as error:
            raise self._lost(_reason(error)) from None

    def _connect(self) -> Any:
        """Connect, greet, and read the state of the journal; return the socket."""
        host, port = self._address
        try:
            if host.startswith(UNIX):
                self._socket = sock = self._sockets.socket(socket.AF_UNIX)
                sock.settimeout(self._timeout)
                sock.connect(host.removeprefix(UNIX))
            else:
                self._socket = sock = self._sockets.create_connection((host, port), self._timeout)
                if tls := self._tls():
                    self._socket = sock = tls.wrap(sock, host)
            self._file = sock.makefile("rb")
            sock.sendall(self._greeting.encode())
        except OSError as error:
            raise self._lost(_reason(error)) from None
        try:
            for _ in self._answer():
                raise self._lost("it sent an unexpected frame")
        except JournalError:  # it refuses this edge
            self.close()
            raise
        return sock

    def _answer(self) -> Any:
        """Yield the frames of an answer, up to its end. Raise the error that it is."""
        file = self._file
        try:
            if file is None:
                raise FrameError("the connection is closed")
            for kind, content in read_frames(file, MAX_FRAME_BYTES):
                if kind == END:
                    self.state = State.decode(content)
                    return
                if kind == ERROR:
                    raise decode_error(content)
                if kind != ALIVE:
                    yield kind, content
            raise FrameError("it closed the connection")
        except (OSError, ValueError, FrameError) as error:
            raise self._lost(_reason(error)) from None

    def _decode(self, decode: Callable[[bytes], Content], content: bytes) -> Content:
        try:
            return decode(content)
        except FrameError as error:
            raise self._lost(str(error)) from None

    def _lost(self, reason: str) -> UnavailableError:
        """Close the connection; return the error."""
        self.close()
        return UnavailableError(f"the feed {self._address}: {reason}")


def _has_ended(sock: Any) -> bool:
    """Return whether the ingest has ended a connection on which no answer is awaited.

    It may have been idle for long, and the ingest may be back since.
    """
    descriptor = sock.fileno()
    if descriptor < 0:
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _reason(error: Exception) -> str:
    """Return what an error says, without its number."""
    # gevent raises an SSLError of its own if a step of TLS takes too long.
    if isinstance(error, TimeoutError) or "timed out" in str(error):
        return "it does not answer"
    if isinstance(error, ssl.SSLError):
        return _tls_reason(error)
    return str(getattr(error, "strerror", None) or error)


def _tls_reason(error: ssl.SSLError) -> str:
    """Return why there is no connection over TLS."""
    reason = error.reason or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message.rstrip('.')}"
    if "CERTIFICATE_REQUIRED" in reason:
        return "it requires a certificate from this edge: set feed-tls-cert and feed-tls-key"
    if "ALERT" in reason:
        return f"it refuses TLS with this edge: {describe_tls_error(error)}"
    return f"no TLS: {describe_tls_error(error)}; does the ingest have --feed-tls-cert?"
