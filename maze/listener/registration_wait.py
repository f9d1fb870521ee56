"""Registered before routed: an event reaches every client whose id line arrived before it.

The system may receive a client's connection and id line long before the server reads them. So
before it routes a batch, the router waits here until none of these is left, as each may carry
the id of a client that is not registered:

  - a connection in the accept queue (on a plain port; over TLS it cannot carry an id yet);
  - an accepted connection that is readable and not registered;
  - bytes read from such a connection that wait for their turn to be decrypted.

The first two are descriptors in an epoll set of this module's own, so that a check takes about
1 us however many connections wait without sending anything.

Connecting clients must not hold up events for long. Batches may wait for a budget of one second of
processor time, which is regained at a fifth of the time in which none waits. When the budget is
used up, batches are routed without waiting, until there is enough of it again to be worth a wait.
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
"""Processor time for which batches may wait. It is not time by the clock, so that a busy machine
does not use it up. While a batch waits neither router nor sources work, so what is measured is
mostly registering."""

REGAINED_SHARE = 0.2
"""Share of the time in which no batch waits that is added to the budget."""

RESUME_SECONDS = 0.05
"""Budget from which batches wait again once it was used up. If each waited for the little that was
regained since the last, a storm of connections would double every event's latency (2.8 to 6 ms)."""


class Registration:
    """Knows which connections may carry the id of an unregistered client, and waits for them."""

    def __init__(self) -> None:
        # Without epoll poll() does as well, but takes longer with many connections.
        self._poll = select.epoll() if hasattr(select, "epoll") else select.poll()
        self._look = (0, 1) if hasattr(select, "epoll") else (0,)  # no wait; one descriptor will do
        self._watched: set[int] = set()
        self._undecrypted = 0
        self._no_batch_waits = Event()
        self._no_batch_waits.set()
        self._budget = BURST_SECONDS
        self._least_budget = 0.0
        """with less than that, a batch does not wait"""
        self._regained_at = time.monotonic()
        self._warned = False
        self.overruns = 0
        """batches routed before every client whose id may have come was registered"""

    def watch(self, descriptor: int) -> None:
        """Watch a descriptor: from now on it may carry an id when it is readable."""
        if descriptor in self._watched:
            return
        with suppress(OSError):  # beyond the system's limits the client is served unwatched
            self._poll.register(descriptor, select.POLLIN)
            self._watched.add(descriptor)

    def unwatch(self, descriptor: int) -> None:
        """Stop watching a descriptor; to be called before it is closed."""
        if descriptor in self._watched:
            self._watched.remove(descriptor)
            self._poll.unregister(descriptor)

    @contextmanager
    def undecrypted(self) -> Iterator[None]:
        """Count a connection whose bytes were read and wait for their turn to be decrypted."""
        self._undecrypted += 1
        try:
            yield
        finally:
            self._undecrypted -= 1

    def wait_for_batch(self) -> None:
        """Wait, as a source with a chunk in hand, while a batch waits for clients."""
        self._no_batch_waits.wait()

    def wait(self) -> None:
        """Let the event loop run until every client whose id has come is registered.

        Return at once if there is none, or when the budget is used up.
        """
        if not self._is_behind():
            return
        self._regain()
        if self._budget > self._least_budget and self._register():
            self._least_budget = 0.0
        else:
            self._least_budget = min(RESUME_SECONDS, BURST_SECONDS / 2)
            self._overrun()

    def _register(self) -> bool:
        """Let the event loop run while the budget lasts; return whether that was long enough."""
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
        return bool(self._undecrypted or self._poll.poll(*self._look))

    def _regain(self) -> None:
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
