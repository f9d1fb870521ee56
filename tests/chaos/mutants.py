"""Servers with one safeguard removed: ``python -m chaos.mutants NAME OPTIONS...``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from maze import serve
from maze.core import Position
from maze.feed import following
from maze.journal import redis, redis_reader, tail
from maze.journal.journal import Batch
from maze.journal.redis_entries import Entry, id_of
from maze.journal.redis_reader import READ_BYTES
from maze.journal.redis_scripts import APPEND, LEASE, RENEW, Script


def _changed(script: Script, before: str, after: str = "") -> Script:
    """Return a script with a part of its text replaced."""
    assert before in script.text, before
    return Script(script.text.replace(before, after))


FENCE_CHECK = "if not lease or string.match(lease, '^%d+') ~= ARGV[1] then return {'FENCED'} end\n"


def no_fence_check() -> None:
    """Let a process that once had the lease append forever."""
    vars(redis)["APPEND"] = _changed(APPEND, FENCE_CHECK)
    vars(redis)["RENEW"] = _changed(RENEW, FENCE_CHECK)


def no_gap_check() -> None:
    """Append a batch even if those before it are missing."""

    def to_append(batches: Sequence[Batch], position: Position) -> list[Batch]:
        return [batch for batch in batches if batch.position > position]

    vars(redis)["to_append"] = to_append


def no_contiguity_check() -> None:
    """Take the next batches, even if some are missing."""

    class Reader(redis_reader.RedisReader):
        def wait(self, after: Position, seconds: float, max_bytes: int = 0) -> list[Batch]:
            block = max(1, int(1000 * min(seconds, self._client.timeout / 2)))
            streams = self._client.call(
                *("XREAD", "COUNT", 100, "BLOCK", block),
                *("STREAMS", self._keys.stream, id_of(after)),
            )
            return _batches(self._decoded(streams[0][1])) if streams else []

        def read(self, after: Position, max_bytes: int = READ_BYTES) -> list[Batch]:
            return _batches(self._entries(f"({id_of(after)}", self._count(max_bytes)))

    vars(redis_reader)["RedisReader"] = Reader
    vars(following)["follows"] = lambda batch, position: True


def _batches(entries: Sequence[Entry]) -> list[Batch]:
    return [batch for entry in entries for batch in entry.batches]


def tail_dropped_early() -> None:
    """Keep nothing of what Redis may still lose."""
    original = tail.Tail.drop

    def drop(self: tail.Tail, seen: float) -> None:
        self.safe_seconds = -1.0
        original(self, seen)

    vars(tail)["Tail"].drop = drop


def two_appenders() -> None:
    """Give the lease, with the same fence, to every process."""
    held = "if is_held and ARGV[1] ~= '' and holder ~= ARGV[1] then return {'HELD'} end\n"
    free = _changed(LEASE, held)
    vars(redis)["LEASE"] = _changed(free, "math.max(now, fence + 1)", "lease and fence or now")


MUTANTS: dict[str, Callable[[], None]] = {
    "no-fence-check": no_fence_check,
    "no-gap-check": no_gap_check,
    "no-contiguity-check": no_contiguity_check,
    "tail-dropped-early": tail_dropped_early,
    "two-appenders": two_appenders,
}


def main(arguments: Sequence[str]) -> int:
    """Serve as a mutant; return the exit status."""
    MUTANTS[arguments[0]]()
    return serve.main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
