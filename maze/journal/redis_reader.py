"""Reads a journal in Redis; any number of readers may, on any machine."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from maze.core import Position
from maze.journal.check import Stored, StoredSnapshot
from maze.journal.figures import Overview, Statistics
from maze.journal.journal import (
    Batch,
    JournalError,
    JournalServerError,
    NoSnapshotError,
    OtherEpochError,
    Snapshot,
    UnavailableError,
    check_kept,
)
from maze.journal.redis_address import RedisAddress
from maze.journal.redis_connection import RedisClient
from maze.journal.redis_entries import (
    FORMAT,
    DamagedError,
    Entry,
    Head,
    Keys,
    SnapshotRow,
    decode_chunk,
    decode_entry,
    decode_head,
    id_of,
    parse_id,
    position_of,
)
from maze.journal.redis_errors import damage
from maze.journal.redis_scripts import STATE

NAME = "maze"
"""Name of a journal that was given no other."""

TIMEOUT = 5.0
"""Seconds for which Redis may be silent."""

BATCH_BYTES = 200
"""Bytes counted for a batch besides its lines: reading a small batch costs as much."""

READ_BYTES = 4 * 2**20
"""Bytes of batches read at a time, about, if the caller names no limit."""

MAX_READ_ENTRIES = 16
"""Entries asked for at once. They may be a thousand times larger than those before; 128 small ones
at once are not read faster."""

FIRST_GUESS_BYTES = 2**16
"""Assumed size of an entry before any was read."""

CHECKED_ENTRIES = 20
"""Entries checked at once (up to 30 MiB)."""

CHUNKS_AT_ONCE = 4
"""Chunks of a snapshot asked for at once (about 4 MiB)."""

MIN_BLOCK_MS = 1
"""Shortest wait; 0 would mean for ever."""


class State(NamedTuple):
    """What is known of a journal without its batches."""

    kept_from: Position
    position: Position
    needs_snapshot: bool
    """Whether the graph where the kept batches begin is unknown without a snapshot."""
    ends: list[Any]
    """Id, head and size of the first and the last entry, unless there is none."""


class RedisReader:
    """Reads the journal ``name`` at an address.

    In a thread with an event loop, waiting lets other greenlets run; elsewhere it blocks the
    thread. Any thread may call any method at any time. All raise UnavailableError if Redis cannot
    be reached or has no such journal yet, and JournalServerError if it refuses for good or the
    journal is damaged.
    """

    def __init__(
        self, address: RedisAddress, name: str = NAME, *, timeout: float = TIMEOUT
    ) -> None:
        self._keys = Keys.of(name)
        self._client = RedisClient(address, timeout)
        self.where = f"the journal {name!r} in {address}"
        self._last_entries = MAX_READ_ENTRIES // 2  # read last, for the next guess
        self._last_bytes = self._last_entries * FIRST_GUESS_BYTES

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._client.close()

    def position(self) -> Position:
        """Return the position after the last batch."""
        return self._state().position

    def kept_from(self) -> Position:
        """Return where the kept batches begin."""
        return self._state().kept_from

    def read(self, after: Position, max_bytes: int = READ_BYTES) -> list[Batch]:
        """Return some of the batches after a position; see ``Journal.read``.

        Batches that were appended together are returned together, even beyond ``max_bytes``.
        """
        for _ in range(2):  # the second time if something is appended between the two calls
            stored = self._stored(f"({id_of(after)}", self._count(max_bytes))
            first = self._decode(stored[0]) if stored else None
            if first and first.head.before == after:
                return self._take(first, stored[1:], max_bytes)
            state = self._state()
            check_kept(after, state.kept_from, state.position)
            if first:
                return self._take(self._rest(first, after), stored[1:], max_bytes)
            if after == state.position:
                return []
        raise self._gap(None, after)

    def wait(self, after: Position, seconds: float, max_bytes: int = READ_BYTES) -> list[Batch]:
        """Return the batches after a position as ``read`` does, or [] if none comes in time."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            # Redis has to answer before the connection loses its patience.
            block = max(MIN_BLOCK_MS, int(1000 * min(left, self._client.timeout / 2)))
            count = self._count(max_bytes)
            key = self._keys.stream
            streams = self._client.call(
                *("XREAD", "COUNT", count, "BLOCK", block, "STREAMS", key, id_of(after))
            )
            if streams:
                stored = streams[0][1]
                first = self._decode(stored[0])
                if first.head.before == after:
                    return self._take(first, stored[1:], max_bytes)
            # Nothing, or something that does not simply continue: batches were trimmed or lost, or
            # some of an entry are known. XREAD would skip that silently.
            if found := self.read(after, max_bytes):
                return found
        return self.read(after, max_bytes) if seconds <= 0 else []

    def get_snapshot(self, report: Callable[[str], None]) -> Snapshot | None:
        """Return the newest usable snapshot; see ``Journal.get_snapshot``."""
        while True:
            # In this order: the batches after a snapshot are not trimmed before it is replaced.
            state, stored = self._state(), self._client.call("HGETALL", self._keys.snapshots)
            for number, row in newest_first(stored):
                reason = "is damaged"
                if row is not None and row.position < state.kept_from:
                    reason = "is of no use, as the batches after it are no longer kept"
                elif row is not None:
                    chunks = self._chunks(number, row)
                    if chunks is not None:
                        return Snapshot(row.position, row.bounds, chunks)
                    if not self._client.call("HEXISTS", self._keys.snapshots, number):
                        break  # replaced by a newer one meanwhile
                name = f"{row.position.epoch}-{row.position.next}" if row else f"number {number}"
                report(f"{self.where}: the snapshot {name} {reason}")
            else:
                if state.needs_snapshot:
                    raise NoSnapshotError
                return None

    def statistics(self) -> Statistics:
        """Return figures about the journal. The time this takes grows with the epochs."""
        state, stored = self._state(), self._client.call("HGETALL", self._keys.snapshots)
        rows = [row for _, row in newest_first(stored) if row]
        return Statistics(
            state.kept_from,
            state.position,
            self._count_events(state),
            self._batch_bytes(state) + sum(row.size for row in rows),
            rows[0].position if rows else None,
        )

    def overview(self) -> Overview:
        """Return further figures about the journal. Its batches are counted as they were appended:
        those that were appended together are one."""
        stream = self._keys.stream
        count, oldest, newest, stored = self._client.pipeline(
            ("XLEN", stream),
            ("XRANGE", stream, "-", "+", "COUNT", 1),
            ("XREVRANGE", stream, "+", "-", "COUNT", 1),
            ("HGETALL", self._keys.snapshots),
        )
        times = [entry.head.committed for entry in self._decoded(oldest + newest)]
        rows = [row for _, row in newest_first(stored) if row]
        snapshots = [(row.position, row.committed, row.size) for row in rows]
        if not times:
            return Overview(count, None, None, snapshots)
        return Overview(count, times[0], times[-1], snapshots)

    def epoch_begin(self) -> Position:
        """Return where the kept batches of the present epoch begin."""
        state = self._state()
        epoch = state.position.epoch
        if epoch == state.kept_from.epoch:
            return state.kept_from
        (entry,) = self._entries(epoch, 1, epoch)
        return Position(epoch, entry.batches[0].first)

    def stored_after(self, after: Position) -> list[Stored]:
        """Return the next batches after a position, whole or not; see ``Checked``."""
        command = ("XRANGE", self._keys.stream, f"({id_of(after)}", "+", "COUNT", CHECKED_ENTRIES)
        return [_stored(each) for each in self._client.call(*command)]

    def stored_snapshots(self) -> list[StoredSnapshot]:
        """Return the finished snapshots."""
        return [
            StoredSnapshot(int(number), f"snapshot {id_of(row.position)}", row.chunks)
            if row
            else StoredSnapshot(int(number), f"snapshot number {number}", None)
            for number, row in newest_first(self._client.call("HGETALL", self._keys.snapshots))
        ]

    def stored_chunks(self, snapshot: StoredSnapshot) -> list[tuple[int, bool]] | None:
        """Return the chunks of a snapshot, whole or not; see ``Checked``."""
        number = snapshot.number
        key = f"{self._keys.chunks}{number}"
        chunks: list[tuple[int, bool]] = []
        while stored := self._client.call("LRANGE", key, len(chunks), len(chunks)):
            chunks.append((len(chunks), _is_whole_chunk(number, len(chunks), stored[0])))
        return chunks if self._client.call("HEXISTS", self._keys.snapshots, number) else None

    def _state(self) -> State:
        keys = [self._keys.origin, self._keys.stream]
        origin, last, *entries = self._client.run(STATE, keys)
        if not origin and not last:
            raise UnavailableError(f"{self.where} does not exist")
        if not last:
            raise damage(self.where, "its batches are gone")
        if not origin:
            raise damage(self.where, f"it has batches, but no key {self._keys.origin}")
        version, _, start = origin.partition(b" ")
        if int(version) > FORMAT:
            found = f"{self.where} has format {int(version)}"
            raise JournalServerError(f"{found}; this server has {FORMAT}")
        position = parse_id(last)
        heads = self._heads(entries[:3])
        kept_from = heads[0].before if heads else position
        return State(kept_from, position, kept_from != parse_id(start), entries)

    def _batch_bytes(self, state: State) -> int:
        """Return about how much memory the kept batches take."""
        heads = self._heads(state.ends)
        return heads[-1].total - heads[0].appended if heads else 0

    def _heads(self, parts: Sequence[Any]) -> list[Head]:
        """Return the heads of the entries in a script's answer."""
        try:
            return [decode_head(*parts[at : at + 3]) for at in range(0, len(parts), 3)]
        except DamagedError:
            raise damage(self.where, "it has an entry without a head") from None

    def _count(self, max_bytes: int) -> int:
        """Return how many entries to ask for.

        Assume that they are as large as the last ones, and ask for at most twice as many as were
        read last.
        """
        wanted = max_bytes * self._last_entries // self._last_bytes
        return min(max(wanted, 1), 2 * self._last_entries, MAX_READ_ENTRIES)

    def _stored(self, start: str | int, count: int, end: str | int = "+") -> list[Any]:
        stored: list[Any] = self._client.call(
            *("XRANGE", self._keys.stream, start, end, "COUNT", count)
        )
        return stored

    def _entries(self, start: str | int, count: int, end: str | int = "+") -> list[Entry]:
        return self._decoded(self._stored(start, count, end))

    def _decoded(self, stored: list[Any]) -> list[Entry]:
        return [self._decode(each) for each in stored]

    def _decode(self, stored: Any) -> Entry:
        try:
            return decode_entry(stored)
        except DamagedError:
            at = stored[0].decode("utf-8", "replace")
            raise damage(self.where, f"the checksum of batch {at} is wrong") from None

    def _rest(self, entry: Entry, after: Position) -> Entry:
        """Return an entry without the batches up to a position. Raise OtherEpochError."""
        if entry.head.before > after:
            raise self._gap(entry.batches[0], after)
        batches = [batch for batch in entry.batches if batch.position > after]
        if not batches or batches[0][:2] > after:
            raise OtherEpochError(f"no batch ends at {after.epoch}-{after.next}")
        return Entry(entry.head, batches)

    def _take(self, first: Entry, others: list[Any], max_bytes: int) -> list[Batch]:
        """Return the batches of the first entry, and those after it up to a limit.

        Stop decoding at the first entry that exceeds the limit. Raise if a batch is missing.
        """
        end, found = first.head.end, first.batches
        size, entries = _size(found), 1
        for stored in others:
            head, batches = self._decode(stored)
            if head.before != end:
                raise self._gap(batches[0], end)
            size += _size(batches)
            entries += 1
            if size > max_bytes:
                break
            end = head.end
            found += batches
        self._last_entries, self._last_bytes = entries, max(size, 1)
        return found

    def _check_end(self, position: Position, kept_from: Position) -> None:
        """Raise OtherEpochError unless a batch ends at the position, or the kept ones begin."""
        if position == kept_from:
            return
        for entry in self._entries(id_of(position), 1):
            if any(batch.position == position for batch in entry.batches):
                return
        raise OtherEpochError(f"no batch ends at {position.epoch}-{position.next}")

    def _gap(self, batch: Batch | None, position: Position) -> JournalError:
        found = f"the next is {batch.epoch}-{batch.first}" if batch else "there is no other"
        return damage(self.where, f"no batch after {position.epoch}-{position.next}; {found}")

    def _chunks(self, number: str, row: SnapshotRow) -> list[bytes] | None:
        """Return the chunks of a snapshot, or None if one is missing or damaged."""
        chunks: list[bytes] = []
        while len(chunks) < row.chunks:
            begin = len(chunks)
            key = f"{self._keys.chunks}{number}"
            stored = self._client.call("LRANGE", key, begin, begin + CHUNKS_AT_ONCE - 1)
            try:
                chunks += [
                    decode_chunk(int(number), place, each)
                    for place, each in enumerate(stored, begin)
                ]
            except DamagedError:
                return None
            if not stored:
                return None
        return chunks if len(chunks) == row.chunks else None

    def _count_events(self, state: State) -> int:
        """Return how many sequence numbers the kept batches have."""
        if state.kept_from.epoch == state.position.epoch:
            return state.position.next - state.kept_from.next
        events, from_id = 0, "-"
        while entries := self._entries(from_id, 1):
            (entry,) = entries
            epoch = entry.head.end.epoch
            key = self._keys.stream
            # Nothing if it was trimmed meanwhile.
            for last in self._client.call("XREVRANGE", key, epoch, epoch, "COUNT", 1):
                events += position_of(last).next - entry.batches[0].first
            from_id = f"{epoch + 1}"
        return events


def _stored(entry: Any) -> Stored:
    try:
        head, batches = decode_entry(entry)
        return Stored(head.end, batches, head.before)
    except DamagedError:
        return Stored(position_of(entry), None)


def _is_whole_chunk(snapshot: int, place: int, stored: bytes) -> bool:
    try:
        decode_chunk(snapshot, place, stored)
    except DamagedError:
        return False
    return True


def newest_first(stored: list[bytes]) -> list[tuple[str, SnapshotRow | None]]:
    """Return number and row of each snapshot, the newest first; before them those with no row,
    because it is damaged."""
    rows: list[tuple[str, SnapshotRow]] = []
    damaged: list[tuple[str, SnapshotRow | None]] = []
    for number, row in zip(stored[::2], stored[1::2], strict=True):
        try:
            rows.append((number.decode(), SnapshotRow.decode(row)))
        except DamagedError:
            damaged.append((number.decode(), None))
    rows.sort(key=lambda each: (each[1].position, int(each[0])), reverse=True)
    return [*damaged, *rows]


def _size(batches: Sequence[Batch]) -> int:
    """Return the bytes that batches count when they are read up to a limit."""
    return sum(len(batch.body) + len(batch.unchanged) + BATCH_BYTES for batch in batches)
