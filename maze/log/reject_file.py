"""The reject file: one line of JSON for each reject and, if wanted, each undelivered event.

The event path puts lists of rejects into a bounded queue; a native thread formats and writes them.
The event path never waits for the thread: rejects that do not fit in the queue or cannot be
written are dropped, counted and logged. The thread works at most a quarter of the time, because
the event loop cannot run while it does.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import gevent
import structlog

from maze.core import Reject, Undelivered
from maze.errors import RejectFileError
from maze.log.rotated_file import Place, RotatedFile

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
CHECK_SECONDS = 1.0
"""Minimum time between two checks of what the path leads to. A check is a system call, after which
the thread waits for the GIL again."""
ROW_BYTES = 256
"""More than the length of the line that reports missing rejects."""

NOT_RECORDED = "not_recorded"
"""The reason given in the line that reports how many rejects are not in the file."""

_quoted = json.encoder.encode_basestring_ascii


def cannot_open(path: str, error: OSError) -> RejectFileError:
    """Return the error that says why a reject file cannot be opened."""
    return RejectFileError(f"cannot open {path}: {error.strerror}; choose another with --rejects")


Rejects = Sequence[Reject | Undelivered]
"""What is recorded. Undelivered events are treated, and counted, as rejects here."""
Entry = tuple[float, str, Rejects]
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
            self._file = RotatedFile(path, size, files)
        except OSError as error:
            raise cannot_open(path, error) from None
        self._queue: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        # The event path changes the first three counters, the thread changes the others; so no
        # lock is needed.
        self._in_rejects = self._in_bytes = self._overflowed = 0
        self._out_rejects = self._out_bytes = self._failed = self._removed = 0
        self._reported = 0
        self._check_at = 0.0
        self._unchecked = 0  # rejects written since the last check
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="reject file", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Number of rejects that could not be written to the file."""
        return self._overflowed + self._failed

    @property
    def written(self) -> int:
        """Number of rejects that were written to the file."""
        return self._out_rejects - self._failed

    @property
    def _missing(self) -> int:
        """Number of rejects that the file has to report as missing."""
        return self.dropped + self._removed

    def add(self, rejects: Rejects, peer: str) -> None:
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
            log.warning("rejects_dropped", dropped=self.dropped, path=self._file.path)

    def reopen(self) -> None:
        """Open the file again if it was renamed or removed, once the queue is written.

        It is asked for on SIGHUP; without it the thread finds out within CHECK_SECONDS, when it
        writes. Never waits.
        """
        self._check_at = 0.0
        self._queue.put((0.0, "", ()))  # wakes the thread

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
            log.warning("rejects_not_written", lost=lost, path=self._file.path)

    def _run(self) -> None:
        while entries := self._next_entries():
            began = time.thread_time()
            self._write(entries)
            if not self._closing:
                time.sleep(REST_RATIO * (time.thread_time() - began))
        self._check_at = 0.0
        self._check(0)
        if self._missing != self._reported:
            self._write([])
        self._file.close()

    def _next_entries(self) -> list[Entry]:
        """Wait for an entry; return all that are queued, up to a block. Return none at the end."""
        entries: list[Entry] = []
        count = size = 0
        while count < BLOCK_REJECTS and size < BLOCK_BYTES:
            try:
                entry = self._queue.get_nowait() if entries else self._first_entry()
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

    def _first_entry(self) -> Entry | None:
        """Wait for an entry; a second after the last write, look where the file is."""
        if self._unchecked:
            try:
                return self._queue.get(timeout=max(0.0, self._check_at - time.monotonic()))
            except queue.Empty:
                self._check(0)
        return self._queue.get()

    def _write(self, entries: list[Entry]) -> None:
        """Write a block, after a line that reports what is missing; drop it if that fails."""
        rejects = [reject for entry in entries for reject in entry[2]]
        block = "".join(map(_lines, entries))
        self._check(len(block) + ROW_BYTES)
        missing = self._missing
        if missing != self._reported:
            block = _missing_line(missing - self._reported) + block
        try:
            self._file.append(block.encode("ascii"))
        except OSError as error:
            self._failed += len(rejects)
            log.warning(
                "rejects_not_written",
                error=error.strerror,
                path=self._file.path,
                dropped=self.dropped,
            )
        else:
            self._reported = missing
            self._unchecked += len(rejects)
        self._out_bytes += _bytes(rejects)
        self._out_rejects += len(rejects)

    def _check(self, size: int) -> None:
        """Open the file again if it was renamed or removed.

        Check at most once a second, and before the file is full. If it cannot be opened, a renamed
        file still gets the lines. What a removed one got since the last check counts as missing.
        """
        if time.monotonic() < self._check_at and self._file.has_room(size):
            return
        self._check_at = time.monotonic() + CHECK_SECONDS
        try:
            place = self._file.find()
            lost = self._unchecked if place is Place.REMOVED else 0
            self._removed += lost
            self._unchecked = 0
            if place is not Place.SAME:
                self._file.open()
                write = log.warning if lost else log.info
                write("reject_file_reopened", path=self._file.path, lost=lost)
        except OSError as error:
            log.warning("reject_file_not_reopened", error=error.strerror, path=self._file.path)


def _bytes(rejects: Rejects) -> int:
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


def _missing_line(count: int) -> str:
    """Return the line that reports how many rejects are not in the file."""
    return (
        f'{{"time":"{_time(time.time())}","source":null,"reason":"{NOT_RECORDED}",'
        f'"sequence":null,"count":{count},"line":""}}\n'
    )


def _time(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
