"""A journal in Redis: a stream with an entry for each batch.

Each change is one Lua script (``redis_scripts``), which checks the fence first. Repeating a call
whose answer was lost is always safe. How durable an append is when it returns is up to Redis
(``appendfsync``, replicas); ``TailedJournal`` appends again what Redis has lost.
"""

import time
from collections.abc import Callable, Iterator, Sequence

from maze.core import Position
from maze.journal.journal import (
    Batch,
    Bounds,
    FencedError,
    GapError,
    GoneError,
    Journal,
    OtherEpochError,
    SnapshotReplacedError,
    TrimmedError,
    check_kept,
)
from maze.journal.redis_address import RedisAddress
from maze.journal.redis_checks import check_server, rewrite_after_start, safe_seconds
from maze.journal.redis_connection import Argument
from maze.journal.redis_entries import ENTRY_BYTES, SnapshotRow, encode_batch, encode_chunk
from maze.journal.redis_errors import damage
from maze.journal.redis_reader import FORMAT, NAME, TIMEOUT, RedisReader, newest_first
from maze.journal.redis_scripts import (
    ADD_CHUNK,
    APPEND,
    BEGIN_SNAPSHOT,
    CREATE,
    FINISH_SNAPSHOT,
    LEASE,
    RELEASE,
    RENEW,
    RESTORE_FENCE,
    TRIM,
    Script,
)
from maze.journal.retention import KeptBatch, Retention

LARGEST_ID = 2**64 - 1
"""Largest second half of an entry's id."""

GROUP_BYTES = 2**20
"""Bytes of bodies from which on an append should take no further batch: with 8 MiB, which suits a
file, a byte takes twice the time."""

SECTION_BYTES = 4 * 2**20
"""Size at which a section that retention removes as a whole ends, if it does not end sooner, with
the second."""

MAX_REMOVED_SECTIONS = 100
"""Sections removed with one append."""


