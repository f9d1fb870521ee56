"""The reject file: one line of JSON for each reject.

The event path puts lists of rejects into a bounded queue; a native thread formats and writes them.
The event path never waits for the thread: rejects that do not fit in the queue or cannot be
written are dropped, counted and logged. The thread works at most a quarter of the time, because
the event loop cannot run while it does.
"""

from __future__ import annotations

import errno
import json
import os
import queue
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from io import FileIO
from logging import makeLogRecord
from logging.handlers import RotatingFileHandler

import gevent
import structlog

from maze.core import Reject
from maze.errors import RejectFileError

log = structlog.get_logger()

QUEUE_REJECTS = 100_000
QUEUE_BYTES = 16 * 1024 * 1024
"""Maximum queued rejects, and bytes of their lines; about 40 MB with Python's overhead."""
BLOCK_REJECTS = 2_000
BLOCK_BYTES = 256 * 1024
"""Maximum rejects, and bytes of their lines, that are formatted and written at a time (about
1.2 ms). With smaller blocks the thread would spend most of its time waiting for the GIL, which a
busy event path keeps for 5 ms."""
REST_RATIO = 3.0
"""Seconds for which the thread rests per second of computing."""

NOT_RECORDED = "not_recorded"
"""The reason given in the line that reports how many rejects are not in the file."""

_quoted = json.encoder.encode_basestring_ascii


class RejectFile(RotatingFileHandler):
    """A file with the standard library's rotation: when it is full, it is renamed.

    A block is written unbuffered, and either whole or not at all. The library's ``emit`` would
    leave half a line behind when the disk is full.
    """

    stream: FileIO | None  # type: ignore[assignment]

    def _open(self) -> FileIO:  # type: ignore[override]
        return open(self.baseFilename, "ab", buffering=0, opener=_open_for_owner_and_group)

    def append(self, block: str) -> None:
        """Write a block of lines; raise OSError or ValueError if that fails."""
        if self.shouldRollover(makeLogRecord({"msg": block})):
            try:
                self.doRollover()
            except (OSError, ValueError):
                self.stream = None  # its state is unknown; the next block opens the file again
                raise
        if self.stream is None:
            self.stream = self._open()
        before = self.stream.tell() if self.stream.seekable() else None
        rest = memoryview(block.encode("ascii"))
        try:
            while rest:
                rest = rest[_written(self.stream.write(rest)) :]
        except OSError:
            if before is not None:
                with suppress(OSError):
                    self.stream.truncate(before)
            raise


def _open_for_owner_and_group(path: str, flags: int) -> int:
    """Open a file that others may not read, without waiting for the reader of a named pipe."""
    return os.open(path, flags | os.O_NONBLOCK, 0o640)


def cannot_open(path: str, error: OSError) -> RejectFileError:
    """Return the error that says why a reject file cannot be opened."""
    return RejectFileError(f"cannot open {path}: {error.strerror}; --rejects names another file")


def _written(size: int | None) -> int:
    """Return the number of bytes written; raise BlockingIOError for None, from a full pipe."""
    if size is None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return size


Entry = tuple[float, str, Sequence[Reject]]
"""An entry of the queue: time, source, and rejects of that source."""


