"""Where a form keeps its journal: a file, a Redis server, or a master with a replica."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from random import Random
from typing import NamedTuple, Protocol

import gevent
from end_to_end.peers import until
from end_to_end.running import ROOT
from redis_server import RedisServer, Sentinel, free_port

from maze.journal.journal import JournalError
from maze.journal.places import RedisPlace
from maze.journal.reader import SQLiteReader
from maze.journal.redis_address import RedisAddress

UNSAFE_SECONDS = 1.0
"""With ``appendfsync everysec``, a loss of power loses at least what was written in this time."""

SAMPLE_SECONDS = 0.05

STATE_SECONDS = 1.0
"""Maximum time that a server takes to answer when asked for its state."""

REDIS_OPTIONS = ("--appendfsync", "everysec")
SENTINELS = 3
QUORUM = 2
DOWN_MILLISECONDS = "1000"
"""Time after which a Sentinel considers a master dead."""


class State(NamedTuple):
    """What a journal says of itself: its next number, where it begins, its writer's fence."""

    next: int
    kept_from: int
    fence: int


class Store(Protocol):
    """A journal's place."""

    journal: list[str]
    """Arguments that name the journal to ``python -m maze.journal``."""

    def state(self) -> State | None:
        """Return the journal's state; None if it cannot be read now."""

    def close(self) -> None:
        """End the servers, and remove their files."""


class FileStore:
    """A journal in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal = [str(path)]

    def state(self) -> State | None:
        with suppress(JournalError, sqlite3.Error, OSError):
            with closing(SQLiteReader(str(self.path))) as reader:
                position, kept_from = reader.position(), reader.kept_from()
            with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as database:
                (fence,) = database.execute("SELECT fence FROM kept").fetchone()
            return State(position.next, kept_from.next, int(fence))
        return None

    def close(self) -> None:
        """Do nothing: the file is in the run's folder."""


class Server(RedisServer):
    """A Redis server that can lose power."""

    def __init__(self, *arguments: str) -> None:
        self._sizes: list[tuple[float, Path, int]] = []
        super().__init__(*REDIS_OPTIONS, *arguments, port=free_port())
        self._sampling = gevent.spawn(self._sample)

    def close(self) -> None:
        self._sampling.kill()
        super().close()

    def keep_files(self, folder: Path) -> None:
        """Kill the server, and copy its log and its data to a folder."""
        self.kill()
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("socket"))

    def lose_power(self, random: Random) -> int:
        """Kill the server, and remove the end of what it had not synced; return the bytes lost."""
        self.kill()
        file, size = self._newest()
        before = time.monotonic() - UNSAFE_SECONDS
        safe = [size for at, path, size in self._sizes if path == file and at <= before]
        if file is None or not safe:
            return 0
        kept = random.randrange(safe[-1], safe[-1] + max(1, (size - safe[-1]) // 4))
        os.truncate(file, min(kept, size))
        return size - min(kept, size)

    def _program(self) -> list[str]:
        # A limit on the size of files must look like a full disk, and must not end the server.
        return ["env", "--ignore-signal=XFSZ", *super()._program()]

    def _sample(self) -> None:
        while True:
            file, size = self._newest()
            if file:
                self._sizes.append((time.monotonic(), file, size))
            gevent.sleep(SAMPLE_SECONDS)

    def _newest(self) -> tuple[Path | None, int]:
        """Return the file to which the server appends, and its size."""
        with suppress(OSError):
            files = (self.folder / "appendonlydir").glob("*.incr.aof")
            newest = max(files, key=lambda file: int(file.name.split(".")[-3]), default=None)
            return (newest, newest.stat().st_size) if newest else (None, 0)
        return None, 0


class RedisStore:
    """A journal in a Redis server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = Server()
        self.port = self.server.port
        self.journal = [f"unix://{self.server.path}"]

    @property
    def master(self) -> Server:
        """The server to which the ingest writes."""
        return self.server

    def state(self) -> State | None:
        return _state(self.server)

    def close(self) -> None:
        self.server.keep_files(self.folder / "redis")
        self.server.close()


class SentinelStore:
    """A journal in a master with a replica, which three Sentinels watch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = ExitStack()
        try:
            self.servers = [self._server() for _ in range(2)]
            for server in self.servers:  # by default, a replica waits for five seconds
                server.command("CONFIG", "SET", "repl-diskless-sync-delay", "0")
            self.servers[1].command("REPLICAOF", "127.0.0.1", str(self.servers[0].port))
            until(self._is_replicated, "the replica to have what the master has")
            self.sentinels: list[RedisServer] = [self._sentinel() for _ in range(SENTINELS)]
            until(self._is_whole, "the Sentinels to know each other and the replica")
        except BaseException:
            self._stack.close()
            raise
        self.sentinels_option = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        self.journal = ["redis://maze", "--sentinels", self.sentinels_option]

    def _server(self) -> Server:
        server = Server()
        self._stack.callback(server.close)
        return server

    def _sentinel(self) -> Sentinel:
        sentinel = Sentinel("maze", self.servers[0].port)
        self._stack.callback(sentinel.close)
        options = {
            "quorum": str(QUORUM),
            "down-after-milliseconds": DOWN_MILLISECONDS,
            "failover-timeout": "5000",
        }
        for name, value in options.items():
            sentinel.command("SENTINEL", "SET", "maze", name, value)
        return sentinel

    def _is_replicated(self) -> bool:
        """Return whether the replica was synced: the Sentinels would promote an empty one, too."""
        return b"master_link_status:up" in self.servers[1].command("INFO", "replication")

    def _is_whole(self) -> bool:
        words = (b"num-slaves\r\n$1\r\n1\r\n", b"num-other-sentinels\r\n$1\r\n2\r\n")
        told = [each.command("SENTINEL", "MASTERS") for each in self.sentinels]
        return all(word in text for text in told for word in words)

    @property
    def master(self) -> Server:
        """The server that the Sentinels call the master."""
        question = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "maze")
        for sentinel in self.sentinels:
            with suppress(OSError):
                told = sentinel.command(*question)
                return next(each for each in self.servers if b"\r\n%d\r\n" % each.port in told)
        return self.servers[0]

    @property
    def replica(self) -> Server:
        master = self.master
        return next(each for each in self.servers if each is not master)

    def state(self) -> State | None:
        return _state(self.master)

    def close(self) -> None:
        for number, server in enumerate(self.servers):
            server.keep_files(self.folder / f"redis-{number}")
        self._stack.close()


def _state(server: RedisServer) -> State | None:
    place = RedisPlace(RedisAddress.parse(f"redis://127.0.0.1:{server.port}"))
    with suppress(OSError, JournalError), closing(place.reader(STATE_SECONDS)) as reader:
        position, kept_from = reader.position(), reader.kept_from()
        fence = re.search(rb"\r\n(\d+) ", server.command("GET", "{maze}:lease"))
        if fence:
            return State(position.next, kept_from.next, int(fence[1]))
    return None


def journal_command(command: str, store: Store, *more: str) -> subprocess.CompletedProcess[bytes]:
    """Run ``python -m maze.journal`` on a store."""
    journal, *options = store.journal
    return subprocess.run(
        [sys.executable, "-m", "maze.journal", command, journal, *options, *more],
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=False,
    )
