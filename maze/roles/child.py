"""What a process knows that was started by the parent of an ingest and its edges.

The parent passes the listening sockets, and one end of a socket pair: on it the child says that it
is ready, and hears when to drain. When the parent is gone, the pair closes, and the child ends.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

import gevent
from gevent.socket import socket

from maze.errors import SettingsError

VARIABLE = "MAZE_CHILD"
"""Environment variable that describes the child, as JSON."""

READY = b"r"
"""What the child says. The parent says in how many seconds the child has to drain and end."""

MAX_SECONDS_BYTES = 32
"""Maximum length of what the parent says."""

END_SECONDS = 0.8
"""Time that a child has to end once its parent is gone."""


class Child(NamedTuple):
    """A child: its name in the log, its ends of the pairs, its listening sockets by port."""

    name: str
    control: int
    questions: int
    listeners: dict[str, int]
    folder: str
    """A folder that the child removes if the parent cannot; empty for none."""

    def encode(self) -> str:
        """Return the value of the environment variable."""
        return json.dumps(self._asdict())

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Child | None:
        """Return what the parent passed; None if this process has no such parent.

        Raise SettingsError.
        """
        text = environment.get(VARIABLE)
        try:
            return cls(**json.loads(text)) if text else None
        except (ValueError, TypeError):
            message = f"{VARIABLE} is only for the processes that --edges starts: unset it"
            raise SettingsError(message) from None

    def has_in_folder(self, path: str | None) -> bool:
        """Return whether the file is in the folder that ends with the parent."""
        return bool(self.folder and path and os.path.dirname(path) == self.folder)

    def ignore_terminal(self) -> None:
        """Leave Ctrl-C to the parent: the terminal sends SIGINT to its children as well."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def begin(self, drain: Callable[[float], None], stop: Callable[[], None]) -> None:
        """Drain within the seconds that the parent names; stop when the parent has ended."""
        gevent.spawn(self._obey, socket(fileno=os.dup(self.control)), drain, stop)

    def tell_ready(self) -> None:
        """Tell the parent that this process serves."""
        with socket(fileno=self.control) as control, suppress(OSError):
            control.sendall(READY)

    def _obey(
        self, control: socket, drain: Callable[[float], None], stop: Callable[[], None]
    ) -> None:
        with suppress(OSError):
            if seconds := control.recv(MAX_SECONDS_BYTES):
                gevent.spawn(drain, float(seconds))
                control.recv(1)
        atexit.register(self._remove_folder)
        gevent.spawn(stop)
        gevent.sleep(END_SECONDS)
        self._remove_folder()
        os._exit(1)

    def _remove_folder(self) -> None:
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
