"""Real Redis and Sentinel with the files in ``deploy``; test_systemd has the unit files."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from end_to_end.peers import until
from redis_server import RedisServer, Sentinel, free_port

from maze.core import Position
from maze.journal.journal import Batch
from maze.journal.redis import RedisJournal

pytestmark = pytest.mark.realtime

DEPLOY = Path(__file__).parents[2] / "deploy"


class Configured(RedisServer):
    """A server with ``deploy/redis.conf``, but with a port, a socket and a folder of its own."""

    def _options(self) -> list[str]:
        own = ["--port", str(self.port), "--unixsocket", self.path, "--dir", str(self.folder)]
        return [str(DEPLOY / "redis.conf"), *own]


class Watching(Sentinel):
    """A Sentinel with ``deploy/sentinel.conf``, but with other ports."""

    def _options(self) -> list[str]:
        file = self.folder / "sentinel.conf"
        text = (DEPLOY / "sentinel.conf").read_text(encoding="utf-8")
        text = text.replace("127.0.0.1 6379 ", f"127.0.0.1 {self._master} ")
        file.write_text(text.replace("port 26379", f"port {self.port}"), encoding="utf-8")
        return [str(file), "--sentinel", "--unixsocket", self.path]


def test_a_journal_is_safe_in_a_redis_with_this_configuration() -> None:
    with closing(Configured()) as server:
        journal = RedisJournal(server.address, Position(1, 1))  # refuses what is not safe
        assert journal.safe_seconds() == 2.0
        journal.append([Batch(1, 1, 2, b"1|B\n")], journal.lease())
        journal.close()
        assert b"noeviction" in server.command("CONFIG", "GET", "maxmemory-policy")
        for name, value in (("no-appendfsync-on-rewrite", b"no"), ("aof-load-truncated", b"yes")):
            assert server.command("CONFIG", "GET", name).endswith(b"\r\n%b\r\n" % value)


def test_a_sentinel_with_this_configuration_knows_the_master() -> None:
    with (
        closing(RedisServer(port=free_port())) as server,
        closing(Watching("maze", server.port)) as s,
    ):
        port = str(server.port).encode()
        asked = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "maze")
        until(lambda: port in s.command(*asked), "the Sentinel to know the master")
        assert b"quorum\r\n$1\r\n2\r\n" in s.command("SENTINEL", "MASTER", "maze")
