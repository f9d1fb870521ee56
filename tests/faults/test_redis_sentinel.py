"""Redis with a replica and a Sentinel: the journal follows the master."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
from end_to_end.peers import PATIENCE, until
from redis_server import RedisServer, Sentinel, free_port

from maze.core import Position
from maze.journal.journal import Batch, UnavailableError
from maze.journal.redis import RedisJournal
from maze.journal.redis_address import RedisAddress
from maze.journal.redis_reader import RedisReader
from maze.net.native_thread import run_in_thread

START = Position(1, 1)


class Deployment:
    """A master, its replica and a Sentinel; another Sentinel is not there."""

    def __init__(self, stack: ExitStack) -> None:
        self.servers = [self._start(stack, RedisServer(port=free_port())) for _ in range(2)]
        master, replica = self.servers
        replica.command("REPLICAOF", "127.0.0.1", str(master.port))
        self.sentinel = Sentinel("maze", master.port)
        stack.enter_context(closing(self.sentinel))
        self.address = RedisAddress.parse(
            "redis://maze", sentinels=f"127.0.0.1:{free_port()},127.0.0.1:{self.sentinel.port}"
        )

    @staticmethod
    def _start(stack: ExitStack, server: RedisServer) -> RedisServer:
        return stack.enter_context(closing(server))

    def fail_over(self) -> None:
        """Have the Sentinel make the replica the master."""
        until(
            lambda: (
                b"num-slaves\r\n$1\r\n1\r\n" in self.sentinel.command("SENTINEL", "MASTERS")
                and self.sentinel.command("SENTINEL", "FAILOVER", "maze") == b"+OK\r\n"
            ),
            "the Sentinel to know the replica",
        )
        port = str(self.servers[1].port).encode()
        question = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "maze")
        until(lambda: port in self.sentinel.command(*question), "the new master")


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    with ExitStack() as stack:
        yield Deployment(stack)


def test_a_journal_follows_the_master(deployment: Deployment) -> None:
    journal = RedisJournal(deployment.address, START, timeout=PATIENCE)
    reader = RedisReader(deployment.address, timeout=PATIENCE)
    fence = journal.lease()
    batches = [Batch(1, number, number + 1, b"%d|B\n" % number) for number in range(1, 4)]
    journal.append(batches[:1], fence)
    assert reader.read(START) == batches[:1]
    master, replica = deployment.servers
    length = ("XLEN", "{maze}:batches")
    until(lambda: replica.command(*length) == b":1\r\n", "the replica to have everything")
    deployment.fail_over()
    master.kill()

    def has_appended() -> bool:
        try:
            return journal.append(batches[:2], fence) == Position(1, 3)
        except UnavailableError:
            return False

    until(has_appended, "an append to the new master")
    assert run_in_thread(reader.read, START) == batches[:2]
    assert reader.wait(Position(1, 2), PATIENCE) == batches[1:2]
    assert replica.command(*length) == b":2\r\n"


def test_a_master_that_no_sentinel_knows_is_told(deployment: Deployment) -> None:
    sentinels = f"127.0.0.1:{deployment.sentinel.port}"
    reader = RedisReader(RedisAddress.parse("redis://other", sentinels=sentinels))
    with pytest.raises(UnavailableError, match="no Sentinel knows the master other"):
        reader.position()
    deployment.sentinel.kill()
    with pytest.raises(UnavailableError, match=r"cannot reach the Sentinel .*: Connection refused"):
        reader.position()
