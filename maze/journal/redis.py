"""A journal in Redis: a stream with an entry for each append.

Each change is one Lua script (``redis_scripts``), which checks the fence first and writes once.
Repeating a call whose answer was lost is always safe. How durable an append is when it returns is
up to Redis (``appendfsync``, replicas); ``TailedJournal`` appends again what Redis has lost.
"""

import time
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from maze.core import Position
from maze.journal.journal import (
    Batch,
    Bounds,
    FencedError,
    GapError,
    GoneError,
    Journal,
    JournalError,
    OtherEpochError,
    SnapshotReplacedError,
    TrimmedError,
    check_kept,
    to_append,
)
from maze.journal.redis_address import RedisAddress
from maze.journal.redis_checks import check_server, durability, info, safe_seconds
from maze.journal.redis_connection import Argument, RedisClient
from maze.journal.redis_entries import (
    ENTRY_BYTES,
    FORMAT,
    SnapshotRow,
    encode_chunk,
    encode_entry,
    id_of,
    parse_id,
)
from maze.journal.redis_errors import damage
from maze.journal.redis_reader import NAME, TIMEOUT, RedisReader, newest_first
from maze.journal.redis_scripts import (
    ADD_CHUNK,
    APPEND,
    BEGIN_SNAPSHOT,
    CREATE,
    FINISH_SNAPSHOT,
    FORGET_SNAPSHOTS,
    LEASE,
    OLDEST,
    RELEASE,
    REMOVE_CHUNKS,
    RENEW,
    RESTORE_FENCE,
    TRIM,
    Script,
)
from maze.journal.retention import KeptBatch, Retention

LARGEST_ID = 2**64 - 1
"""Largest second half of an entry's id."""

NOWHERE = Position(0, 0)
"""A position at which no journal ends."""

GROUP_BYTES = 2**20
"""Bytes of bodies from which on an append should take no further batch: with 8 MiB, which suits a
file, a byte takes twice the time."""

MAX_REMOVED_ENTRIES = 100
"""Entries removed with one append (under a millisecond of Redis' time)."""

MAX_REMOVED_BYTES = 4 * 2**20
"""Bytes at which an append removes no further entry."""

LEFT_SNAPSHOTS = 20
"""Number of snapshots before the present one whose chunks are removed if a writer that ended too
early left them."""


