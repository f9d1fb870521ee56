"""A process supervisor such as systemd. All that a process sees of it is a datagram socket."""

from __future__ import annotations

import socket
from pathlib import Path

from .peers import until


class Supervisor:
    """The socket that receives a process's notifications."""

    def __init__(self, folder: Path) -> None:
        self._path = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self._path)
        self._socket.setblocking(False)
        self._messages: list[str] = []
        self.status = ""

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def environment(self, watchdog_seconds: float = 0.0) -> dict[str, str]:
        """Return the environment variables that tell a process of its supervisor."""
        microseconds = round(watchdog_seconds * 1_000_000)
        watchdog = {"WATCHDOG_USEC": str(microseconds)} if microseconds else {}
        return {"NOTIFY_SOCKET": self._path, **watchdog}

    def received(self) -> list[str]:
        """Return the messages received that no ``expect`` has consumed."""
        try:
            while True:
                self._messages += self._socket.recv(4096).decode().splitlines()
        except BlockingIOError:
            return self._messages

    def expect(self, message: str, skipping: str = "") -> None:
        """Assert that the next message is ``message``; skip status lines and ``skipping``."""
        while True:
            until(self.received, f"{message} from the process")
            first = self._messages.pop(0)
            if first.startswith("STATUS="):
                self.status = first.removeprefix("STATUS=")
            elif first == message:
                break
            else:
                assert first == skipping, f"received {first!r}, expected {message!r}"
        if self.received() and self._messages[0].startswith("STATUS="):
            self.status = self._messages.pop(0).removeprefix("STATUS=")
