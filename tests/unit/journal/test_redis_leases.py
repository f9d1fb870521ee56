"""The lease of a journal in Redis, and its fence."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from end_to_end.peers import until
from redis_server import RedisServer, free_port, running

from maze.core import Position
from maze.journal.journal import FencedError
from maze.journal.redis import RedisJournal

from .files import START, events

LEASE = "{maze}:lease"


def set_lease(server: RedisServer, fence: int, owner: str = "", ends: int = 0) -> None:
    server.command("SET", LEASE, f"{fence} {ends} {owner}")


def test_a_lease_is_held_by_one_owner(server: RedisServer) -> None:
    first, second = (RedisJournal(server.address, START) for _ in range(2))
    fence = first.try_lease("first", 60.0)
    assert fence
    assert second.try_lease("second", 60.0) is None
    first.renew_lease(fence, 60.0)
    first.append(events(1, 2), fence)
    again = first.try_lease("first", 60.0)
    assert again
    assert again > fence
    first.release_lease(again)
    taken = second.try_lease("second", 60.0)
    assert taken
    assert taken > again
    for call in (
        lambda: first.renew_lease(again, 60.0),
        lambda: first.release_lease(again),
        lambda: first.append([], again),
    ):
        with pytest.raises(FencedError):
            call()
    assert first.try_lease("first", 60.0) is None
    assert first.lease() > taken  # without asking


def test_a_late_renewal_does_not_take_back_a_lease_that_was_given_back(
    server: RedisServer,
) -> None:
    first, second = (RedisJournal(server.address, START) for _ in range(2))
    fence = first.try_lease("first", 60.0)
    assert fence
    first.release_lease(fence)
    with pytest.raises(FencedError):
        first.renew_lease(fence, 60.0)
    assert second.try_lease("second", 60.0)


def test_what_may_be_lost_is_asked_for_as_a_renewal_is(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call on the other connections may wait for longer than the lease lasts."""
    journal = RedisJournal(server.address, START, renewal_timeout=1.0)

    def call(*arguments: object) -> object:
        raise AssertionError(f"{arguments} was not asked with the timeout of a renewal")

    monkeypatch.setattr(journal._client, "call", call)
    assert journal.safe_seconds() > 0


def test_a_lease_ends_by_itself_but_its_fence_stays_until_another_is_taken(
    server: RedisServer,
) -> None:
    first, second = (RedisJournal(server.address, START) for _ in range(2))
    fence = first.try_lease("first", 0.001)
    assert fence
    first.append(events(1, 2), fence)
    first.renew_lease(fence, 0.001)
    taken: list[int] = []

    def is_taken() -> bool:
        taken.extend(filter(None, [second.try_lease("second", 60.0)]))
        return bool(taken)

    until(is_taken, "the lease to be free")
    assert taken[0] > fence
    with pytest.raises(FencedError):
        first.renew_lease(fence, 60.0)


def test_a_fence_that_redis_has_lost_is_valid_again(server: RedisServer) -> None:
    first, second = (RedisJournal(server.address, START) for _ in range(2))
    before = second.lease()
    fence = first.try_lease("first", 60.0)
    assert fence

    def calls() -> list[Callable[[], object]]:
        return [lambda: first.append([], fence), lambda: first.renew_lease(fence, 60.0)]

    for call in calls():
        for lose in (
            lambda: set_lease(server, before, "another", 0),  # as it was before
            lambda: set_lease(server, 1),
            lambda: server.command("DEL", LEASE),
        ):
            lose()
            call()
            assert second.try_lease("second", 60.0) is None
    # Another one's is not lost.
    second.lease()
    for call in calls():
        with pytest.raises(FencedError):
            call()


@pytest.mark.parametrize("ends", [0, 2**52])
def test_a_fence_that_another_has_taken_since_is_not_set_back(
    server: RedisServer, ends: int
) -> None:
    """Redis lost a fence in a failover, and the clock of the replica was behind."""
    journal, other = (RedisJournal(server.address, START) for _ in range(2))
    before = other.lease()
    fence = journal.try_lease("first", 60.0)
    assert fence
    set_lease(server, before + 1, "second", ends)
    with pytest.raises(FencedError):
        journal.append(events(1, 2), fence)
    assert other.append(events(1, 2), before + 1) == Position(1, 2)
    set_lease(server, before, "second", ends)
    if ends:
        with pytest.raises(FencedError):
            journal.append([], fence)
    else:
        assert journal.append([], fence) == Position(1, 2)


def test_fences_rise_even_if_the_clock_goes_back(
    journal: RedisJournal, server: RedisServer
) -> None:
    later = 2**52
    set_lease(server, later)
    assert [journal.lease(), journal.lease()] == [later + 1, later + 2]


def test_an_owner_may_have_any_name(server: RedisServer) -> None:
    first, second = (RedisJournal(server.address, START) for _ in range(2))
    for name in ("host name:7", "\u00e9 \n", "1 2 3"):
        assert first.try_lease(name, 60.0)
        assert second.try_lease("second", 60.0) is None
        first.lease()


def test_a_lease_that_has_ended_can_be_left_to_its_holder(server: RedisServer) -> None:
    journal = RedisJournal(server.address, START)
    assert journal.try_lease("second", 60.0, takes_ended=False)  # nobody ever had it
    set_lease(server, 5, "first", ends=1)
    assert journal.try_lease("second", 60.0, takes_ended=False) is None
    assert journal.try_lease("first", 60.0, takes_ended=False)
    set_lease(server, 5)  # given back
    assert journal.try_lease("second", 60.0, takes_ended=False)


def test_a_replica_has_been_the_master_since_it_was_promoted() -> None:
    port = free_port()
    master = running("--repl-diskless-sync-delay", "0", port=port)
    with master, running() as replica:
        replica.command("REPLICAOF", "127.0.0.1", str(port))
        info = ("INFO", "replication")
        until(lambda: b"master_link_status:up" in replica.command(*info), "the copy")
        replica.command("REPLICAOF", "NO", "ONE")
        journal = RedisJournal(replica.address, START)
        until(lambda: b"uptime_in_seconds:0" not in replica.command("INFO", "server"), "a second")
        assert journal.server_run()[1] == 0


def test_the_run_of_a_server_has_an_id(server: RedisServer) -> None:
    journal = RedisJournal(server.address, START)
    before, seconds = journal.server_run()
    assert seconds in range(600)
    server.kill()
    server.start()
    assert journal.server_run()[0] != before