class RedisJournal(RedisReader, Journal):
    """Keeps batches in Redis until they are trimmed.

    ``start`` is the position at which a new journal begins. With a ``retention``, appends remove
    old batches. A renewal of the lease waits for ``renewal_timeout`` seconds at most. ``clock``
    returns the Unix time. Raise JournalServerError if the server is not fit for a journal.
    """

    def __init__(
        self,
        address: RedisAddress,
        start: Position,
        name: str = NAME,
        *,
        timeout: float = TIMEOUT,
        renewal_timeout: float = TIMEOUT,
        retention: Retention | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(address, name, timeout=timeout)
        self._renewals = RedisClient(address, min(timeout, renewal_timeout))
        self._owner = ""
        self._lease_ms = 0
        self._fence = self._fence_before = 0
        self._retention = retention
        self._clock = clock
        self._tidied: int | None = None
        self._reads_settings = True
        check_server(self._client)
        while not self._create(start):
            pass
        self._state()  # checks the format
        self._end, self._appended = NOWHERE, 0  # as far as known: the first append finds out

    def close(self) -> None:
        """Close the connections that are not in use."""
        super().close()
        self._renewals.close()

    def lease(self) -> int:
        """Take the lease whoever holds it, and return its fence."""
        fence = self._take_lease("", 0, takes_ended=True)
        assert fence is not None
        return fence

    def try_lease(self, owner: str, seconds: float, *, takes_ended: bool = True) -> int | None:
        """Take the lease unless another owner holds it; return its fence, or None.

        It ends after ``seconds`` on Redis' clock, unless it is renewed. Even then nobody is fenced
        before another one takes it. Without ``takes_ended``, take only one that was given back.
        """
        return self._take_lease(owner, _milliseconds(seconds), takes_ended=takes_ended)

    def server_run(self) -> tuple[str, int]:
        """Return the id of the server's run, and the least time for which it has been the master.

        The time is in whole seconds. For a promoted replica it is 0, because INFO does not say when
        it was promoted. Redis forgets the promotion once it has had no replica of its own for an
        hour (``repl-backlog-ttl``).
        """
        found = info(self._client)
        was_replica = found.get("second_repl_offset", "-1") != "-1"
        return found["run_id"], 0 if was_replica else int(found["uptime_in_seconds"])

    def renew_lease(self, fence: int, seconds: float) -> None:
        """Hold the lease for ``seconds`` from now. Raise FencedError if another one has taken it.

        This also makes the fence valid again if Redis has lost it in a crash; so does ``append``.
        """
        arguments = (self._owner, _milliseconds(seconds))
        self._run_fenced(RENEW, fence, *arguments, client=self._renewals)

    def release_lease(self, fence: int) -> None:
        """Let others take the lease at once. Raise FencedError."""
        self._run(RELEASE, fence)

    def append(self, batches: Sequence[Batch], fence: int) -> Position:
        """Append batches; see ``Journal.append``.

        If this is interrupted, only those before the start of an epoch may have been appended. A
        GapError also means that Redis has lost batches that were appended.
        """
        now = int(self._clock())
        self._tidy(now, fence)  # first, because it makes room if Redis' memory is full
        while True:
            error: JournalError | None = None
            groups: list[list[Batch]] = []
            try:
                groups = _by_epoch(to_append(batches, self._end))
            except (GapError, OtherEpochError) as raised:
                error = raised
            if all(self._append_at_end(group, fence, now) for group in groups or [[]]):
                if error:
                    raise error
                return self._end

    def _append_at_end(self, batches: Sequence[Batch], fence: int, now: int) -> bool:
        """Append batches of one epoch; return False if the journal ends elsewhere, and note it.

        Without batches, only check where the journal ends. Redis refuses that whenever it would
        refuse batches.
        """
        arguments: list[Argument] = [id_of(self._end)]
        if batches:
            value = encode_entry(batches, self._end, now, self._appended)
            arguments += [id_of(batches[-1].position), value]
        answer = self._run_fenced(APPEND, fence, *arguments)
        if answer:
            self._end = parse_id(answer[0])
            self._appended = self._heads(answer)[0].total if len(answer) == 3 else 0
            return False
        if batches:
            self._end = batches[-1].position
            self._appended += len(value) + ENTRY_BYTES
        return True

    def safe_seconds(self) -> float:
        """Return for how long Redis may still lose an append; see ``Tail``.

        A lease is renewed in between, so this waits no longer than a renewal.
        """
        client = self._renewals
        settings = durability(client) if self._reads_settings else {}
        self._reads_settings = bool(settings)  # a refusal ends the connections: ask only once
        return safe_seconds(client, settings)

    def trim(self, before: Position, fence: int) -> None:
        """Remove the batches that end at or below a position, except those that were appended
        together with later ones."""
        number = min(before.next + 1, LARGEST_ID)
        self._run(TRIM, fence, id_of(before._replace(next=number)))

    def begin_snapshot(self, position: Position, bounds: Bounds, fence: int) -> "RedisSnapshot":
        """Begin a snapshot; see ``Journal.begin_snapshot``."""
        state = self._state()
        check_kept(position, state.kept_from, state.position)
        self._check_end(position, state.kept_from)
        number = int(self._run(BEGIN_SNAPSHOT, fence, keys=[self._keys.begun])[0])
        self._remove_chunks(number, fence)
        row = SnapshotRow(position, int(self._clock()), bounds, chunks=0, size=0)
        return RedisSnapshot(self, number, row, fence)

    def add_chunk(self, number: int, place: int, chunk: bytes, fence: int) -> None:
        """Add a chunk to an unfinished snapshot; see ``SnapshotWriter.add``."""
        keys = [self._keys.begun, f"{self._keys.chunks}{number}"]
        self._run(ADD_CHUNK, fence, number, place, encode_chunk(number, place, chunk), keys=keys)

    def finish_snapshot(self, number: int, row: SnapshotRow, fence: int) -> None:
        """Keep a snapshot and the one before; see ``SnapshotWriter.finish``."""
        is_trimmed = int(row.position < self.kept_from())  # only the holder of the lease trims
        chunks, snapshots = f"{self._keys.chunks}{number}", self._keys.snapshots
        keys = [self._keys.begun, chunks, snapshots]
        self._run(FINISH_SNAPSHOT, fence, number, row.chunks, row.encode(), is_trimmed, keys=keys)
        stored = newest_first(self._client.call("HGETALL", snapshots))
        ranked = sorted((row.position if row else NOWHERE, int(name)) for name, row in stored)
        if removed := [each for _, each in ranked[:-2]]:
            self._run(FORGET_SNAPSHOTS, fence, *removed, keys=[snapshots])
        self._remove_chunks(number, fence)

    def _remove_chunks(self, number: int, fence: int) -> None:
        """Remove the chunks of snapshots up to a number that are not, or no longer, finished."""
        kept = {int(each) for each in self._client.call("HKEYS", self._keys.snapshots)}
        names = set(range(max(1, number - LEFT_SNAPSHOTS), number + 1)) - kept
        if names:
            keys = [f"{self._keys.chunks}{each}" for each in sorted(names)]
            self._run(REMOVE_CHUNKS, fence, keys=keys)

    def _create(self, start: Position) -> bool:
        """Take the next step to create the journal, if any; return whether it was the last."""
        keys = [self._keys.origin, self._keys.stream]
        kind, *rest = self._client.run(CREATE, keys, FORMAT, id_of(start))
        if kind == b"HEADLESS":
            raise damage(self.where, rest[0].decode())
        return bool(kind == b"OK")

    def _take_lease(self, owner: str, milliseconds: int, *, takes_ended: bool) -> int | None:
        keys = [self._keys.lease, self._keys.stream]
        answer = self._client.run(LEASE, keys, owner, milliseconds, int(takes_ended))
        if answer[0] == b"HELD":
            return None
        self._owner, self._lease_ms = owner, milliseconds
        self._fence, self._fence_before = map(int, self._checked(answer))
        return self._fence

    def _tidy(self, now: int, fence: int) -> None:
        """Once a second, remove what is old; go on with the next append if more is left.

        Nothing is removed before there are two snapshots: one of them may be damaged.
        """
        if self._retention is None or now == self._tidied:
            return
        rows = newest_first(self._client.call("HGETALL", self._keys.snapshots))
        whole = [row for _, row in rows if row]
        if len(whole) >= 2 and self._remove_oldest(self._retention, whole, now, fence):
            return
        self._tidied = now

    def _remove_oldest(
        self, retention: Retention, snapshots: list[SnapshotRow], now: int, fence: int
    ) -> bool:
        """Remove what is old, or part of it; return whether more may be left."""
        used = self._batch_bytes(self._state()) + sum(row.size for row in snapshots)
        stream = self._keys.stream
        found = self._client.run(OLDEST, [stream], MAX_REMOVED_ENTRIES, MAX_REMOVED_BYTES)
        oldest = self._heads(found)
        kept = [KeptBatch(head.end, head.committed, head.bytes) for head in oldest]
        before, is_complete = retention.trimming(kept, snapshots[-1].position, now, used)
        if before:
            self.trim(before, fence)
        return not is_complete or (before is not None and before == oldest[-1].end)

    def _run_fenced(
        self, script: Script, fence: int, *arguments: Argument, client: RedisClient | None = None
    ) -> list[Any]:
        """Run a script; if Redis has lost the fence that it gave to this object, tell it again."""
        try:
            return self._run(script, fence, *arguments, client=client)
        except FencedError:
            if fence != self._fence:
                raise
            restored = (self._owner, self._lease_ms, self._fence_before)
            self._run(RESTORE_FENCE, fence, *restored, client=client)
            return self._run(script, fence, *arguments, client=client)

    def _run(
        self,
        script: Script,
        fence: int,
        *arguments: Argument,
        keys: Sequence[str] = (),
        client: RedisClient | None = None,
    ) -> list[Any]:
        names = [self._keys.lease, self._keys.stream, *keys]
        return self._checked((client or self._client).run(script, names, fence, *arguments))

    def _checked(self, answer: list[Any]) -> list[Any]:
        """Return an answer without its first element. Raise the error that this one stands for."""
        kind, *rest = answer
        match kind:
            case b"FENCED":
                raise FencedError
            case b"GONE":
                raise GoneError(f"{self.where} was removed while it was open")
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


def _by_epoch(batches: list[Batch]) -> list[list[Batch]]:
    """Return the batches of each epoch, in order."""
    return [list(group) for _, group in groupby(batches, lambda batch: batch.epoch)]


def _milliseconds(seconds: float) -> int:
    return max(1, round(1000 * seconds))
