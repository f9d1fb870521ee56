"""A program in front of a server: it runs until the test ends, and logs to a file."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Self

from end_to_end.peers import until
from programs import installed


class Front:
    """A running program that listens on ``port``, with its log in ``folder``."""

    def __init__(self, folder: Path, name: str, arguments: Sequence[str], port: int) -> None:
        self._name = name
        self._port = port
        self._log = (folder / f"{name}.log").open("wb")
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", installed(name), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def __enter__(self) -> Self:
        until(self._listens, f"{self._name} to listen")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()

    def _listens(self) -> bool:
        assert self._process.poll() is None, Path(self._log.name).read_text()
        with closing(socket.socket()) as sock:
            return sock.connect_ex(("127.0.0.1", self._port)) == 0
