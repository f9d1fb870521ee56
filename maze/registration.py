"""Registered before routed: an event reaches every client whose id line came before it.

A client has connected, or has sent its id, as soon as the system has taken that; the server may
come to it much later. So before a batch is routed the router waits here until nothing is left
that may carry the id of a client who is not registered:

  - a connection in the accept queue (of a plain port: over TLS an id cannot be there yet);
  - an accepted connection that is not registered and is readable;
  - bytes that were read from such a connection and wait for their turn to be decrypted.

The first two are descriptors in an epoll of their own, so that the look costs a microsecond
however many clients are silent.

Clients that connect must not hold up events for long. Registering may run ahead of routing by
a second's work, regained at a fifth of the time. Beyond that batches are routed all the same.
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
"""Steps ahead of routing: about a second's work. A step is an accept, a read from a client that
is not registered, or a turn of the event loop; each takes 30 to 50 us. They are counted and not
timed, so that neither a busy machine nor what else runs in a turn uses the budget up."""

STEPS_PER_SECOND = BURST_STEPS / 5
"""regained: a fifth of the time"""


class Registration:
    """Knows what may carry the id of a client that is not registered, and waits for it."""

    def __init__(self) -> None:
        # poll() serves where the system has no epoll; it costs more with many silent clients.
        self._poll = select.epoll() if hasattr(select, "epoll") else select.poll()
        self._look = (0, 1) if hasattr(select, "epoll") else (0,)  # at once, for any one of them
        self._watched: set[int] = set()
        self._undecrypted = 0
        self._waits = False
        self._steps = float(BURST_STEPS)
        self._regained_at = time.monotonic()
        self._warned = False
        self.overruns = 0
        """batches that were routed while clients were still to be registered"""

    def watch(self, descriptor: int) -> None:
        """From here on the descriptor may carry an id when it is readable."""
        if descriptor in self._watched:
            return
        self._watched.add(descriptor)
        self._poll.register(descriptor, select.POLLIN)

    def forget(self, descriptor: int) -> None:
        """The descriptor does not count any more; call it before it is closed."""
        if descriptor in self._watched:
            self._watched.remove(descriptor)
            self._poll.unregister(descriptor)

    @contextmanager
    def undecrypted(self) -> Iterator[None]:
        """Count bytes that were read and wait for their turn to be decrypted."""
        self._undecrypted += 1
        try:
            yield
        finally:
            self._undecrypted -= 1

    def count_step(self) -> None:
        """Charge an accept or a read, while a batch waits for it."""
        if self._waits:
            self._steps -= 1

    def wait(self) -> None:
        """Let the event loop run until every client whose id has come is registered.

        Returns at once if there is none, and when the budget is used up.
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
        """Count a batch that does not wait; warn of the first until the budget is whole again."""
        self.overruns += 1
        if not self._warned:
            self._warned = True
            log.warning("registration_behind", waiting_connections=len(self._watched))