class RedisJournal(RedisReader, Journal):
    """Keeps batches in Redis until they are trimmed.

    ``start`` is the position at which a new journal begins. With a ``retention``, appends remove
    old batches. ``clock`` returns the Unix time. Raise JournalServerError if the server is not fit
    for a journal.
    """

    def __init__(
        self,
        address: RedisAddress,
        start: Position,
        name: str = NAME,
        *,
        timeout: float = TIMEOUT,
        retention: Retention | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(address, name, timeout=timeout)
        self._owner = ""
        self._fence = 0
        self._retention = retention
        self._clock = clock
        self._tidied: int | None = None
        self._section_began = -1
        self._section_bytes = 0
        check_server(self._client)
        self._create(start)
        self._state()  # checks the format
        self._connections = 0
        self._check_restart()

    def lease(self) -> int:
        """Take the lease whoever holds it, and return its fence."""
        fence = self._take_lease("", 0)
        assert fence is not None
        return fence

    def try_lease(self, owner: str, seconds: float) -> int | None:
        """Take the lease unless another owner holds it; return its fence, or None.

        It ends after ``seconds`` on Redis' clock, unless it is renewed. Even then nobody is fenced
        before another one takes it.
        """
        self._owner = owner
        return self._take_lease(owner, seconds)

    def renew_lease(self, fence: int, seconds: float) -> None:
        """Hold the lease for ``seconds`` from now. Raise FencedError if another one has taken it.

        This also makes the fence valid again if Redis has lost it in a crash; so does ``append``.
        """
        keys = ("state", "lease")
        self._run_fenced(RENEW, keys, fence, self._owner, _milliseconds(seconds))

    def release_lease(self, fence: int) -> None:
        """Let others take the lease at once. Raise FencedError."""
        self._run(RELEASE, ("state", "lease"), fence, self._owner)

    def append(self, batches: Sequence[Batch], fence: int) -> Position:
        """Append batches; see ``Journal.append``.

        A GapError also means that Redis has lost batches that were appended.
        """
        now = int(self._clock())
        self._tidy(now, fence)  # first, because it makes room if Redis' memory is full
        entries = [encode_batch(batch, now) for batch in batches]
        self._section_bytes += sum(map(len, entries))
        ends_section = now != self._section_began or self._section_bytes >= SECTION_BYTES
        arguments: list[Argument] = []
        for (epoch, first, end, *_), entry in zip(batches, entries, strict=True):
            arguments += (epoch, first, end, entry)
        mark = int(ends_section and self._retention is not None)
        keys = ("state", "stream", "marks")
        answer = self._run_fenced(APPEND, keys, fence, now, mark, ENTRY_BYTES, *arguments)
        if ends_section and batches:
            self._section_began, self._section_bytes = now, 0
        self._check_restart()
        return Position(int(answer[0]), int(answer[1]))

    def safe_seconds(self) -> float:
        """Return for how long Redis may still lose an append; see ``Tail``."""
        return safe_seconds(self._client)

    def trim(self, before: Position, fence: int) -> None:
        """Remove the batches that end at or below a position."""
        epoch, number = before.epoch, min(before.next, LARGEST_ID - 1)
        self._run(TRIM, ("state", "stream", "marks"), fence, epoch, number, number + 1)

    def begin_snapshot(self, position: Position, bounds: Bounds, fence: int) -> "RedisSnapshot":
        """Begin a snapshot; see ``Journal.begin_snapshot``."""
        state = self._state()
        check_kept(position, state.kept_from, state.position)
        self._check_end(position, state)
        (number,) = self._run(BEGIN_SNAPSHOT, ("state",), fence, self._keys.chunks)
        row = SnapshotRow(position, int(self._clock()), bounds, chunks=0, size=0)
        return RedisSnapshot(self, int(number), row, fence)

    def add_chunk(self, number: int, place: int, chunk: bytes, fence: int) -> None:
        """Add a chunk to an unfinished snapshot; see ``SnapshotWriter.add``."""
        keys = [self._keys.state, f"{self._keys.chunks}{number}"]
        self._run_with(ADD_CHUNK, keys, fence, number, place, encode_chunk(number, place, chunk))

    def finish_snapshot(self, number: int, row: SnapshotRow, fence: int) -> None:
        """Keep a snapshot and the one before; see ``SnapshotWriter.finish``."""
        stored = newest_first(self._client.call("HGETALL", self._keys.snapshots))
        others = [(each.position if each else (-1, 0), int(name)) for name, each in stored]
        ranked = sorted({*others, (row.position, number)}, reverse=True)
        removed = [each for _, each in ranked[2:]]
        of_row = (*row.position, row.encode(), row.chunks)
        keys = ("state", "snapshots")
        self._run(FINISH_SNAPSHOT, keys, fence, number, *of_row, self._keys.chunks, *removed)

    def _check_restart(self) -> None:
        """Have the append-only file written anew if the server may have restarted."""
        connections = self._client.connections
        if connections != self._connections:
            rewrite_after_start(self._client, self._keys.state)
            self._connections = connections

    def _create(self, start: Position) -> None:
        answer = self._client.run(CREATE, [self._keys.state, self._keys.stream], FORMAT, *start)
        if answer[0] == b"HEADLESS":
            raise damage(self.where, f"it has batches, but no key {self._keys.state}")

    def _take_lease(self, owner: str, seconds: float) -> int | None:
        keys = [self._keys.state, self._keys.lease]
        answer = self._client.run(LEASE, keys, owner, _milliseconds(seconds))
        if answer[0] == b"HELD":
            return None
        self._fence = int(self._checked(answer)[0])
        return self._fence

    def _tidy(self, now: int, fence: int) -> None:
        """Once a second, remove what is old; go on with the next append if more is left.

        Nothing is removed before there are two snapshots: one of them may be damaged.
        """
        if self._retention is None or now == self._tidied:
            return
        marks, stored, values = self._client.pipeline(
            ("LRANGE", self._keys.marks, 0, MAX_REMOVED_SECTIONS - 1),
            ("HGETALL", self._keys.snapshots),
            ("HMGET", self._keys.state, "bytes", "trimmed"),
        )
        rows = [row for _, row in newest_first(stored) if row]
        before, is_complete = None, True
        if len(rows) >= 2:
            appended, trimmed = map(int, values)
            used = appended - trimmed + sum(row.size for row in rows)
            sections = list(_sections(marks, trimmed))
            before, is_complete = self._retention.trimming(sections, rows[-1].position, now, used)
            if before and len(marks) == MAX_REMOVED_SECTIONS and before == sections[-1].position:
                is_complete = False
        if before:
            self.trim(before, fence)
        if is_complete:
            self._tidied = now

    def _run_fenced(
        self, script: Script, keys: Sequence[str], fence: int, *arguments: Argument
    ) -> list[bytes]:
        """Run a script; if Redis has lost the fence that it gave to this object, tell it again."""
        try:
            return self._run(script, keys, fence, *arguments)
        except FencedError:
            if fence != self._fence:
                raise
            self._run(RESTORE_FENCE, ("state", "lease"), fence, self._owner)
            return self._run(script, keys, fence, *arguments)

    def _run(self, script: Script, keys: Sequence[str], *arguments: Argument) -> list[bytes]:
        return self._run_with(script, [getattr(self._keys, key) for key in keys], *arguments)

    def _run_with(self, script: Script, keys: Sequence[str], *arguments: Argument) -> list[bytes]:
        return self._checked(self._client.run(script, keys, *arguments))

    def _checked(self, answer: list[bytes]) -> list[bytes]:
        """Return an answer without its first element. Raise the error that this one stands for."""
        kind, *rest = answer
        match kind:
            case b"FENCED":
                raise FencedError
            case b"GONE":
                raise GoneError(f"{self.where} was removed while it was open")
            case b"EPOCH":
                raise OtherEpochError(f"epoch {int(rest[0])} has not begun")
            case b"GAP":
                raise GapError(Position(int(rest[0]), int(rest[1])))
            case b"REPLACED":
                raise SnapshotReplacedError("a later snapshot was begun")
            case b"LOST":
                raise SnapshotReplacedError("Redis has lost a part of the snapshot")
            case b"TRIMMED":
                raise TrimmedError("what follows the snapshot is no longer kept")
        return rest


class RedisSnapshot:
    """A snapshot that is being written, a call for each chunk."""

    def __init__(self, journal: RedisJournal, number: int, row: SnapshotRow, fence: int) -> None:
        self._journal = journal
        self._number = number
        self._row = row
        self._fence = fence

    def add(self, chunk: bytes) -> None:
        """Add a chunk; see ``SnapshotWriter.add``."""
        row = self._row
        self._journal.add_chunk(self._number, row.chunks, chunk, self._fence)
        self._row = row._replace(chunks=row.chunks + 1, size=row.size + len(chunk))

    def finish(self) -> None:
        """Keep the snapshot; see ``SnapshotWriter.finish``."""
        self._journal.finish_snapshot(self._number, self._row, self._fence)


def _sections(marks: list[bytes], trimmed: int) -> Iterator[KeptBatch]:
    """Return the sections of the stream between marks, as if each were a batch."""
    before = trimmed
    for mark in marks:
        epoch, number, committed, appended = map(int, mark.split())
        yield KeptBatch(Position(epoch, number), committed, appended - before)
        before = appended


def _milliseconds(seconds: float) -> int:
    return max(1, round(1000 * seconds))
