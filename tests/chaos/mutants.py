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


FENCE_CHECK = "if fence ~= ARGV[1] then return {'FENCED'} end\n"
HOLDER_CHECK = "if holder and holder ~= ARGV[2] then return {'FENCED'} end\n"


def no_fence_check() -> None:
    """Let whoever once had the lease append for ever."""
    vars(redis)["APPEND"] = _without(APPEND, FENCE_CHECK)
    vars(redis)["RENEW"] = _without(RENEW, FENCE_CHECK, HOLDER_CHECK)


def no_gap_check() -> None:
    """Append a batch even if those before it are missing."""
    check = "elseif first ~= number then\n            return {'GAP', position[1], position[2]}\n"
    vars(redis)["APPEND"] = _without(APPEND, check)


def no_contiguity_check() -> None:
    """Take whatever batches come next."""

    class Reader(redis_reader.RedisReader):
        def wait(self, after: Position, seconds: float, max_bytes: int = 0) -> list[Batch]:
            start = f"{after.epoch}-{after.next}"
            block = max(1, int(1000 * min(seconds, self._client.timeout / 2)))
            words = ("XREAD", "COUNT", 100, "BLOCK", block, "STREAMS", self._keys.stream, start)
            streams = self._client.call(*words)
            return self._batches(streams[0][1]) if streams else []

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
    holder = "if holder and holder ~= ARGV[1] then return {'HELD'} end\n"
    rises = LEASE.text.partition("local time =")[2].partition("if ARGV[1] ~= ''")[0]
    vars(redis)["LEASE"] = _without(LEASE, holder, "local time =" + rises)
    vars(redis)["RENEW"] = _without(RENEW, HOLDER_CHECK)


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
