"""Turns: serves sessions one step at a time, first come, first served, while there is room.

A session whose queue is half full waits until its client has taken something. While all queues
together are half full, all sessions wait.
"""

from collections import deque
from collections.abc import Callable

from maze.net.background import BackgroundWork
from maze.pipeline.implementation import QueuedMemory
from maze.pipeline.session import Session
from maze.settings.options import Settings


class Turns:
    """The sessions that are served.

    ``serve`` serves a session once, with at most as many bytes as its second argument, and returns
    whether to serve it again. ``pause`` is called before each turn, and may wait.
    """

    def __init__(
        self,
        settings: Settings,
        queued_memory: QueuedMemory,
        serve: Callable[[Session, int], bool],
        pause: Callable[[], object],
    ) -> None:
        self._client_bytes = settings.client_buffer // 2
        self._total_bytes = settings.total_buffer // 2
        self._queued_memory = queued_memory
        self._serve = serve
        self._pause = pause
        self._waiting: deque[Session] = deque()
        self.full: set[Session] = set()
        """The sessions that wait until their clients have taken something."""
        self._work = BackgroundWork(self._step)

    @property
    def is_empty(self) -> bool:
        """Whether no session waits to be served; the one being served does not count."""
        return not (self._waiting or self.full)

    def add(self, session: Session) -> None:
        """Add a session to those that are served."""
        self._waiting.append(session)
        self._work.begin()

    def clear(self) -> None:
        """Remove all sessions."""
        self._waiting.clear()
        self.full.clear()

    def on_progress(self, session: Session) -> None:
        """Called when a session has sent something, or has ended: there may be room again."""
        if session in self.full:
            self.full.remove(session)
            self._waiting.append(session)
        self.on_flush()

    def on_flush(self) -> None:
        """Called when sessions have been flushed: there may be room again."""
        if self._waiting:
            self._work.begin()

    def _step(self) -> bool:
        """Serve the first session once; return whether any can be served."""
        self._pause()
        if not self._waiting:
            return False
        room = self._total_bytes - self._queued_memory.bytes
        if room <= 0:
            return False  # until a session has sent something
        session = self._waiting.popleft()
        own_room = self._client_bytes - session.held_bytes
        if own_room <= 0:
            self.full.add(session)
        elif self._serve_once(session, min(room, own_room)):
            self._waiting.appendleft(session)
        return True

    def _serve_once(self, session: Session, room: int) -> bool:
        """Serve a session; an error ends this one alone."""
        try:
            return self._serve(session, room)
        except Exception as error:
            session.on_error(error)
            return False
