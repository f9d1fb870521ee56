"""A supervisor such as systemd, as far as a process can see it: a datagram socket."""

from __future__ import annotations

import socket
from pathlib import Path

from .peers import until


class Supervisor:
    """Takes what a process says of itself."""

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
        """What the process has to know."""
        microseconds = round(watchdog_seconds * 1_000_000)
        watchdog = {"WATCHDOG_USEC": str(microseconds)} if microseconds else {}
        return {"NOTIFY_SOCKET": self._path, **watchdog}

    def received(self) -> list[str]:
        """What has come and was not expected yet."""
        try:
            while True:
                self._messages += self._socket.recv(4096).decode().splitlines()
        except BlockingIOError:
            return self._messages

    def expect(self, message: str, skipping: str = "") -> None:
        """The next message is this one, but for some that are skipped."""
        while True:
            until(self.received, f"{message} from the process")
            first = self._messages.pop(0)
            if first.startswith("STATUS="):
                self.status = first.removeprefix("STATUS=")
            elif first == message:
                break
            else:
                assert first == skipping, f"{first} and not {message}"
        if self.received() and self._messages[0].startswith("STATUS="):
            self.status = self._messages.pop(0).removeprefix("STATUS=")
