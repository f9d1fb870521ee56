"""Finds the faults of a journal in Redis: batches that are missing, and wrong checksums."""

from collections.abc import Iterator

from maze.journal.journal import JournalServerError, follows
from maze.journal.redis_entries import (
    DamagedError,
    SnapshotRow,
    decode_chunk,
    decode_entry,
    position_of,
)
from maze.journal.redis_reader import RedisReader, newest_first

BATCHES_AT_ONCE = 30
"""Batches asked for at once (up to 30 MiB)."""


class RedisChecker(RedisReader):
    """Checks a journal in Redis, which a server may write meanwhile."""

    batches = 0
    """Number of batches that were checked."""
    snapshots = 0
    """Number of snapshots that were checked."""

    def faults(self) -> Iterator[str]:
        """Return what is wrong, a line for each fault."""
        try:
            yield from self._faults_of_batches()
            yield from self._faults_of_snapshots()
        except JournalServerError as error:
            yield str(error)

    def _faults_of_batches(self) -> Iterator[str]:
        after = self._state().kept_from
        while True:
            start = f"({after.epoch}-{after.next}"
            command = ("XRANGE", self._keys.stream, start, "+", "COUNT", BATCHES_AT_ONCE)
            state, entries = self._view(command)
            if after < state.kept_from:  # batches were trimmed meanwhile
                after = state.kept_from
                continue
            if not entries:
                if after != state.position:
                    yield str(self._gap(None, after))
                return
            for entry in entries:
                self.batches += 1
                end = position_of(entry)
                try:
                    batch = decode_entry(entry).batch
                except DamagedError:
                    yield f"the checksum of batch {end.epoch}-{end.next} is wrong"
                else:
                    if not follows(batch, after):
                        yield (
                            f"no batch after {after.epoch}-{after.next}; "
                            f"the next is {batch.epoch}-{batch.first}"
                        )
                after = end

    def _faults_of_snapshots(self) -> Iterator[str]:
        stored = newest_first(self._client.call("HGETALL", self._keys.snapshots))
        for number, row in stored:
            faults = list(self._faults_of_snapshot(number, row))
            if not self._client.call("HEXISTS", self._keys.snapshots, number):
                continue  # removed meanwhile
            self.snapshots += 1
            yield from faults

    def _faults_of_snapshot(self, number: str, row: SnapshotRow | None) -> Iterator[str]:
        if row is None:
            yield f"the checksum of snapshot number {number} is wrong"
            return
        name = f"snapshot {row.position.epoch}-{row.position.next}"
        key = f"{self._keys.chunks}{number}"
        count = self._client.call("LLEN", key)
        yield from (f"chunk {place} of {name} is missing" for place in range(count, row.chunks))
        yield from (
            f"chunk {place} of {name} is one too many" for place in range(row.chunks, count)
        )
        for place in range(min(count, row.chunks)):
            for chunk in self._client.call("LRANGE", key, place, place):
                try:
                    decode_chunk(int(number), place, chunk)
                except DamagedError:
                    yield f"the checksum of chunk {place} of {name} is wrong"
