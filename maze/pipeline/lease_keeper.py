"""Takes the lease of a journal that several processes can write, and renews it."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

import gevent
import structlog

from maze.journal.journal import JournalError, JournalServerError, UnavailableError
from maze.net.native_thread import run_in_thread
from maze.pipeline.journal_store import RENEWALS, Lease

log = structlog.get_logger()

MAX_WAIT_SECONDS = 1.0
"""Longest time between two attempts to take a lease, which may be free at any time, or to read the
journal."""


class LeaseKeeper:
    """Keeps the lease of a journal, from the time at which no other process holds it.

    ``watch`` is called in a native thread after each renewal. ``on_renewal`` is called after each
    attempt, even if Redis is away, and ``on_lost`` once, with the error that ended the renewals.
    """

    def __init__(
        self,
        lease: Lease,
        *,
        watch: Callable[[], None],
        on_renewal: Callable[[], None],
        on_lost: Callable[[JournalError], None],
    ) -> None:
        self._lease = lease
        self._watch = watch
        self._on_renewal = on_renewal
        self._on_lost = on_lost
        self._lost: JournalError | None = None
        self._renewing: gevent.Greenlet[..., None] | None = None
        self.retry_seconds = min(lease.seconds / RENEWALS, MAX_WAIT_SECONDS)
        """Time until the next attempt, if the lease is not free or Redis is away."""

    def take(self, on_wait: Callable[[], None]) -> int:
        """Return the fence, once no other process holds the lease; renew it from then on.

        ``on_wait`` is called whenever the reason to wait changes. Raise UnavailableError only
        before it is known that another process holds the lease.
        """
        because = ""
        while True:
            fence, reason = self._try_to_take()
            if fence is not None:
                break
            if reason != because:
                log.info("lease_waits", because=reason)
                because = reason
                on_wait()
            gevent.sleep(self.retry_seconds)
        self._renewing = gevent.spawn(self._renew, fence)
        return fence

    def _try_to_take(self) -> tuple[int | None, str]:
        """Return the fence, or None and why there is none."""
        try:
            return run_in_thread(self._lease.take), "another process writes the journal"
        except UnavailableError as error:
            if not self._lease.is_awaited:  # a start fails, but a standby goes on waiting
                raise
            return None, str(error)

    def _renew(self, fence: int) -> None:
        """Renew the lease before it ends; check whether Redis has lost anything."""
        renewed_at = monotonic()
        while True:
            gevent.sleep(max(0.0, renewed_at + self._lease.seconds / RENEWALS - monotonic()))
            renewed_at = monotonic()
            try:
                run_in_thread(self._lease.renew, fence)
                run_in_thread(self._watch)
            except UnavailableError:
                pass  # the next append reports it
            except JournalError as error:
                self._lose(error)
                return
            except Exception as error:  # nobody expects it; the event loop logs its traceback
                self._lose(JournalServerError(f"cannot renew the lease: {error!r}"))
                raise
            self._on_renewal()

    def _lose(self, error: JournalError) -> None:
        self._lost = error
        self._on_lost(error)

    def check(self) -> None:
        """Raise the error that ended the renewals, if one did."""
        if self._lost:
            raise self._lost

    def close(self) -> None:
        """Renew the lease no more."""
        if self._renewing:
            self._renewing.kill(block=False)
