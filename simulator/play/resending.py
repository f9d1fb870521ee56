"""Send as an event source that keeps what the server has not acknowledged, and sends it again."""

import logging
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from simulator.errors import ConnectError, RefusedError
from simulator.play.acknowledgements import MAX_LINE_BYTES, Acknowledgement, parse
from simulator.play.source import Source
from simulator.stream.resending import lines_again
from simulator.stream.workload import Chunk

log = logging.getLogger("simulator")

_RETRY_SECONDS = 0.05
"""Time between attempts to connect; seconds."""

Connect = Callable[[], tuple[socket.socket, Acknowledgement]]
"""Connects a source and reads the first acknowledgement. May raise ConnectError, RefusedError."""


class ResendingSource(Source):
    """A source that comes back when its connection breaks.

    It is done when number ``last`` is acknowledged or, if that is None, when everything is written.
    It stops if nothing more is acknowledged within ``timeout`` after a break.
    """

    def __init__(
        self,
        connection: socket.socket,
        chunks: Sequence[Chunk],
        rate: float | None,
        *,
        first: Acknowledgement,
        last: int | None,
        connect: Connect,
        timeout: float,
        **options: Any,
    ) -> None:
        super().__init__(connection, chunks, rate, **options)
        self._chunks = chunks
        self._acknowledged = first
        self._last = last
        self._connect = connect
        self._timeout = timeout
        self._connected = True
        self._retry_at = 0.0
        self._stop_at: float | None = None  # set by a break, cleared by progress or the last ack
        self._again = memoryview(b"")  # what is left to send again
        self._half = b""  # of an acknowledgement
        self._fault: str | None = None

    @property
    def done(self) -> bool:
        """Whether everything was sent and acknowledged, or the source was lost."""
        if self.lost is not None:
            return True
        written = self.sent_bytes == self.total_bytes and not self._again and self._connected
        return written and (self._last is None or self._is_last(self._acknowledged))

    @property
    def writable(self) -> bool:
        """Whether there is something to send now."""
        unsent = self._again or self.sent_bytes < self.total_bytes
        return self._connected and self.lost is None and bool(unsent)

    @property
    def broken(self) -> bool:
        """Whether the source has to connect again."""
        return not self._connected and self.lost is None

    @property
    def answered(self) -> str | None:
        """What is wrong with what the server wrote to the source; None if nothing is."""
        return self._fault

    def wait(self, now: float) -> float:
        """Return the seconds until the next bytes are due, or until the next try to connect."""
        if self.broken:
            return max(0.0, self._retry_at - now)
        return 0.0 if self._again else super().wait(now)

    def write(self) -> int:
        """Send as much as the socket accepts, first what is to be sent again."""
        if not self._again:
            return super().write()
        size = self._send(self._again[: self._cut])
        self._again = self._again[size:]
        return size

    def give_up(self, seconds: float) -> None:
        """Stop, because the server neither read nor acknowledged anything for ``seconds``."""
        if self.sent_bytes < self.total_bytes:
            super().give_up(seconds)
        elif not self.done:
            self.lost = (
                f"the server acknowledged nothing for {seconds:g} s: everything below "
                f"{self._acknowledged.next} is acknowledged, but the last event is {self._last}"
            )

    def break_off(self) -> None:
        """Treat the connection as broken, so that ``reconnect`` begins another."""
        if self.lost is None:
            self._connected = self._left = self._closed = False
            self._stop_at = self._stop_at or time.monotonic() + self._timeout

    def reconnect(self, now: float) -> bool:
        """Connect if it is time, and prepare what is sent again. Return whether it is connected."""
        if now < self._retry_at:
            return False
        try:
            connection, first = self._connect()
        except (ConnectError, RefusedError) as error:
            self._stop_if_late(now, str(error))
            return False
        self._stop_if_late(now, "nothing more was acknowledged")
        self.connection = connection
        self._connected = True
        self._half = b""
        self.reconnects += 1
        self._note(first)
        self._rewind()
        return True

    def _stop_if_late(self, now: float, why: str) -> None:
        self._retry_at = now + _RETRY_SECONDS
        if self._stop_at is not None and now > self._stop_at:
            self.lost = f"the source's connection broke {self._so_far}, and {why}"

    def _rewind(self) -> None:
        """Begin the line that was cut off anew, after those that the server may lack."""
        begun = self._piece.data.rfind(b"\n", 0, self._at) + 1
        self.sent_bytes -= self._at - begun
        self._at = begun
        again = lines_again(self._chunks, self.sent_bytes, self._acknowledged.next)
        self._again = memoryview(b"".join(again))
        self.resent_events += len(again)
        log.debug("source sends %d lines again, from %d", len(again), self._acknowledged.next)

    def _take(self, data: bytes) -> None:
        *lines, self._half = (self._half + data).split(b"\n")
        for line in lines:
            told = parse(line + b"\n")
            if told is None:
                self._blame(f"the server wrote {line!r} to the source, which is no acknowledgement")
            elif not self._left:  # after it, the sequence may begin anew
                self._note(told)
        if len(self._half) > MAX_LINE_BYTES:
            self._blame(f"the server wrote {self._half!r} to the source, without a line's end")
            self._half = b""

    def _note(self, told: Acknowledgement) -> None:
        known = self._acknowledged
        if told.epoch != known.epoch:
            self.lost = (
                f"the server began epoch {told.epoch} in place of {known.epoch}, so it forgot the "
                "stream: it needs a journal, and --on-source-disconnect keep"
            )
            return
        if told.next < known.next:
            self._blame(
                f"the server acknowledged everything below {known.next}, but later only what is "
                f"below {told.next}"
            )
        elif told.next > known.next or self._is_last(told):
            self._stop_at = None
        self._acknowledged = told

    def _is_last(self, told: Acknowledgement) -> bool:
        """Return whether everything is acknowledged, if there is a number by which to tell."""
        return self._last is not None and told.next > self._last

    def _blame(self, fault: str) -> None:
        self._fault = self._fault or fault

    def _lose(self, error: OSError | None) -> None:
        if self.done or self._left:
            super()._lose(error)
        else:
            log.debug("the source's connection broke")
            self.break_off()
