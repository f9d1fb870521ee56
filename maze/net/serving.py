"""The greenlets that serve the connections of a port."""

from collections.abc import Callable
from typing import Any

from gevent import Greenlet

from maze.net.sockets import current_greenlet


class Serving:
    """Serves the connections of one port, each in its own greenlet, until the port closes."""

    def __init__(self) -> None:
        self.greenlets: set[Greenlet[..., Any]] = set()
        self.is_closed = False

    def run(self, serve: Callable[..., None], *arguments: Any) -> None:
        """Call ``serve`` in the current greenlet, unless the port has closed meanwhile."""
        if self.is_closed:
            return
        greenlet = current_greenlet()
        self.greenlets.add(greenlet)
        try:
            serve(*arguments)
        finally:
            self.greenlets.discard(greenlet)

    def close(self) -> None:
        """End all connections; serve no more."""
        self.is_closed = True
        for greenlet in list(self.greenlets):
            greenlet.kill(block=False)
