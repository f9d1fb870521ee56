"""A follow graph that notes in which threads its old contents are freed."""

import threading
from typing import Any

from maze.core import FollowGraph


class FreedGraph(FollowGraph):
    """``freed_in`` has the thread of each call of ``free``."""

    freed_in: list[int]

    def clear(self) -> Any:
        if not hasattr(self, "freed_in"):
            self.freed_in = []
        return Freed(super().clear(), self.freed_in)


class Freed:
    """The contents of a graph that was cleared."""

    def __init__(self, detached: Any, freed_in: list[int]) -> None:
        self._detached = detached
        self._freed_in = freed_in

    def free(self) -> None:
        self._freed_in.append(threading.get_ident())
        self._detached.free()
