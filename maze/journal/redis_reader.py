"""Reads a journal in Redis; any number of readers may, on any machine."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from maze.core import Position
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
    follows,
)
from maze.journal.redis_address import RedisAddress
from maze.journal.redis_connection import RedisClient
from maze.journal.redis_entries import (
    DamagedError,
    SnapshotRow,
    decode_chunk,
    decode_entry,
    position_of,
)
from maze.journal.redis_errors import damage

FORMAT = 1
"""Version of the keys and entries; a server does not read a journal of a newer format."""

NAME = "maze"
"""Name of a journal that was given no other."""

TIMEOUT = 5.0
"""Seconds for which Redis may be silent."""

BATCH_BYTES = 200
"""Bytes counted for a batch besides its lines: reading a small batch costs as much."""

READ_BYTES = 4 * 2**20
"""Bytes of batches read at a time, about, if the caller names no limit."""

MAX_READ_BATCHES = 128
"""Batches asked for at once. They may be a thousand times larger than those before."""

FIRST_GUESS_BYTES = 2**16
"""Size of a batch before any was read."""

CHUNKS_AT_ONCE = 4
"""Chunks of a snapshot asked for at once (about 4 MiB)."""

MIN_BLOCK_MS = 1
"""Shortest wait; 0 would mean for ever."""


class Keys(NamedTuple):
    """The keys of a journal. All have the same hash tag, so a cluster keeps them together."""

    state: str
    """Hash: format, fence, position, where the kept batches begin, and counters."""
    stream: str
    """An entry for each batch, with ``epoch-end`` as its id."""
    marks: str
    """List: where retention may cut; see ``redis_scripts.APPEND``."""
    lease: str
    """Owner of the lease; expires."""
    snapshots: str
    """Hash: the row of each finished snapshot by its number."""
    chunks: str
    """Prefix; the key of a snapshot's chunks ends with its number."""

    @classmethod
    def of(cls, name: str) -> "Keys":
        """Return the keys of the journal with a name."""
        if not name or "{" in name or "}" in name:
            raise JournalServerError(f"{name!r} is not a name for a journal")
        names = ("state", "batches", "marks", "lease", "snapshots", "snapshot:")
        return cls(*(f"{{{name}}}:{each}" for each in names))


class _State(NamedTuple):
    kept_from: Position
    position: Position
    needs_snapshot: bool
    batch_bytes: int


