"""Two network namespaces and a virtual cable between them that can be pulled, without privileges.

The server runs at the near end, its peers at the far end. The namespaces exist only as long as
the processes that are started here.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from end_to_end.peers import until

NEAR = "10.99.0.1"
FAR = "10.99.0.2"


def can_be_laid() -> bool:
    """Return whether this user may create network namespaces and links between them."""
    if not all(map(shutil.which, ("unshare", "nsenter", "ip"))):
        return False
    probe = ["ip", "link", "add", "one", "type", "veth", "peer", "name", "other"]
    run = subprocess.run(["unshare", "-r", "-n", *probe], capture_output=True, check=False)
    return run.returncode == 0


class Cable:
    """The cable, and the processes at its ends."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Cable:
        try:
            self._lay()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()

    def near(self) -> list[str]:
        """Return the prefix that runs a command at the near end."""
        return _inside(self._near)

    def far(self) -> list[str]:
        """Return the prefix that runs a command at the far end."""
        return _inside(self._far)

    def talker(self, end: list[str], port: int) -> Callable[[bytes], None]:
        """Start a peer that connects to a port of the server; return the function that sends."""
        command = [*end, sys.executable, "-c", TALK, NEAR, str(port)]
        stdin = self._start(command, stdin=subprocess.PIPE).stdin
        assert stdin is not None

        def send(line: bytes) -> None:
            stdin.write(line)
            stdin.flush()

        return send

    def pull(self) -> None:
        """Drop all packets from now on, without notice to either end."""
        self._ip(self._far, "link set far down")

    def _lay(self) -> None:
        self._near = self._start(["unshare", "-r", "-n", "sleep", "1000"])
        until(lambda: _sleeps(self._near), "the near namespace")
        self._far = self._start([*self.near(), "unshare", "-n", "sleep", "1000"])
        until(lambda: _sleeps(self._far), "the far namespace")
        self._ip(self._near, f"link add near type veth peer name far netns {self._far.pid}")
        for end, name, address in ((self._near, "near", NEAR), (self._far, "far", FAR)):
            self._ip(end, "link set lo up")
            self._ip(end, f"address add {address}/24 dev {name}")
            self._ip(end, f"link set {name} up")

    def _start(
        self, command: list[str], stdin: int = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        self._processes.append(subprocess.Popen(command, stdin=stdin))
        return self._processes[-1]

    @staticmethod
    def _ip(end: subprocess.Popen[bytes], arguments: str) -> None:
        subprocess.run([*_inside(end), "ip", *arguments.split()], check=True, timeout=10)


def _inside(process: subprocess.Popen[bytes]) -> list[str]:
    return ["nsenter", "--preserve-credentials", "-U", "-n", "-t", str(process.pid)]


def _sleeps(process: subprocess.Popen[bytes]) -> bool:
    """Return whether ``unshare`` has set the namespace up and started its program."""
    return Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n"


# ``python -c TALK HOST PORT`` connects and sends the lines of its stdin.
TALK = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as connection:
    for line in sys.stdin.buffer:
        connection.sendall(line)
"""
