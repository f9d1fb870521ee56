"""What a process knows that was started by the parent of an ingest and its edges.

The parent passes the listening sockets, and one end of a socket pair: on it the child says that it
is ready, and hears when to drain. When the parent is gone, the pair closes, and the child ends.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

import gevent
from gevent.socket import socket

VARIABLE = "MAZE_CHILD"
"""Environment variable that describes the child, as JSON."""

READY, DRAIN = b"r", b"d"
"""What the child says, and what the parent says."""

END_SECONDS = 0.8
"""Time that a child has to end once its parent is gone."""


class Child(NamedTuple):
    """A child: its name in the log, its ends of the pairs, and its listening sockets by port."""

    name: str
    control: int
    questions: int
    listeners: dict[str, int]

    def encode(self) -> str:
        """Return the value of the environment variable."""
        return json.dumps(self._asdict())

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Child | None:
        """Return what the parent passed; None if this process has no such parent."""
        text = environment.get(VARIABLE)
        return cls(**json.loads(text)) if text else None

    def ignore_terminal(self) -> None:
        """Leave Ctrl-C to the parent: the terminal sends SIGINT to its children as well."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def begin(self, drain: Callable[[], None], stop: Callable[[], None]) -> None:
        """Drain when the parent says so; stop when it has ended."""
        gevent.spawn(_obey, socket(fileno=os.dup(self.control)), drain, stop)

    def tell_ready(self) -> None:
        """Tell the parent that this process serves."""
        with socket(fileno=self.control) as control, suppress(OSError):
            control.sendall(READY)


def _obey(control: socket, drain: Callable[[], None], stop: Callable[[], None]) -> None:
    word = b""
    with suppress(OSError):
        word = control.recv(1)
        if word == DRAIN:
            gevent.spawn(drain)
            control.recv(1)
    gevent.spawn(stop)
    gevent.sleep(END_SECONDS)
    os._exit(1)
