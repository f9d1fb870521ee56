"""Send as an event source, at full speed or at a rate.

At a rate, the stream is sent in pieces, each when it is due. A piece has the events of up to two
milliseconds, but at least one event.
"""

import logging
import os
import socket
import ssl
import time
from collections.abc import Iterator, Sequence

from simulator.play.timestamps import Timestamps
from simulator.play.tls import NOT_NOW, buffered, end_writing, raise_if_refused, reason
from simulator.stream.workload import Chunk

log = logging.getLogger("simulator")

WRITE_BYTES = 256 * 1024
"""Maximum size of a write; bytes."""

_PIECE_SECONDS = 0.002
"""Maximum time that the events of a piece cover; seconds."""

_READ_BYTES = 4096
"""Size of a read; bytes. A server writes nothing to a source."""

_MAX_SHOWN_BYTES = 60
"""Maximum bytes shown of what the server writes to the source."""


class Source:
    """Sends the chunks over a non-blocking connection."""

    def __init__(
        self,
        connection: socket.socket,
        chunks: Sequence[Chunk],
        rate: float | None,
        *,
        cut: int = WRITE_BYTES,
        timestamps: Timestamps | None = None,
        lines: bool = False,
    ) -> None:
        self.connection = connection
        self.sent_bytes = 0
        self.total_bytes = sum(len(chunk.data) for chunk in chunks)
        self.lost: str | None = None
        self.reconnects = 0
        self.resent_events = 0
        self.behind = 0.0  # maximum delay of a write after it was due; seconds
        self._cut = cut
        self._timestamps = timestamps
        self._left = False
        self._closed = False  # whether the server closed the connection
        self._cut_off: str | None = None
        self._received = 0
        self._first_received = b""
        self._rate = rate
        self._log_lines = lines
        self._pieces = iter(chunks) if rate is None else _split(chunks, rate)
        self._events = 0  # in the pieces before the current one
        self._piece = next(self._pieces, Chunk(b"", 0))
        self._at = 0
        self._began: float | None = None

    @property
    def done(self) -> bool:
        """Whether everything was sent, or the source was lost."""
        return self.lost is not None or self.sent_bytes == self.total_bytes

    @property
    def writable(self) -> bool:
        """Whether there is something to send."""
        return not self.done

    @property
    def cut_off(self) -> str | None:
        """How the server closed the connection before it had read everything; None if it did not.

        The close may become visible only some time after the last write.
        """
        if self._closed and not self._left and self.lost is None and self._cut_off is None:
            number = self.connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._cut_off = self._closed_text(os.strerror(number)) if number else None
        return self.lost or self._cut_off

    @property
    def answered(self) -> str | None:
        """What the server wrote to the source; None if it wrote nothing."""
        if not self._received:
            return None
        text = repr(self._first_received)[1:]
        more = "..." if self._received > len(self._first_received) else ""
        return (
            f"the server wrote {self._received:,} bytes to the source, which should receive none: "
            f"{text}{more}"
        )

    @property
    def sent_events(self) -> int:
        """Events sent; estimated within the current piece."""
        share = self._at / max(1, len(self._piece.data))
        return self._events + int(self._piece.events * share)

    @property
    def lines_begun(self) -> int:
        """The exact number of lines that were sent at least in part."""
        return self._events + self._piece.data.count(b"\n", 0, self._at) + 1

    def wait(self, now: float) -> float:
        """Return the seconds until the next bytes are due."""
        if self._rate is None:
            return 0.0
        if self._began is None:
            self._began = now
        pause = self._began + self._events / self._rate - now
        self.behind = max(self.behind, -pause)
        return max(0.0, pause)

    def write(self) -> int:
        """Send as much as the socket accepts; return the number of bytes."""
        now = time.monotonic()
        size = self._send(memoryview(self._piece.data)[self._at : self._at + self._cut])
        if not size:
            return 0
        self.sent_bytes += size
        if self._timestamps is not None:
            self._timestamps.add(now, self.sent_bytes)
        self._at += size
        if self._at == len(self._piece.data):
            self._events += self._piece.events
            self._piece = next(self._pieces, Chunk(b"", 0))
            self._at = 0
        return size

    def _send(self, data: memoryview) -> int:
        try:
            size = self.connection.send(data)
        except NOT_NOW:
            return 0
        except OSError as error:
            self._lose(error)
            return 0
        log.debug("source sent %d bytes", size)
        if self._log_lines:
            for line in bytes(data[:size]).splitlines(keepends=True):
                log.debug("source sent %r", line)
        return size

    def give_up(self, seconds: float) -> None:
        """Stop sending, because the server read nothing for ``seconds``."""
        if not self.done:
            self.lost = f"the server read nothing from the source for {seconds:g} s, {self._so_far}"

    def leave(self) -> None:
        """Close this half of the connection; the server can still read what was sent."""
        if self._left or self.lost:
            return
        try:
            end_writing(self.connection)
        except ssl.SSLWantWriteError:
            return  # try again on the next call
        except OSError as error:
            log.debug("source closed by the server before it left (%s)", reason(error))
        self._left = True
        log.debug("source leaves")

    def read(self) -> bool:
        """Read what the server writes; return whether more may come. Raise RefusedError."""
        try:
            while data := self.connection.recv(_READ_BYTES):
                self._take(data)
                if not buffered(self.connection):
                    return True
            self._lose(None)
        except NOT_NOW:
            return True
        except OSError as error:
            raise_if_refused(error)
            self._lose(error)
        return False

    def _take(self, data: bytes) -> None:
        self._received += len(data)
        self._first_received = self._first_received or data[:_MAX_SHOWN_BYTES]

    def _lose(self, error: OSError | None) -> None:
        self._closed = True
        words = self._closed_text(reason(error) if error else None)
        log.debug("%s", words)
        if not self.done:
            self.lost = words
        elif error and not self._left:
            self._cut_off = words

    def _closed_text(self, how: str | None) -> str:
        why = f" ({how})" if how else ""
        return f"the server closed the source's connection {self._so_far}{why}"

    @property
    def _so_far(self) -> str:
        return f"after {self.sent_bytes:,} of {self.total_bytes:,} bytes"


def _split(chunks: Sequence[Chunk], rate: float) -> Iterator[Chunk]:
    size = max(1, int(rate * _PIECE_SECONDS))
    for chunk in chunks:
        lines = chunk.data.splitlines(keepends=True)
        for start in range(0, len(lines), size):
            piece = lines[start : start + size]
            yield Chunk(b"".join(piece), len(piece))
