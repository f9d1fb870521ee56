"""Servers that get their listening sockets from systemd, or from the test in its place."""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping

from end_to_end.running import Child
from programs import installed

_EXEC = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"

_PASS = """
import fcntl, os, sys
count = int(sys.argv[1])
taken = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 100) for number in sys.argv[2 : 2 + count]]
for number, descriptor in enumerate(taken, 3):
    os.dup2(descriptor, number)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(count)}
os.environ["LISTEN_FDNAMES"] = sys.argv[2 + count]
os.execv(sys.executable, [sys.executable, "-m", "maze.serve", *sys.argv[3 + count :]])
"""


def activated(sockets: Mapping[str, object], *arguments: str, more: tuple[str, ...] = ()) -> Child:
    """Start ``systemd-socket-activate``, which starts a server once somebody connects.

    ``sockets`` has what each socket listens on, by its name; ``more`` are options of the program.
    """
    names = ":".join(sockets)
    command = [installed("systemd-socket-activate"), *(f"--listen={on}" for on in sockets.values())]
    command += [f"--fdname={names}"] if any(sockets) else []
    program = ["-c", _EXEC, *command, *more, "--", sys.executable, "-m", "maze.serve"]
    return Child(*arguments, program=program)


def given(sockets: Mapping[str, socket.socket], *arguments: str) -> Child:
    """Start a server with sockets that the test keeps, as systemd does."""
    descriptors = [sock.fileno() for sock in sockets.values()]
    words = [str(len(descriptors)), *map(str, descriptors), ":".join(sockets)]
    return Child(*arguments, program=["-c", _PASS, *words], descriptors=descriptors)
