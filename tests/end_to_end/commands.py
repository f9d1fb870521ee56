"""Commands as peers, for what Python's TLS cannot do.

They are not started by gevent's subprocess module, which would reap all other children, too.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from gevent.os import make_nonblocking, nb_read, nb_write

from .peers import patience, until


class Command:
    """A command that runs in the background; reading from it lets the server run."""

    def __init__(self, command: Sequence[str], folder: Path | None = None) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self.process.stdin
        assert self.process.stdout
        self._stdin, self._stdout = self.process.stdin, self.process.stdout
        for pipe in (self._stdin, self._stdout):
            make_nonblocking(pipe.fileno())

    def say(self, data: bytes) -> None:
        with patience("the command to read its input"):
            while data:
                data = data[nb_write(self._stdin.fileno(), data) :]

    def end_input(self) -> None:
        self._stdin.close()

    def expect(self, expected: bytes) -> None:
        """Assert that the command's next output is ``expected``."""
        received = b""
        with patience(f"{len(expected)} bytes of the command"):
            while len(received) < len(expected) and (data := self._read(1 << 16)):
                received += data
        assert received == expected

    def expect_end_with(self, end: bytes) -> None:
        """Read the command's output until it ends with ``end``."""
        received = b""
        with patience(f"{end[-40:]!r} of the command"):
            while not received.endswith(end):
                data = self._read(1 << 16)
                assert data, f"it ended after {received!r}"
                received = (received + data)[-2 * len(end) :]

    def read_line(self) -> bytes:
        line = b""
        with patience("a line of the command"):
            while not line.endswith(b"\n"):
                data = self._read(1)
                assert data, f"it ended after {line!r}"
                line += data
        return line

    def read_all(self) -> bytes:
        received = b""
        with patience("the command to end"):
            while data := self._read(1 << 16):
                received += data
        return received

    def status(self) -> int:
        """Wait for the command to end; return its exit status."""
        until(lambda: self.process.poll() is not None, "the command to end")
        return int(self.process.returncode)

    def interrupt(self) -> None:
        """Send SIGINT to the command's process group, as Ctrl-C does."""
        os.killpg(self.process.pid, signal.SIGINT)

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._stdin.close()
        self._stdout.close()

    def _read(self, size: int) -> bytes:
        return bytes(nb_read(self._stdout.fileno(), size))
