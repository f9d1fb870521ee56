"""Follows a journal in Redis in the same way as a feed."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from maze.core import Position
from maze.feed.messages import State
from maze.journal.journal import (
    AheadError,
    Batch,
    JournalError,
    JournalReader,
    OtherEpochError,
    Snapshot,
    UnavailableError,
)

if TYPE_CHECKING:
    from maze.journal.redis_reader import RedisReader

LOST_SECONDS = 10.0
"""Time for the ingest to append again what Redis has lost in a crash. An edge waits until then,
because it may already have what was lost."""

POSITION_SECONDS = 0.25
"""Time between two queries for the journal's position while there is always more to read."""

NOWHERE = Position(0, 0)

LOST = AheadError, OtherEpochError
"""Errors of a position that was read from Redis itself, and is no longer there."""


class _Patience:
    """Treats what Redis has lost as unavailable for ``LOST_SECONDS``."""

    def __init__(self) -> None:
        self._lost_since: float | None = None

    def checked(self, read: Callable[[], list[Batch]], *errors: type[JournalError]) -> list[Batch]:
        """Return what ``read`` returns.

        Replace ``errors``, which mean a loss, by UnavailableError until ``LOST_SECONDS`` have
        passed.
        """
        try:
            batches = read()
        except UnavailableError:
            self._lost_since = None  # the ingest cannot append either
            raise
        except errors as error:
            now = monotonic()
            self._lost_since = self._lost_since or now
            if now - self._lost_since > LOST_SECONDS:
                raise
            raise UnavailableError(f"{error}; the ingest should append it again") from None
        self._lost_since = None
        return batches


class RedisFollower(JournalReader):
    """Reads a journal in Redis, with the methods of ``FeedReader``."""

    tells_end = False
    """Whether the ingest tells when it stops; over Redis, it cannot."""

    def __init__(self, reader: RedisReader) -> None:
        self._reader = reader
        self._asked = NOWHERE, 0, 0.0
        self._patience = _Patience()
        self._patience_to_read = _Patience()
        self._position_asked_at = 0.0
        self.tells_position = False
        """Whether the state has the journal's position as of the last request, not an earlier one.
        """
        self._is_reached = False
        self.state: State | None = None
        """What is known of the journal; None before the first answer."""

    def close(self) -> None:
        """Close the connections."""
        self._reader.close()

    def position(self) -> Position:
        """Return the position after the last batch."""
        return self._reader.position()

    def kept_from(self) -> Position:
        """Return where the kept batches begin."""
        return self._reader.kept_from()

    def read(self, after: Position, max_bytes: int) -> list[Batch]:
        """Return the batches after a position; see ``JournalReader.read``."""

        def read() -> list[Batch]:
            try:
                return self._reader.read(after, max_bytes)
            except OtherEpochError as error:  # a client may have invented its position
                if self._reader.position() < after:
                    raise AheadError(str(error)) from None
                raise

        return self._patience_to_read.checked(read, AheadError)

    def get_snapshot(self, report: Callable[[str], None]) -> Snapshot | None:
        """Return the newest usable snapshot; see ``JournalReader.get_snapshot``."""
        return self._reader.get_snapshot(report)

    def request(
        self, after: Position, max_bytes: int, *, wait: float = 0.0, routed: Position = NOWHERE
    ) -> None:
        """Note the request, which ``receive`` sends. Redis needs no ``routed``.

        Raise UnavailableError if Redis could not be reached, and cannot be reached yet.
        """
        if not self._is_reached:
            self._reach(after)
        self._asked = after, max_bytes, wait

    def receive(self) -> list[Batch]:
        """Return the batches that were asked for; see ``JournalReader.read``."""
        after, max_bytes, wait = self._asked
        self._is_reached = False
        batches = self._patience.checked(lambda: self._reader.wait(after, wait, max_bytes), *LOST)
        position = self._journal_position(after, batches)
        self.state = State(position, NOWHERE, has_ended=False)
        self._is_reached = True
        return batches

    def _reach(self, after: Position) -> None:
        """Check that Redis answers, and has what the edge has."""
        self._patience.checked(lambda: self._reader.read(after, 1), *LOST)
        self._is_reached = True

    def _journal_position(self, after: Position, batches: list[Batch]) -> Position:
        """Return the journal's position: more may follow the batches that were read.

        Clients come from edges that are further ahead, and what has not arrived yet is not lost.
        """
        if not batches:
            self.tells_position = True
            return after
        now = monotonic()
        self.tells_position = now - self._position_asked_at >= POSITION_SECONDS
        if self.tells_position:
            self._position_asked_at = now
            return self._reader.position()
        return max(batches[-1].position, self.state.position if self.state else NOWHERE)
