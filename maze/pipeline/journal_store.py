"""Opens the journal that the settings name: a file, or a stream in Redis."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

import structlog

from maze.core import Position
from maze.errors import SettingsError
from maze.journal import group_commit
from maze.journal.journal import FencedError, Journal, UnavailableError
from maze.journal.places import Reader, RedisPlace, place_of
from maze.journal.retention import Retention
from maze.settings.options import Settings

if TYPE_CHECKING:
    from maze.journal.redis import RedisJournal
    from maze.journal.tailed import TailedJournal

log = structlog.get_logger()


RENEWALS = 3
"""Number of renewals within the duration of a lease. An unanswered renewal is given up when the
next one is due, because its connection may be dead."""


class Lease:
    """The right to write a journal in Redis, which one process holds at a time."""

    def __init__(
        self, journal: RedisJournal, seconds: float, clock: Callable[[], float] = monotonic
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._server_run = ""
        self._server_since: float | None = None
        """Time since which Redis has answered; None before the first answer."""
        # Two containers may have the same host name and the same process id.
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self.seconds = seconds
        self.fence: int | None = None
        """The fence; None if this process does not hold the lease, as far as it knows."""
        self.is_awaited = False
        """Whether another process holds the lease, and this one waits for it."""
        self._renewed_at = 0.0

    @property
    def renewed_seconds(self) -> float | None:
        """Seconds since the lease was taken or renewed; None if this process does not hold it."""
        return None if self.fence is None else self._clock() - self._renewed_at

    def take(self) -> int | None:
        """Take the lease; return its fence, or None if another process holds it.

        A holder cannot renew its lease while Redis is away, and it alone has what Redis has lost in
        a crash. So once Redis is back, it has the time of a lease to return before another process
        takes over.
        """
        self._renewed_at = now = self._clock()
        try:
            takes_ended = now - self._there_since(now) >= self.seconds
            self.fence = self._journal.try_lease(self._owner, self.seconds, takes_ended=takes_ended)
        except UnavailableError:
            self._server_run = ""
            raise
        self.is_awaited = self.fence is None
        return self.fence

    def _there_since(self, now: float) -> float:
        """Return the time since which the same server has answered. Raise UnavailableError."""
        run, seconds = self._journal.server_run()
        if self._server_since is None:
            self._server_since = now - seconds
        elif run != self._server_run:
            self._server_since = now
        self._server_run = run
        return self._server_since

    def renew(self, fence: int) -> None:
        """Renew the lease. Raise FencedError if another process has taken it."""
        asked_at = self._clock()
        try:
            self._journal.renew_lease(fence, self.seconds)
        except FencedError:
            self.fence = None
            raise
        self._renewed_at = asked_at

    def release(self, fence: int) -> None:
        """Let another process take the lease at once."""
        self.fence = None
        self._journal.release_lease(fence)


class Store(NamedTuple):
    """An open journal."""

    journal: Journal
    """The journal that is written."""
    figures: Reader
    """The same journal, for its figures."""
    reader: Reader
    """Another connection, for resumes."""
    place: str | RedisPlace
    """Where a child process finds the journal."""
    group_bytes: int = group_commit.GROUP_BYTES
    """Bytes at which an append takes no further batch."""
    lease: Lease | None = None
    """None if only one process can open the journal to write it."""
    tailed: TailedJournal | None = None
    """The journal that is written, if its server may lose what it has confirmed."""
    begin: Callable[[Position], None] = lambda position: None
    """Called with the position from which this process writes, before it writes."""
    watch: Callable[[], None] = lambda: None
    """Reads the settings of the journal's server again; called with each renewal of the lease."""

    def close(self) -> None:
        """Close both connections; the last one to close a file moves its log into it."""
        self.reader.close()
        self.figures.close()


def redis_place(settings: Settings) -> RedisPlace | None:
    """Return the place of the journal in Redis; None if it is not there. Raise SettingsError."""
    assert settings.journal is not None
    try:
        place = place_of(
            settings.journal,
            settings.journal_name,
            sentinels=",".join(settings.journal_sentinels),
            ca=settings.journal_tls_ca,
            certificate=settings.journal_tls_cert,
            key=settings.journal_tls_key,
        )
    except ValueError as error:
        raise SettingsError(f"--journal: {error}") from None
    return place if isinstance(place, RedisPlace) else None


def open_store(settings: Settings, start: Position) -> Store:
    """Open the journal; a new one begins at ``start``. Raise JournalError or SettingsError."""
    place = redis_place(settings)
    retention = Retention(settings.journal_retain, settings.journal_retain_bytes)
    if place:
        return _open_redis(settings, place, start, retention)
    return _open_file(settings, start, retention)


def _open_file(settings: Settings, start: Position, retention: Retention) -> Store:
    from maze.journal.reader import SQLiteReader  # noqa: PLC0415, SQLite takes 1.4 MB
    from maze.journal.sqlite import SQLiteJournal  # noqa: PLC0415

    assert settings.journal is not None
    journal = SQLiteJournal(
        settings.journal,
        start,
        synchronous=settings.journal_sync.upper(),
        retention=retention,
    )
    return Store(journal, journal, SQLiteReader(settings.journal), settings.journal)


def _open_redis(
    settings: Settings, place: RedisPlace, start: Position, retention: Retention
) -> Store:
    from maze.journal.redis import GROUP_BYTES, RedisJournal  # noqa: PLC0415, it takes 10 MB
    from maze.journal.tail import Tail  # noqa: PLC0415
    from maze.journal.tailed import TailedJournal  # noqa: PLC0415

    journal = RedisJournal(
        place.address,
        start,
        place.name,
        timeout=settings.journal_timeout,
        renewal_timeout=settings.lease / RENEWALS,
        retention=retention,
    )
    tail = Tail(settings.tail_bytes, journal.position(), safe_seconds=journal.safe_seconds())
    tailed = TailedJournal(journal, tail, report=_report_gap, group_bytes=GROUP_BYTES)

    def watch() -> None:
        tail.safe_seconds = journal.safe_seconds()

    return Store(
        tailed,
        journal,
        place.reader(settings.journal_timeout),
        place,
        GROUP_BYTES,
        Lease(journal, settings.lease),
        tailed,
        tail.begin,
        watch,
    )


def _report_gap(message: str) -> None:
    log.warning("journal_appended_again", error=message)
