"""A Redis server that crashes before its last writes are on the disk."""

from __future__ import annotations

import os
from itertools import count

import pytest
from end_to_end.peers import until
from redis_server import running

from maze.core import Position
from maze.journal.journal import Batch, Bounds, GapError, UnavailableError
from maze.journal.redis import RedisJournal
from maze.journal.retention import Retention
from maze.journal.tail import LostError, Tail
from maze.journal.tailed import TailedJournal

from .files import START, events


@pytest.mark.parametrize("torn_bytes", [0, 10, -10])
def test_what_a_crash_has_lost_is_appended_again(torn_bytes: int) -> None:
    """The file ends between two appends, or within one, as it does after a loss of power."""
    reports: list[str] = []
    with running() as server:
        redis = RedisJournal(server.address, START)
        journal = TailedJournal(redis, Tail(10**6, START), report=reports.append)
        fence = journal.lease()
        file = server.append_only_file()
        sizes = []
        for number in range(1, 7):
            journal.append(events(number, number + 1), fence)
            sizes.append(file.stat().st_size)
        server.kill()
        os.truncate(file, sizes[2] + torn_bytes)
        server.start()
        lost_from = 4 if torn_bytes >= 0 else 3
        assert redis.position() == Position(1, lost_from)
        with pytest.raises(GapError) as error:
            redis.append(events(7, 8), fence)
        assert error.value.position == Position(1, lost_from)
        assert journal.append(events(7, 8), fence) == Position(1, 8)
        assert journal.read(START, 10**6) == events(1, 8)
        assert (journal.gaps, journal.batches_again) == (1, 7 - lost_from)
        assert reports == [
            f"the journal had lost what follows 1-{lost_from}: appended again up to 1-7"
        ]


@pytest.mark.parametrize("cut", [*range(1, 100, 12), -1])
def test_what_follows_a_torn_append_outlives_another_crash(cut: int) -> None:
    """Redis leaves the begin of a torn transaction in its file. Another start would take all that
    follows as a part of it, and drop it."""
    with running() as server:
        redis = RedisJournal(server.address, START)
        journal = TailedJournal(redis, Tail(10**6, START), report=lambda _: None)
        fence = journal.lease()
        file = server.append_only_file()
        kept: list[Batch] = []
        for _ in range(3):
            first = kept[-1].end if kept else 1
            for number in range(first, first + 3):
                size = file.stat().st_size
                journal.append(events(number, number + 1), fence)
            kept = events(1, first + 3)
            server.kill()
            torn = size + cut if cut > 0 else file.stat().st_size + cut
            assert size < torn < file.stat().st_size
            os.truncate(file, torn)
            server.start()
            assert redis.read(START, 10**6) == kept[:-1]
            assert journal.append([], fence) == kept[-1].position
            server.kill()
            server.start()
            assert redis.read(START, 10**6) == kept
        assert b"CRITICAL" not in (server.folder / "log").read_bytes()


def _taken(journal: RedisJournal, taken: list[int]) -> list[int]:
    """Take the lease as another owner, if it has ended."""
    taken.extend(filter(None, [journal.try_lease("two", 60.0)]))
    return taken


def test_nothing_is_written_as_a_transaction() -> None:
    """So there is none that a loss of power could tear."""
    with running() as server:
        file = server.append_only_file()
        seconds = count()
        journal = RedisJournal(
            server.address, START, retention=Retention(0, 1), clock=lambda: next(seconds)
        )
        assert journal.try_lease("one", 0.001)
        taken: list[int] = []
        until(lambda: bool(_taken(journal, taken)), "the lease to end")
        (fence,) = taken
        server.command("DEL", "{maze}:lease")  # as a crash does
        journal.renew_lease(fence, 60.0)
        for number in range(1, 30, 3):
            batches = [*events(number, number + 3)]
            if number == 1:
                batches[0] = batches[0]._replace(bounds=Bounds(1, 1, 1), unchanged=b"marks")
            journal.append(batches, fence)
            journal.put_snapshot(journal.position(), Bounds(1, 1, 1), [b"one", b"two"], fence)
        journal.append([Batch(2, 1, 1, b""), Batch(2, 1, 2, b"1|B\n"), Batch(3, 1, 1, b"")], fence)
        journal.trim(Position(1, 20), fence)
        journal.release_lease(fence)
        assert journal.kept_from() >= Position(1, 19)
        written = file.read_bytes().upper()
        for command in (b"XADD", b"XTRIM", b"SET", b"INCR", b"RPUSH", b"HSET", b"HDEL", b"UNLINK"):
            assert b"\r\n%s\r\n" % command in written
        assert b"MULTI" not in written


