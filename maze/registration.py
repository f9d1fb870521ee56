"""Registered before routed: an event reaches every client whose id line arrived before it.

The system may receive a client's connection and id line long before the server reads them. So
before it routes a batch, the router waits here until none of these is left, as each may carry
the id of a client that is not registered:

  - a connection in the accept queue (on a plain port; over TLS it cannot carry an id yet);
  - an accepted connection that is readable and not registered;
  - bytes read from such a connection that wait for their turn to be decrypted.

The first two are descriptors in an epoll set of this module's own, so that a check takes about
1 us however many connections wait without sending anything.

Connecting clients must not hold up events for long. Registering may delay routing by a budget
of about a second's work, which is regained at a fifth of the elapsed time. When the budget is
used up, batches are routed without waiting.
"""

import select
import time
from collections.abc import Iterator
from contextlib import contextmanager

import gevent
import structlog

from maze.net import A_MOMENT

log = structlog.get_logger()

BURST_STEPS = 20_000
"""Budget of registering, in steps: about a second's work. A step is an accept, a read from a
client that is not registered, or a turn of the event loop; each takes 30 to 50 us. Steps are
counted rather than timed, so that a busy machine, or other work in a turn, does not use up the
budget."""

STEPS_PER_SECOND = BURST_STEPS / 5
"""Steps regained per second: a fifth of the budget."""


class Registration:
    """Knows which connections may carry the id of an unregistered client, and waits for them."""

    def __init__(self) -> None:
        # Without epoll poll() does as well, but takes longer with many connections.
        self._poll = select.epoll() if hasattr(select, "epoll") else select.poll()
        self._look = (0, 1) if hasattr(select, "epoll") else (0,)  # no wait; one descriptor will do
        self._watched: set[int] = set()
        self._undecrypted = 0
        self._waits = False
        self._steps = float(BURST_STEPS)
        self._regained_at = time.monotonic()
        self._warned = False
        self.overruns = 0
        """batches routed before every client whose id may have come was registered"""

    def watch(self, descriptor: int) -> None:
        """Watch a descriptor: from now on it may carry an id when it is readable."""
        if descriptor in self._watched:
            return
        self._watched.add(descriptor)
        self._poll.register(descriptor, select.POLLIN)

    def forget(self, descriptor: int) -> None:
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

    def count_step(self) -> None:
        """Charge an accept or a read to the budget while a batch waits."""
        if self._waits:
            self._steps -= 1

    def wait(self) -> None:
        """Let the event loop run until every client whose id has come is registered.

        Return at once if there is none, or when the budget is used up.
        """
        if not self._is_behind():
            return
        self._regain()
        self._waits = True
        try:
            while self._steps >= 1:
                self._steps -= 1
                gevent.sleep(A_MOMENT)
                if not self._is_behind():
                    return
        finally:
            self._waits = False
        self._overrun()

    def _is_behind(self) -> bool:
        return bool(self._undecrypted or self._poll.poll(*self._look))

    def _regain(self) -> None:
        now = time.monotonic()
        self._steps += (now - self._regained_at) * STEPS_PER_SECOND
        self._regained_at = now
        if self._steps >= BURST_STEPS:
            self._steps = BURST_STEPS
            self._warned = False

    def _overrun(self) -> None:
        """Count a batch that does not wait; warn once until the budget is full again."""
        self.overruns += 1
        if not self._warned:
            self._warned = True
            log.warning("registration_behind", waiting_connections=len(self._watched))
