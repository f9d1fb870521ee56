"""Real Redis servers for tests, each in a folder of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from maze.journal.redis_address import RedisAddress

PROGRAM = "redis-server"
PATIENCE = 30.0
"""Maximum seconds until a server answers; it takes a hundredth of one."""


def program() -> str:
    """Return the server's path; without it, fail under CI, else skip the test."""
    found = shutil.which(PROGRAM)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"{PROGRAM} is not installed; .ci/run should have installed it")
        pytest.skip(f"{PROGRAM} is not installed")
    return found


class RedisServer:
    """A server that listens on a Unix socket, and on a TCP port if it is given one.

    It ends with the thread that started it, even if that one is killed.
    """

    def __init__(self, *arguments: str, folder: Path | None = None, port: int = 0) -> None:
        # The path of a Unix socket may have 107 bytes, and pytest's folders are longer.
        self._own = None if folder else tempfile.TemporaryDirectory(prefix="redis-")
        self.folder = folder or Path(self._own.name if self._own else "")
        self.path = str(self.folder / "socket")
        self.port = port
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def address(self) -> RedisAddress:
        return RedisAddress.parse(f"unix://{self.path}")

    def start(self, *more: str) -> None:
        """Start the server, and wait until it has read its files."""
        command = ["setpriv", "--pdeathsig", "KILL", program()]
        command += ["--port", str(self.port), "--unixsocket", self.path]
        command += ["--bind", "127.0.0.1", "--dir", str(self.folder), "--daemonize", "no"]
        command += ["--save", "", "--appendonly", "yes", "--appendfsync", "no"]
        self._process = subprocess.Popen(
            [*command, *self._arguments, *more],
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / "log").open("ab"),
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            log = (self.folder / "log").read_text(errors="replace")
            assert self._process.poll() is None, f"{PROGRAM} has ended: {log[-2_000:]}"
            assert time.monotonic() < deadline, f"{PROGRAM} does not answer: {log[-2_000:]}"
            time.sleep(0.002)

    def _answers(self) -> bool:
        try:
            return self.command("PING") == b"+PONG\r\n"
        except OSError:
            return False

    def command(self, *words: str) -> bytes:
        """Send a command on a connection of its own; return the first bytes of the answer."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(self.path)
            sock.sendall(_packed(words))
            return sock.recv(1 << 16)

    def signal(self, number: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(number)

    def kill(self) -> None:
        """End the server as a crash does."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """End the server and remove its files."""
        self.kill()
        if self._own:
            self._own.cleanup()

    def append_only_file(self) -> Path:
        """Return the file to which the server appends."""
        (found,) = (self.folder / "appendonlydir").glob("*.incr.aof")
        return found


@contextmanager
def running(*arguments: str, port: int = 0) -> Iterator[RedisServer]:
    """Run a server with further arguments."""
    server = RedisServer(*arguments, port=port)
    try:
        yield server
    finally:
        server.close()


def free_port() -> int:
    """Return a port that nobody uses now; Redis cannot choose one itself."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _packed(words: Sequence[str]) -> bytes:
    parts = [b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words]
    return b"*%d\r\n%s" % (len(words), b"".join(parts))
