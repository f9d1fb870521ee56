"""The reject file: what was not routed, a line of JSON each, for whoever asks later.

The event path hands over whole lists of rejects, in a bounded queue; a native
thread makes lines of them and writes them. It must never hold up the event path:
what does not fit in the queue is dropped, what cannot be written is dropped, and
both are counted and logged. The thread computes for a part of the time only,
because while it does, the interpreter does nothing else.
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
"""Rejects that may wait, and bytes of their lines; with what Python adds some 40 MB."""
BLOCK_REJECTS = 2_000
BLOCK_BYTES = 256 * 1024
"""Made into lines, and written, in one go: some 1.2 ms. With smaller blocks most of the
thread's time goes into waiting for the interpreter, which a busy event path holds for 5 ms."""
REST_RATIO = 3.0
"""how long the thread rests for each second it computes"""

NOT_RECORDED = "not_recorded"
"""stands for the reason in the line that tells how many rejects are not in the file"""

_quoted = json.encoder.encode_basestring_ascii


class RejectFile(RotatingFileHandler):
    """A file that is renamed once it is full; rotation is the standard library's.

    Blocks go to the system unbuffered, whole or not at all: the library's own
    ``emit`` would leave half a line where the disk became full.
    """

    stream: FileIO | None  # type: ignore[assignment]

    def _open(self) -> FileIO:  # type: ignore[override]
        return open(self.baseFilename, "ab", buffering=0, opener=_open_for_owner_and_group)

    def append(self, block: str) -> None:
        """Write a block of lines. Raises OSError or ValueError."""
        if self.shouldRollover(makeLogRecord({"msg": block})):
            try:
                self.doRollover()
            except (OSError, ValueError):
                self.stream = None  # whatever state it is in; the next block opens it anew
                raise
        if self.stream is None:
            self.stream = self._open()
        before = self.stream.tell() if self.stream.seekable() else None
        left = memoryview(block.encode("ascii"))
        try:
            while left:
                left = left[_written(self.stream.write(left)) :]
        except OSError:
            if before is not None:
                with suppress(OSError):
                    self.stream.truncate(before)
            raise


def _open_for_owner_and_group(path: str, flags: int) -> int:
    """The lines are other people's; and a pipe that nobody reads must not keep the server."""
    return os.open(path, flags | os.O_NONBLOCK, 0o640)


def _written(size: int | None) -> int:
    """How much a write has written; None, from a full pipe, is an error here."""
    if size is None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return size


Batch = tuple[float, str, Sequence[Reject]]
"""(when, who sent it, what is not routed)"""


class RejectFileWriter:
    """Writes rejects to a file, behind a bounded queue.

    ``written`` and ``dropped`` count rejects; those dropped found the queue full
    or could not be written.
    """

    def __init__(self, path: str, size: int, files: int) -> None:
        """Open the file, to be renamed at ``size`` bytes; ``files`` are kept.

        Raise RejectFileError if that fails.
        """
        try:
            self._file = RejectFile(path, maxBytes=size, backupCount=files - 1)
        except OSError as error:
            raise RejectFileError(
                f"cannot open {path}: {error.strerror}; --rejects names another file"
            ) from None
        self._queue: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        # What the event path has put in and the thread has taken out: each is written by one
        # of the two only, so that no lock is needed.
        self._in_rejects = self._in_bytes = self._overflowed = 0
        self._out_rejects = self._out_bytes = self._failed = 0
        self._told = 0  # in the file, of those dropped
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="reject file", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """How many rejects are not in the file."""
        return self._overflowed + self._failed

    @property
    def written(self) -> int:
        """How many are."""
        return self._out_rejects - self._failed

    def add(self, rejects: Sequence[Reject], peer: str) -> None:
        """Queue what a source sent that is not routed; never waits."""
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
        """Write what is queued, for at most ``timeout`` seconds; nothing may be added any more."""
        self._closing = True
        self._queue.put(None)
        deadline = time.monotonic() + timeout
        while self._thread.is_alive() and time.monotonic() < deadline:
            gevent.sleep(0.005)
        if self._thread.is_alive():
            lost = self._in_rejects - self._out_rejects
            log.warning("rejects_not_written", lost=lost, path=self._file.baseFilename)

    def _run(self) -> None:
        while batches := self._next():
            begin = time.thread_time()
            self._write(batches)
            if not self._closing:
                time.sleep(REST_RATIO * (time.thread_time() - begin))
        if self.dropped != self._told:
            self._write([])
        self._file.close()

    def _next(self) -> list[Batch]:
        """What waits, up to a block; waits for something. Nothing at the end."""
        batches: list[Batch] = []
        count = size = 0
        while count < BLOCK_REJECTS and size < BLOCK_BYTES:
            try:
                batch = self._queue.get(block=not batches)
            except queue.Empty:
                break
            if batch is None:
                if batches:
                    self._queue.put(None)
                break
            batches.append(batch)
            count += len(batch[2])
            size += _bytes(batch[2])
        return batches

    def _write(self, batches: list[Batch]) -> None:
        rejects = [reject for batch in batches for reject in batch[2]]
        dropped = self.dropped
        block = "".join(map(_lines, batches))
        if dropped != self._told:
            block = _gap(dropped - self._told) + block
        try:
            self._file.append(block)
        except (OSError, ValueError) as error:
            self._failed += len(rejects)
            why = {
                "error": getattr(error, "strerror", None) or str(error),
                "path": self._file.baseFilename,
            }
            log.warning("rejects_not_written", **why, dropped=self.dropped)
        else:
            self._told = dropped
        self._out_bytes += _bytes(rejects)
        self._out_rejects += len(rejects)


def _bytes(rejects: Sequence[Reject]) -> int:
    return sum([len(reject.line) for reject in rejects])


def _lines(batch: Batch) -> str:
    """Lines of JSON; json.dumps would take four times as long.

    A character of ``line`` is a byte: ``json.loads(text)["line"].encode("latin-1")``.
    """
    when, peer, rejects = batch
    head = f'{{"time":"{_time(when)}","source":{_quoted(peer)},"reason":"'
    return "".join(
        [
            f'{head}{reject.reason}","sequence":'
            f'{"null" if reject.sequence is None else reject.sequence},"count":{reject.count},'
            f'"line":{_quoted(reject.line.decode("latin-1"))}}}\n'
            for reject in rejects
        ]
    )


def _gap(count: int) -> str:
    """The line that tells that some are not in the file."""
    return (
        f'{{"time":"{_time(time.time())}","source":null,"reason":"{NOT_RECORDED}",'
        f'"sequence":null,"count":{count},"line":""}}\n'
    )


def _time(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
