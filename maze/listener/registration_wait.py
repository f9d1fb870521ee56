"""Registered before routed: an event reaches every client whose id line arrived before it.

The system may receive a client's connection and id line long before the server reads them. So
before it routes a batch, the router waits here until none of these is left; each may carry the id
of a client that is not registered:

  - a connection in the accept queue (on a plain port; over TLS it cannot carry an id yet);
  - an accepted connection that is readable and not registered;
  - bytes read from such a connection that wait for their turn to be decrypted.

The first two are descriptors in an epoll set that only this module uses. A check takes about 1 us
however many connections wait without sending anything.

Connecting clients must not hold up events for long. Batches may wait for a budget of one second of
processor time. While no batch waits, a fifth of the elapsed time is added to the budget. When the
budget is used up, batches are routed without waiting until ``RESUME_SECONDS`` of it are back.
"""

import select
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import structlog
from gevent.event import Event

from maze.net.time_slice import yield_to_event_loop

log = structlog.get_logger()

BURST_SECONDS = 1.0
"""Processor time for which batches may wait. Wall-clock time would be used up by a busy machine.
While a batch waits, the router, the sources and the replays are paused, so most of the time that is
measured is spent on registering clients."""

REGAINED_SHARE = 0.2
"""Share of the time without a waiting batch that is added to the budget."""

RESUME_SECONDS = 0.05
"""Budget at which batches wait again after it was used up. If each batch waited for the little
regained since the last, a storm of connections would double every event's latency (2.8 to 6 ms)."""


class Registration:
    """The connections that may carry the id of an unregistered client, and the wait for them."""

    def __init__(self) -> None:
        # Where there is no epoll, poll() is used; it takes longer with many connections.
        self._poll = select.epoll() if hasattr(select, "epoll") else select.poll()
        # Do not wait; with epoll, return after the first readable descriptor.
        self._poll_arguments = (0, 1) if hasattr(select, "epoll") else (0,)
        self._watched: set[int] = set()
        self._undecrypted = 0
        self._no_batch_waits = Event()
        self._no_batch_waits.set()
        self._budget = BURST_SECONDS
        self._min_budget = 0.0
        """Budget below which a batch does not wait."""
        self._regained_at = time.monotonic()
        self._warned = False
        self.overruns = 0
        """Batches routed although an id that had arrived might not be registered."""

    def watch(self, descriptor: int) -> None:
        """Watch a descriptor that may carry an id when it is readable."""
        if descriptor in self._watched:
            return
        with suppress(OSError):  # beyond the system's limit on watches, do without
            self._poll.register(descriptor, select.POLLIN)
            self._watched.add(descriptor)

    def unwatch(self, descriptor: int) -> None:
        """Stop watching a descriptor. It must still be open."""
        if descriptor in self._watched:
            self._watched.remove(descriptor)
            self._poll.unregister(descriptor)

    @contextmanager
    def undecrypted(self) -> Iterator[None]:
        """Count a connection whose received bytes wait for their turn to be decrypted."""
        self._undecrypted += 1
        try:
            yield
        finally:
            self._undecrypted -= 1

    @property
    def batch_waits(self) -> bool:
        """Whether a batch waits for clients to register."""
        return not self._no_batch_waits.is_set()

    def wait_for_batch(self) -> None:
        """Wait until no batch waits for clients to register.

        Sources call this before each chunk, and replays before each turn. Otherwise they would
        delay the batch and use up the budget meant for registering clients.
        """
        self._no_batch_waits.wait()

    def wait(self) -> None:
        """Let the event loop run until every client whose id has arrived is registered.

        Return at once if there is no such client, or when the budget is used up.
        """
        if not self._is_behind():
            return
        self._regain()
        if self._budget > self._min_budget and self._register():
            self._min_budget = 0.0
        else:
            self._min_budget = min(RESUME_SECONDS, BURST_SECONDS / 2)
            self._overrun()

    def _register(self) -> bool:
        """Let the event loop run while the budget lasts; return whether all clients registered."""
        self._no_batch_waits.clear()
        began = time.thread_time()
        try:
            while time.thread_time() - began < self._budget:
                yield_to_event_loop()
                if not self._is_behind():
                    return True
            return False
        finally:
            self._budget -= time.thread_time() - began
            self._regained_at = time.monotonic()
            self._no_batch_waits.set()

    def _is_behind(self) -> bool:
        """Return whether an id that has arrived may be unregistered."""
        return bool(self._undecrypted or self._poll.poll(*self._poll_arguments))

    def _regain(self) -> None:
        """Add to the budget for the time in which no batch waited."""
        now = time.monotonic()
        self._budget += (now - self._regained_at) * REGAINED_SHARE
        self._regained_at = now
        if self._budget >= BURST_SECONDS:
            self._budget = BURST_SECONDS
            self._warned = False

    def _overrun(self) -> None:
        """Count a batch that does not wait; warn once until the budget is full again."""
        self.overruns += 1
        if not self._warned:
            self._warned = True
            log.warning("registration_behind", waiting_connections=len(self._watched))
