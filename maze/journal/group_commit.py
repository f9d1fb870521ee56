"""Group commit: a native thread that appends batches to a journal.

While an append runs, further batches wait; the next append takes all of them, up to
``group_bytes``. So a slow disk gets larger transactions, and no timer is needed to form groups.
"""

import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

import gevent
from gevent.event import Event

from maze.journal.journal import Batch, Journal, UnavailableError

GROUP_BYTES = 8 * 1024 * 1024
"""Bytes of bodies at which an append takes no further batch (about 20 ms on a fast disk)."""

MIN_RETRY_SECONDS = 0.1
MAX_RETRY_SECONDS = 1.0
"""Delays before an append is repeated: the first, and the longest; each is twice the one before."""

SLOW_SECONDS = 1.0
"""Time after which an append that has not returned counts as trouble."""
SLOW_CHECKS = 4
"""Checks for a slow append in each ``SLOW_SECONDS``."""

Work = Callable[[], object]
Done = Callable[[Exception | None], None]
Item = Batch | tuple[Work, Done] | None
"""What the thread is to do next: append a batch, run other work, or end."""


class GroupCommit:
    """Appends batches to a journal in a native thread of its own, in the order they are put.

    All callbacks run in the event loop of the thread that created this object, and must not wait.

    - ``on_committed(batches)``: everything up to the end of these batches is durable.
    - ``on_trouble(message)``: the journal cannot be written at present, or has not answered for
      ``SLOW_SECONDS``. A failed append is repeated until it succeeds. Called again if the message
      changes, and with None when the trouble is over.
    - ``on_lost(error)``: the journal can no longer be written, for example because another writer
      has taken the lease. Nothing is written or reported as committed any more.
    - ``observe(seconds)``: how long a successful append took.
    """

    def __init__(
        self,
        journal: Journal,
        fence: int,
        *,
        on_committed: Callable[[list[Batch]], None],
        on_trouble: Callable[[str | None], None],
        on_lost: Callable[[Exception], None],
        observe: Callable[[float], None] = lambda seconds: None,
        group_bytes: int = GROUP_BYTES,
    ) -> None:
        self._journal = journal
        self._group_bytes = group_bytes
        self._fence = fence
        self._on_committed = on_committed
        self._on_trouble = on_trouble
        self._on_lost = on_lost
        self._observe = observe

        self.trouble: str | None = None
        """Why the journal cannot be written at present; None if it can."""
        self.lost: Exception | None = None
        """Why the journal can no longer be written; None if it can."""
        self.pending_batches = 0
        self.pending_bytes = 0
        """Batches that were put and are not committed yet, and the bytes of their bodies."""
        self.commits = 0
        self.committed_batches = 0
        self.committed_bytes = 0
        """Successful appends, their batches, and the bytes of their bodies."""

        self._items: SimpleQueue[Item] = SimpleQueue()
        self._left: deque[Item] = deque()  # taken from the queue, but not done yet
        self._busy_since = 0.0  # 0: the thread is idle
        self._closing = threading.Event()
        self._is_closed = False
        self._has_ended = False
        self._ended = Event()

        # The thread adds notices and wakes the event loop, which calls them.
        self._notices: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._wake_lock = threading.Lock()
        loop = gevent.get_hub().loop
        self._wake: Any = loop.async_()
        self._wake.start(self._call_notices)
        self._slow_timer: Any = loop.timer(0.0, SLOW_SECONDS / SLOW_CHECKS)
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    # Called in the event loop.

    @property
    def busy_seconds(self) -> float:
        """Seconds that the present append or other work has taken; 0 if the thread is idle."""
        since = self._busy_since
        return monotonic() - since if since else 0.0

    @property
    def has_ended(self) -> bool:
        """Whether the thread no longer uses the journal."""
        return self._has_ended

    def put(self, batch: Batch) -> None:
        """Queue a batch. Never waits; the caller bounds ``pending_bytes``."""
        self.pending_batches += 1
        self.pending_bytes += len(batch.body)
        self._items.put(batch)
        if not (self._slow_timer.active or self._closing.is_set()):
            self._slow_timer.again(self._check_slow)

    def submit(self, work: Work, on_done: Done) -> None:
        """Run ``work`` in the thread, between two appends: it may use the journal.

        Then call ``on_done`` with the exception that it raised, or None. May be called in any
        thread. If the journal is lost, the work is not run: ``on_done`` gets the reason.
        """
        self._items.put((work, on_done))

    def set_trouble(self, message: str | None) -> None:
        """Note why the journal cannot be written at present; None if it can."""
        if message != self.trouble:
            self.trouble = message
            self._on_trouble(message)

    def lose(self, error: Exception) -> None:
        """Note why the journal can no longer be written, unless that is known."""
        if self.lost is None:
            self.lost = error
            self._on_lost(error)

    def close(self, timeout: float) -> bool:
        """Append what was put, then end the thread; return whether everything is committed.

        Wait at most ``timeout`` seconds; the event loop runs meanwhile, and callbacks are called.
        If the journal is unavailable, the append is tried once more. After ``close``, no callback
        is called. Unless ``has_ended``, the thread is stuck, and the journal must not be closed.
        """
        self._closing.set()
        self._items.put(None)
        self._ended.wait(timeout)
        with self._wake_lock:
            self._is_closed = True
            self._wake.close()
        self._slow_timer.close()
        return not self.pending_batches

    def _call_notices(self) -> None:
        while self._notices:
            notice, arguments = self._notices.popleft()
            notice(*arguments)

    def _committed(self, batches: list[Batch], seconds: float) -> None:
        size = sum(len(batch.body) for batch in batches)
        self.commits += 1
        self.committed_batches += len(batches)
        self.committed_bytes += size
        self.pending_batches -= len(batches)
        self.pending_bytes -= size
        self._observe(seconds)
        self.set_trouble(None)
        self._on_committed(batches)

    def _check_slow(self) -> None:
        """Report trouble if an append takes long. Called by the timer while batches are pending."""
        if not self.pending_batches or self.lost:
            self._slow_timer.stop()
        elif not self.trouble and self.busy_seconds >= SLOW_SECONDS:
            self.set_trouble(f"a write has not ended for {SLOW_SECONDS:g} s")

    # Called in the thread.

    def _notify(self, notice: Callable[..., None], *arguments: object) -> None:
        """Have the event loop call ``notice``."""
        self._notices.append((notice, arguments))
        with self._wake_lock:
            if not self._is_closed:
                self._wake.send()

    def _run(self) -> None:
        try:
            while self._do_next():
                pass
        except Exception as error:
            self._notify(self.lose, error)
            self._refuse(error)
        self._has_ended = True
        self._notify(self._ended.set)

    def _do_next(self) -> bool:
        """Append the next batches, or run the next work; return False if the thread is to end."""
        item = self._next()
        if item is None or self._is_closed:
            return False
        if isinstance(item, Batch):
            return self._append(self._group(item))
        work, on_done = item
        self._busy_since = monotonic()
        error = None
        try:
            work()
        except Exception as raised:
            error = raised
        self._busy_since = 0.0
        self._notify(on_done, error)
        return True

    def _next(self) -> Item:
        return self._left.popleft() if self._left else self._items.get()

    def _group(self, first: Batch) -> list[Batch]:
        """Return ``first`` and the batches queued directly behind it, up to ``group_bytes``."""
        group = [first]
        size = len(first.body)
        while size < self._group_bytes:
            try:
                item = self._items.get_nowait()
            except Empty:
                break
            if not isinstance(item, Batch):
                self._left.append(item)
                break
            group.append(item)
            size += len(item.body)
        return group

    def _append(self, batches: list[Batch]) -> bool:
        """Append batches, trying until it succeeds; return False if the thread is to end before."""
        delay = MIN_RETRY_SECONDS
        while True:
            is_last_try = self._closing.is_set()
            self._busy_since = began = monotonic()
            try:
                self._journal.append(batches, self._fence)
            except UnavailableError as error:
                self._notify(self.set_trouble, str(error))
            else:
                self._notify(self._committed, batches, monotonic() - began)
                return True
            finally:
                self._busy_since = 0.0
            if is_last_try:
                return False
            self._closing.wait(delay)
            delay = min(2 * delay, MAX_RETRY_SECONDS)

    def _refuse(self, error: Exception) -> None:
        """Refuse all further work, until the thread is to end."""
        while (item := self._next()) is not None:
            if not isinstance(item, Batch):
                self._notify(item[1], error)
