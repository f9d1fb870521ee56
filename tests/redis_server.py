"""Real Redis servers for tests, each in a folder of its own."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from programs import installed

from maze.journal.redis_address import RedisAddress

PROGRAM = "redis-server"
PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
PATIENCE = 30.0
"""Maximum seconds until a server answers; it takes a hundredth of one."""


def program() -> str:
    """Return the server's path; without it, fail under CI, else skip the test."""
    return installed(PROGRAM)


class RedisServer:
    """A server that listens on a Unix socket, and on a TCP port if it is given one.

    It ends with the thread that started it, even if that one is killed.
    """

    def __init__(self, *arguments: str, port: int = 0) -> None:
        # The path of a Unix socket may have 107 bytes, and pytest's folders are longer.
        self._temporary = tempfile.TemporaryDirectory(prefix="redis-", ignore_cleanup_errors=True)
        self.folder = Path(self._temporary.name)
        self.path = str(self.folder / "socket")
        self.port = port
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def address(self) -> RedisAddress:
        return RedisAddress.parse(f"unix://{self.path}")

    def start(self) -> None:
        """Start the server, and wait until it has read its files."""
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *self._program(), *self._options()],
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / "log").open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            log = (self.folder / "log").read_text(errors="replace")
            assert self._process.poll() is None, f"{PROGRAM} has ended: {log[-2_000:]}"
            assert time.monotonic() < deadline, f"{PROGRAM} does not answer: {log[-2_000:]}"
            time.sleep(0.002)

    @property
    def pid(self) -> int:
        """The id of the process, which must run."""
        assert self._process
        return self._process.pid

    def _program(self) -> list[str]:
        return [program()]

    def _options(self) -> list[str]:
        own = ["--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", self.path]
        own += ["--dir", str(self.folder), "--save", "", "--appendonly", "yes"]
        return [*own, "--appendfsync", "no", *self._arguments]

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
        """End the server as a crash does, and the child that writes its file anew."""
        if self._process:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """End the server and remove its files."""
        self.kill()
        self._temporary.cleanup()

    def append_only_file(self) -> Path:
        """Wait until the server is not writing its file anew; return the file it appends to."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found = list((self.folder / "appendonlydir").glob("*.incr.aof"))
            persistence = self.command("INFO", "persistence")
            running = (b"aof_rewrite_in_progress:1", b"aof_rewrite_scheduled:1")
            if len(found) == 1 and not any(each in persistence for each in running):
                return found[0]
            assert time.monotonic() < deadline, persistence
            time.sleep(0.002)


class Sentinel(RedisServer):
    """A Sentinel that watches the master ``name`` on a port."""

    def __init__(self, name: str, master: int) -> None:
        self._name, self._master = name, master
        super().__init__(port=free_port())

    def _options(self) -> list[str]:
        # It writes what it learns to its file, which has to be there.
        file = self.folder / "sentinel.conf"
        if not file.exists():
            file.write_text(f"sentinel monitor {self._name} 127.0.0.1 {self._master} 1\n")
        options = ["--sentinel", "--port", str(self.port), "--bind", "127.0.0.1"]
        return [str(file), *options, "--unixsocket", self.path]


@contextmanager
def running(*arguments: str, port: int = 0) -> Iterator[RedisServer]:
    """Run a server with further arguments."""
    server = RedisServer(*arguments, port=port)
    try:
        yield server
    finally:
        server.close()


_RETURNED: set[int] = set()
"""Ports that ``free_port`` has returned; a process needs far fewer than there are."""


def free_port() -> int:
    """Return a port that nobody uses now; Redis cannot choose one itself.

    The kernel gives nobody else a port below its own range meanwhile. No port is returned twice.
    """
    first = int(PORT_RANGE.read_text().split()[0])
    while True:
        port = random.randrange(min(10_000, first // 2), first)
        if port in _RETURNED:
            continue
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            _RETURNED.add(port)
            return port


def _packed(words: Sequence[str]) -> bytes:
    parts = [b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words]
    return b"*%d\r\n%s" % (len(words), b"".join(parts))