_STATE = (
    *("format", "from_epoch", "from_next", "epoch", "next"),
    *("needs_snapshot", "bytes", "trimmed"),
)


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
        self._batch_bytes = FIRST_GUESS_BYTES  # average size of the batches read last

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
        """Return some of the batches after a position; see ``Journal.read``."""
        state, entries = self._view(self._range(after, max_bytes))
        check_kept(after, state.kept_from, state.position)
        if not entries:
            if after != state.position:
                raise self._gap(None, after)
            return []
        batches = self._batches(entries)
        first = batches[0]
        if first[:2] > after:
            self._check_end(after, state)
            if not follows(first, after):
                raise self._gap(first, after)
        return self._take(batches, max_bytes)

    def wait(self, after: Position, seconds: float, max_bytes: int = READ_BYTES) -> list[Batch]:
        """Return the batches after a position as ``read`` does, or [] if none comes in time."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            # Redis has to answer before the connection loses its patience.
            block = max(MIN_BLOCK_MS, int(1000 * min(left, self._client.timeout / 2)))
            start = f"{after.epoch}-{after.next}"
            count = self._count(max_bytes)
            streams = self._client.call(
                *("XREAD", "COUNT", count, "BLOCK", block, "STREAMS", self._keys.stream, start)
            )
            if streams:
                batches = self._batches(streams[0][1])
                if batches[0][:2] == after:
                    return self._take(batches, max_bytes)
            # Nothing, or something that does not simply continue: batches were trimmed or lost, an
            # epoch has begun. XREAD would pass over that without a word.
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
            sum(self._events_by_epoch()),
            state.batch_bytes + sum(row.size for row in rows),
            rows[0].position if rows else None,
        )

    def overview(self) -> Overview:
        """Return further figures about the journal."""
        stream = self._keys.stream
        count, oldest, newest, stored = self._client.pipeline(
            ("XLEN", stream),
            ("XRANGE", stream, "-", "+", "COUNT", 1),
            ("XREVRANGE", stream, "+", "-", "COUNT", 1),
            ("HGETALL", self._keys.snapshots),
        )
        times = [self._decode(entries[0])[1] if entries else None for entries in (oldest, newest)]
        rows = [row for _, row in newest_first(stored) if row]
        snapshots = [(row.position, row.committed, row.size) for row in rows]
        return Overview(count, times[0], times[1], snapshots)

    def epoch_begin(self) -> Position:
        """Return where the kept batches of the present epoch begin."""
        state, entries = self._state(), None
        if state.position.epoch != state.kept_from.epoch:
            entries = self._first_of_epoch(state.position.epoch)
        if not entries:
            return state.kept_from
        return Position(state.position.epoch, self._decode(entries[0])[0].first)

    def _state(self) -> _State:
        return self._parsed(self._client.call("HMGET", self._keys.state, *_STATE))

    def _view(self, command: Sequence[Any]) -> tuple[_State, Any]:
        """Return the answer to a command that reads batches, and a state that fits it.

        Others append and trim meanwhile. What was there before the command, and is still kept after
        it, is in the answer.
        """
        values = ("HMGET", self._keys.state, *_STATE)
        before, answer, after = self._client.pipeline(values, command, values)
        return self._parsed(before)._replace(kept_from=self._parsed(after).kept_from), answer

    def _parsed(self, values: list[bytes | None]) -> _State:
        version, *numbers = [None if value is None else int(value) for value in values]
        if version is None:
            raise self._missing()
        if version > FORMAT:
            raise JournalServerError(f"{self.where} has format {version}; this server has {FORMAT}")
        if None in numbers:
            raise damage(self.where, "its state is not whole")
        from_epoch, from_next, epoch, number, needs_snapshot, appended, trimmed = numbers
        return _State(
            Position(from_epoch or 0, from_next or 0),
            Position(epoch or 0, number or 0),
            bool(needs_snapshot),
            (appended or 0) - (trimmed or 0),
        )

    def _missing(self) -> JournalError:
        return UnavailableError(f"{self.where} does not exist")

    def _range(self, after: Position, max_bytes: int) -> Sequence[Any]:
        start = f"({after.epoch}-{after.next}"
        return ("XRANGE", self._keys.stream, start, "+", "COUNT", self._count(max_bytes))

    def _count(self, max_bytes: int) -> int:
        """Return how many batches to ask for, if they are as large as the last ones."""
        return min(max(max_bytes // self._batch_bytes, 1), MAX_READ_BATCHES)

    def _batches(self, entries: list[Any]) -> list[Batch]:
        batches = [self._decode(entry)[0] for entry in entries]
        self._batch_bytes = max(_size(batches) // len(batches), 1)
        return batches

    def _decode(self, entry: Any) -> tuple[Batch, int]:
        try:
            return decode_entry(entry)
        except DamagedError:
            at = entry[0].decode("utf-8", "replace")
            raise damage(self.where, f"the checksum of batch {at} is wrong") from None

    def _take(self, batches: list[Batch], max_bytes: int) -> list[Batch]:
        """Return the first batch, and those after it up to a limit. Raise if one is missing."""
        found = batches[:1]
        size = _size(found)
        for batch in batches[1:]:
            if not follows(batch, found[-1].position):
                raise self._gap(batch, found[-1].position)
            size += _size([batch])
            if size > max_bytes:
                break
            found.append(batch)
        return found

    def _check_end(self, position: Position, state: _State) -> None:
        """Raise OtherEpochError unless a batch ends at the position, or the kept ones begin."""
        if position != state.kept_from and not self._ends_at(position):
            raise OtherEpochError(f"no batch ends at {position.epoch}-{position.next}")

    def _ends_at(self, position: Position) -> bool:
        if not any(position):
            return False  # 0-0 is no id
        key = f"{position.epoch}-{position.next}"
        return bool(self._client.call("XRANGE", self._keys.stream, key, key))

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

    def _events_by_epoch(self) -> Iterator[int]:
        stream = self._keys.stream
        entries = self._client.call("XRANGE", stream, "-", "+", "COUNT", 1)
        while entries:
            epoch, first = self._decode(entries[0])[0][:2]
            (last,) = self._client.call("XREVRANGE", stream, epoch, epoch, "COUNT", 1)
            yield position_of(last).next - first
            entries = self._first_of_epoch(epoch + 1, "+")

    def _first_of_epoch(self, epoch: int, end: str | None = None) -> Any:
        """Return the first entry of an epoch, or of it and the later ones, in a list."""
        stream = self._keys.stream
        return self._client.call("XRANGE", stream, epoch, end or epoch, "COUNT", 1)


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