def test_a_lease_that_a_crash_has_lost_is_no_takeover() -> None:
    with running() as server:
        redis = RedisJournal(server.address, START)
        file = server.append_only_file()
        size = file.stat().st_size
        journal = TailedJournal(redis, Tail(10**6, START), report=lambda _: None)
        fence = redis.try_lease("owner", 60.0)
        assert fence
        journal.append(events(1, 4), fence)
        server.kill()
        os.truncate(file, size)
        server.start()
        assert journal.append([], fence) == Position(1, 4)
        redis.renew_lease(fence, 60.0)
        assert RedisJournal(server.address, START).try_lease("other", 60.0) is None


def test_a_new_epoch_does_not_hide_what_was_lost_before_it() -> None:
    """It follows any position, so Redis would take it."""
    with running() as server:
        redis = RedisJournal(server.address, START)
        journal = TailedJournal(redis, Tail(10**6, START), report=lambda _: None)
        fence = journal.lease()
        journal.append(events(1, 2), fence)
        file = server.append_only_file()
        size = file.stat().st_size
        journal.append(events(2, 3), fence)
        server.kill()
        os.truncate(file, size)
        server.start()
        reset = Batch(2, 1, 1, b"")
        journal.append([reset], fence)
        assert journal.read(START, 10**6) == [*events(1, 3), reset]


def test_the_tail_is_kept_while_redis_refuses_writes() -> None:
    """What it has confirmed may not be on its disk, nor at a replica."""
    now = 0.0
    with running() as server:
        redis = RedisJournal(server.address, START)
        tail = Tail(10**6, START)
        journal = TailedJournal(redis, tail, report=lambda _: None, clock=lambda: now)
        fence = journal.lease()
        journal.append(events(1, 2), fence)
        server.command("CONFIG", "SET", "min-replicas-to-write", "1")
        now = 10.0
        with pytest.raises(UnavailableError):
            journal.append([], fence)
        with pytest.raises(UnavailableError):
            journal.append([Batch(2, 1, 1, b"")], fence)
        assert len(tail) == 1
        server.command("CONFIG", "SET", "min-replicas-to-write", "0")
        journal.append([], fence)
        assert len(tail) == 0


def test_what_is_no_longer_kept_is_an_error() -> None:
    """The next appends must not be accepted: what was delivered would be missing."""
    tail = Tail(10**6, START)
    tail.add(events(1, 4), now=0.0)
    tail.drop(seen=2.0)
    assert tail.position == Position(1, 4)
    tail.add(events(4, 6), now=3.0)
    assert tail.after(Position(1, 4)) == events(4, 6)
    assert tail.after(Position(1, 6)) == tail.after(Position(2, 1)) == []
    with pytest.raises(LostError, match=r"lost what follows 1-3, .* only what follows 1-4"):
        tail.after(Position(1, 3))
    tail.drop(seen=4.9)
    assert len(tail) == 2
    tail.renew(Position(1, 5), now=4.0)
    tail.drop(seen=5.0)
    assert tail.after(Position(1, 5)) == events(5, 6)
    assert tail.seconds_until_safe(5.0) == 1.0
    tail.drop(seen=6.0)
    assert (len(tail), tail.bytes, tail.is_full) == (0, 0, False)
    assert tail.seconds_until_safe(6.0) == 0.0


def test_a_full_tail_is_not_dropped_before_it_is_safe() -> None:
    tail = Tail(1, START)
    assert not tail.is_full
    tail.add(events(1, 2), now=0.0)
    assert tail.is_full
    tail.drop(seen=1.9)
    assert tail.is_full
    tail.safe_seconds = 0.0
    tail.drop(seen=0.0)
    assert not tail.is_full