class RejectFileWriter:
    """Writes rejects to a file, from a bounded queue.

    ``written`` and ``dropped`` count rejects. A reject is dropped if the queue is full or the file
    cannot be written.
    """

    def __init__(self, path: str, size: int, files: int) -> None:
        """Open the file; it is renamed at ``size`` bytes, and ``files`` files are kept.

        Raise RejectFileError if the file cannot be opened.
        """
        try:
            self._file = RejectFile(path, maxBytes=size, backupCount=files - 1)
        except OSError as error:
            raise cannot_open(path, error) from None
        self._queue: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        # The event path changes the first three counters, the thread changes the others; so no
        # lock is needed.
        self._in_rejects = self._in_bytes = self._overflowed = 0
        self._out_rejects = self._out_bytes = self._failed = 0
        self._reported_drops = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="reject file", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Number of rejects that are not in the file."""
        return self._overflowed + self._failed

    @property
    def written(self) -> int:
        """Number of rejects that are in the file."""
        return self._out_rejects - self._failed

    def add(self, rejects: Sequence[Reject], peer: str) -> None:
        """Queue the rejects of a source. Never waits."""
        now = time.time()
        room = QUEUE_REJECTS - (self._in_rejects - self._out_rejects)
        if self._in_bytes - self._out_bytes >= QUEUE_BYTES:
            room = 0
        for start in range(0, min(room, len(rejects)), BLOCK_REJECTS):
            block = rejects[start : min(room, start + BLOCK_REJECTS)]
            self._in_rejects += len(block)
            self._in_bytes += _bytes(block)
            self._queue.put((now, peer, block))
        if room < len(rejects):
            self._overflowed += len(rejects) - room
            log.warning("rejects_dropped", dropped=self.dropped, path=self._file.baseFilename)

    def close(self, timeout: float) -> None:
        """Wait until the queue is written, for at most ``timeout`` seconds; log what is lost.

        ``add`` must not be called afterwards.
        """
        self._closing = True
        self._queue.put(None)
        deadline = time.monotonic() + timeout
        while self._thread.is_alive() and time.monotonic() < deadline:
            gevent.sleep(0.005)
        if self._thread.is_alive():
            lost = self._in_rejects - self._out_rejects
            log.warning("rejects_not_written", lost=lost, path=self._file.baseFilename)

    def _run(self) -> None:
        while entries := self._next_entries():
            began = time.thread_time()
            self._write(entries)
            if not self._closing:
                time.sleep(REST_RATIO * (time.thread_time() - began))
        if self.dropped != self._reported_drops:
            self._write([])
        self._file.close()

    def _next_entries(self) -> list[Entry]:
        """Wait for an entry; return all that are queued, up to a block. Return none at the end."""
        entries: list[Entry] = []
        count = size = 0
        while count < BLOCK_REJECTS and size < BLOCK_BYTES:
            try:
                entry = self._queue.get(block=not entries)
            except queue.Empty:
                break
            if entry is None:
                if entries:
                    self._queue.put(None)
                break
            entries.append(entry)
            count += len(entry[2])
            size += _bytes(entry[2])
        return entries

    def _write(self, entries: list[Entry]) -> None:
        """Write a block, with a line before it that reports drops; drop the block if that fails."""
        rejects = [reject for entry in entries for reject in entry[2]]
        dropped = self.dropped
        block = "".join(map(_lines, entries))
        if dropped != self._reported_drops:
            block = _drops_line(dropped - self._reported_drops) + block
        try:
            self._file.append(block)
        except (OSError, ValueError) as error:
            self._failed += len(rejects)
            log.warning(
                "rejects_not_written",
                error=getattr(error, "strerror", None) or str(error),
                path=self._file.baseFilename,
                dropped=self.dropped,
            )
        else:
            self._reported_drops = dropped
        self._out_bytes += _bytes(rejects)
        self._out_rejects += len(rejects)


def _bytes(rejects: Sequence[Reject]) -> int:
    return sum([len(reject.line) for reject in rejects])


def _lines(entry: Entry) -> str:
    """Return a line of JSON for each reject; json.dumps would take four times as long.

    Each character of ``line`` is a byte: ``json.loads(text)["line"].encode("latin-1")``.
    """
    when, peer, rejects = entry
    head = f'{{"time":"{_time(when)}","source":{_quoted(peer)},"reason":"'
    return "".join(
        [
            f'{head}{reject.reason}","sequence":'
            f'{"null" if reject.sequence is None else reject.sequence},"count":{reject.count},'
            f'"line":{_quoted(reject.line.decode("latin-1"))}}}\n'
            for reject in rejects
        ]
    )


def _drops_line(count: int) -> str:
    """Return the line that reports how many rejects are not in the file."""
    return (
        f'{{"time":"{_time(time.time())}","source":null,"reason":"{NOT_RECORDED}",'
        f'"sequence":null,"count":{count},"line":""}}\n'
    )


def _time(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
