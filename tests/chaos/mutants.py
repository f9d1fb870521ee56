"""Servers with one safeguard removed: ``python -m chaos.mutants NAME OPTIONS...``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from maze import serve
from maze.core import Position
from maze.feed import following
from maze.journal import redis, redis_reader, tail
from maze.journal.journal import Batch
from maze.journal.redis_scripts import APPEND, LEASE, RENEW, Script


def _without(script: Script, *parts: str) -> Script:
    """Return a script without some parts of its text."""
    text = script.text
    for part in parts:
        assert part in text, part
        text = text.replace(part, "")
    return Script(text)


FENCE_CHECK = "if not lease or string.match(lease, '^%d+') ~= ARGV[1] then return {'FENCED'} end\n"


def no_fence_check() -> None:
    """Let whoever once had the lease append for ever."""
    vars(redis)["APPEND"] = _without(APPEND, FENCE_CHECK)
    vars(redis)["RENEW"] = _without(RENEW, FENCE_CHECK)


def no_gap_check() -> None:
    """Append a batch even if those before it are lost; only the first one has to fit."""
    check = APPEND.text[APPEND.text.index("if last ~=") : APPEND.text.index("if ARGV[3]")]
    unchecked = _without(APPEND, check)
    original = redis.RedisJournal._append_at_end

    def append(self: redis.RedisJournal, batches: Sequence[Batch], fence: int, now: int) -> bool:
        vars(redis)["APPEND"] = unchecked if batches and any(self._end) else APPEND
        return original(self, batches, fence, now)

    vars(redis)["RedisJournal"]._append_at_end = append


def no_contiguity_check() -> None:
    """Take whatever batches come next."""

    class Reader(redis_reader.RedisReader):
        def wait(self, after: Position, seconds: float, max_bytes: int = 0) -> list[Batch]:
            block = max(1, int(1000 * min(seconds, self._client.timeout / 2)))
            streams = self._client.call(
                *("XREAD", "COUNT", 1, "BLOCK", block),
                *("STREAMS", self._keys.stream, f"{after.epoch}-{after.next}"),
            )
            entries = self._decoded(streams[0][1]) if streams else []
            return [batch for entry in entries for batch in entry.batches]

        def read(self, after: Position, max_bytes: int = 0) -> list[Batch]:
            entries = self._entries(f"({after.epoch}-{after.next}", 1)
            return [batch for entry in entries for batch in entry.batches]

    vars(redis_reader)["RedisReader"] = Reader
    vars(following)["follows"] = lambda batch, position: True


def tail_dropped_early() -> None:
    """Keep nothing of what Redis may still lose."""
    original = tail.Tail.drop

    def drop(self: tail.Tail, seen: float) -> None:
        self._safe_seconds = -1.0
        original(self, seen)

    vars(tail)["Tail"].drop = drop


def two_appenders() -> None:
    """Give the lease to everybody, and the same fence."""
    held = "if ARGV[1] ~= '' and holder ~= ARGV[1] and now < ending then return {'HELD'} end\n"
    script = _without(LEASE, held)
    assert "math.max(now, fence + 1)" in script.text
    vars(redis)["LEASE"] = Script(script.text.replace("math.max(now, fence + 1)", "fence"))


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
