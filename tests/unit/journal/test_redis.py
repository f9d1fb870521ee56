"""The journal in Redis: what the state machine of all journals does not see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import count, pairwise

import gevent
import pytest
from end_to_end.peers import until
from redis_server import RedisServer

from maze.core import FollowGraph, Position
from maze.journal.group_commit import Done, Work
from maze.journal.journal import (
    AheadError,
    Batch,
    Bounds,
    FencedError,
    GapError,
    GoneError,
    JournalServerError,
    OtherEpochError,
    SnapshotReplacedError,
    TrimmedError,
    UnavailableError,
)
from maze.journal.marks import Marks
from maze.journal.places import RedisPlace
from maze.journal.redis import RedisJournal
from maze.journal.redis_address import RedisAddress
from maze.journal.redis_entries import ENTRY_BYTES
from maze.journal.redis_reader import RedisReader
from maze.journal.retention import Retention
from maze.journal.snapshots import SnapshotTaker
from maze.journal.state import GraphState
from maze.net.native_thread import run_in_thread

from .files import START, events

OTHER = Bounds(1, 2, 3)
BOUNDS = Bounds(10, 20, 30)


@pytest.fixture
def journal(server: RedisServer) -> Iterator[RedisJournal]:
    with closing(RedisJournal(server.address, START)) as opened:
        yield opened


def state(server: RedisServer, field: str) -> bytes:
    return server.command("HGET", "{maze}:state", field).split(b"\r\n")[1]


# Appends


@pytest.mark.parametrize(
    "first", [9, 99, 2**31 - 1, 2**53 - 1, 2**53, 2**53 + 1, 10**18 - 1, 2**62, 2**63 - 1]
)
def test_numbers_are_compared_exactly(server: RedisServer, first: int) -> None:
    """A Lua number cannot tell 2**53 from 2**53 + 1, and as a text 9 is more than 10."""
    journal = RedisJournal(server.address, Position(2**53 + 1, first))
    fence = journal.lease()
    position = Position(2**53 + 1, first + 1)
    batch = Batch(2**53 + 1, first, first + 1, b"line")
    for wrong in (first - 1, first + 1):
        with pytest.raises(GapError):
            journal.append([Batch(2**53 + 1, wrong, first + 2, b"")], fence)
    assert journal.append([batch], fence) == position
    assert journal.append([batch], fence) == position
    assert journal.read(Position(2**53 + 1, first)) == [batch]
    reset = Batch(2**53 + 2, 0, 0, b"", OTHER)
    assert journal.append([batch, reset], fence) == (2**53 + 2, 0)
    journal.trim(position, fence)
    assert journal.statistics().kept_from == position
    assert journal.read(position) == [reset]


def test_a_gap_says_where_the_journal_continues(journal: RedisJournal) -> None:
    fence = journal.lease()
    journal.append(events(1, 3), fence)
    with pytest.raises(GapError) as error:
        journal.append(events(5, 6), fence)
    assert error.value.position == Position(1, 3)
    with pytest.raises(GapError):
        journal.append([*events(3, 4), *events(5, 6)], fence)
    assert journal.position() == Position(1, 3)


def test_an_append_to_a_journal_that_was_removed_does_not_begin_one(
    journal: RedisJournal, server: RedisServer
) -> None:
    fence = journal.lease()
    server.command("FLUSHALL")
    for call in (
        lambda: journal.append(events(1, 2), fence),
        journal.lease,
        lambda: journal.renew_lease(fence, 1.0),
    ):
        with pytest.raises(GoneError, match=r"'maze' in unix://.* was removed"):
            call()
    assert server.command("DBSIZE") == b":0\r\n"


def test_journals_with_different_names_do_not_meet(
    journal: RedisJournal, server: RedisServer
) -> None:
    other = RedisJournal(server.address, Position(7, 7), "other")
    journal.append(events(1, 2), journal.lease())
    assert other.position() == Position(7, 7)
    with pytest.raises(JournalServerError, match="not a name"):
        RedisReader(server.address, "a}b")


# Leases


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


def test_a_lease_ends_by_itself_but_its_fence_stays_until_another_is_taken(
    server: RedisServer,
) -> None:
    first, second = (RedisJournal(server.address, START) for _ in range(2))
    fence = first.try_lease("first", 0.001)
    assert fence
    until(lambda: server.command("EXISTS", "{maze}:lease") == b":0\r\n", "the lease to end")
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
    lost = server.command("DUMP", "{maze}:state")
    fence = first.try_lease("first", 60.0)
    assert fence
    assert lost
    server.command("HSET", "{maze}:state", "fence", "0")  # as it was before
    assert first.append(events(1, 2), fence) == Position(1, 2)
    server.command("HSET", "{maze}:state", "fence", "0")
    first.renew_lease(fence, 60.0)
    assert int(state(server, "fence")) == fence
    # Another one's is not lost.
    second.lease()
    for call in (lambda: first.append([], fence), lambda: first.renew_lease(fence, 1.0)):
        with pytest.raises(FencedError):
            call()


def test_fences_rise_even_if_the_clock_goes_back(
    journal: RedisJournal, server: RedisServer
) -> None:
    later = 2**52
    server.command("HSET", "{maze}:state", "fence", str(later))
    assert [journal.lease(), journal.lease()] == [later + 1, later + 2]


# What is there


def test_damage_is_told(journal: RedisJournal, server: RedisServer) -> None:
    fence = journal.lease()
    journal.append(events(1, 4), fence)
    server.command("XDEL", "{maze}:batches", "1-3")
    with pytest.raises(JournalServerError, match=r"damaged: no batch after 1-2; the next is 1-3"):
        journal.read(START)
    assert journal.read(Position(1, 3)) == events(3, 4)
    server.command("XDEL", "{maze}:batches", "1-4")
    with pytest.raises(JournalServerError, match="no batch after 1-3; there is no other"):
        journal.read(Position(1, 3))
    server.command("XADD", "{maze}:batches", "1-5", "b", "something else")
    server.command("HSET", "{maze}:state", "next", "5")
    with pytest.raises(JournalServerError, match="the checksum of batch 1-5 is wrong"):
        journal.read(Position(1, 4))
    with pytest.raises(JournalServerError, match=r"refuses: .*equal or smaller than the target"):
        journal.append([Batch(1, 5, 5, b""), *_at(server, journal, fence)], fence)


def _at(server: RedisServer, journal: RedisJournal, fence: int) -> list[Batch]:
    """Another program has added an entry; return a batch whose place is taken."""
    server.command("XADD", "{maze}:batches", "1-9", "b", "foreign")
    assert journal.append([], fence) == Position(1, 5)
    return events(5, 6)


def test_a_changed_byte_is_found(journal: RedisJournal, server: RedisServer) -> None:
    journal.append([Batch(1, 1, 2, b"1|B\n", OTHER, b"marks")], journal.lease())
    whole = journal._client.call("XRANGE", "{maze}:batches", "-", "+")[0][1][1]
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1
        server.command("DEL", "{maze}:batches")
        journal._client.call("XADD", "{maze}:batches", "1-2", "b", bytes(changed))
        with pytest.raises(JournalServerError, match="checksum of batch 1-2"):
            journal.read(START)


def test_a_damaged_snapshot_is_passed_over(journal: RedisJournal, server: RedisServer) -> None:
    fence = journal.lease()
    journal.put_snapshot(START, OTHER, [b"old"], fence)
    journal.append(events(1, 2), fence)
    journal.put_snapshot(Position(1, 2), OTHER, [b"one", b"two"], fence)
    server.command("LSET", "{maze}:snapshot:2", "1", "other")
    reports: list[str] = []
    older = journal.get_snapshot(reports.append)
    assert older
    assert older.chunks == [b"old"]
    assert len(reports) == 1
    assert reports[0] == f"{journal.where}: the snapshot 1-2 is damaged"
    server.command("HSET", "{maze}:snapshots", "2", "other")
    assert journal.get_snapshot(reports.append) == older
    assert reports[1:] == [f"{journal.where}: the snapshot number 2 is damaged"]
    # It is the first to be replaced.
    journal.put_snapshot(Position(1, 2), OTHER, [b"three"], fence)
    assert server.command("EXISTS", "{maze}:snapshot:2") == b":0\r\n"


def test_a_snapshot_that_is_replaced_while_it_is_read_is_read_anew(
    journal: RedisJournal, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fence = journal.lease()
    journal.put_snapshot(START, OTHER, [b"1"], fence)
    journal.put_snapshot(START, OTHER, [b"2"], fence)
    reader = RedisReader(server.address)
    chunks = reader._chunks

    def replace_first(*arguments: object) -> object:
        monkeypatch.undo()
        for each in (b"3", b"4"):
            journal.put_snapshot(START, OTHER, [each], fence)
        return chunks(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(reader, "_chunks", replace_first)
    found = reader.get_snapshot(pytest.fail)
    assert found
    assert found.chunks == [b"4"]


def test_repeating_a_chunk_or_an_end_changes_nothing(journal: RedisJournal) -> None:
    """The answer to the first attempt may have been lost."""
    fence = journal.lease()
    writer = journal.begin_snapshot(START, OTHER, fence)
    row = writer._row
    writer.add(b"one")
    journal.add_chunk(1, 0, b"one", fence)
    writer.add(b"two")
    writer.finish()
    assert writer._row == row._replace(chunks=2, size=6)
    writer.finish()
    found = journal.get_snapshot(pytest.fail)
    assert found
    assert found.chunks == [b"one", b"two"]


def test_a_snapshot_of_which_redis_has_lost_a_chunk_is_not_finished(
    journal: RedisJournal, server: RedisServer
) -> None:
    fence = journal.lease()
    writer = journal.begin_snapshot(START, OTHER, fence)
    writer.add(b"one")
    writer.add(b"two")
    server.command("RPOP", "{maze}:snapshot:1")
    with pytest.raises(SnapshotReplacedError, match="lost a part"):
        writer.add(b"three")
    with pytest.raises(SnapshotReplacedError, match="lost a part"):
        writer.finish()
    assert journal.get_snapshot(pytest.fail) is None


def test_what_is_no_journal_is_refused(server: RedisServer) -> None:
    with pytest.raises(UnavailableError, match="does not exist"):
        RedisReader(server.address).position()
    server.command("SET", "{maze}:state", "something")
    with pytest.raises(JournalServerError, match="WRONGTYPE"):
        RedisJournal(server.address, START)
    server.command("DEL", "{maze}:state")
    server.command("XADD", "{maze}:batches", "1-1", "b", "")
    with pytest.raises(JournalServerError, match="damaged: it has batches, but no key"):
        RedisJournal(server.address, START)
    server.command("DEL", "{maze}:batches")
    journal = RedisJournal(server.address, START)
    server.command("HDEL", "{maze}:state", "epoch")
    with pytest.raises(JournalServerError, match="damaged: its state is not whole"):
        journal.position()
    server.command("HSET", "{maze}:state", "format", "2")
    with pytest.raises(JournalServerError, match=r"has format 2; this server has 1"):
        RedisJournal(server.address, START)


# Retention


def test_retention_removes_what_is_old_but_nothing_a_start_needs(server: RedisServer) -> None:
    seconds = count()
    journal = RedisJournal(
        server.address, START, retention=Retention(3.0, 10**9), clock=lambda: next(seconds)
    )
    fence = journal.lease()
    for number in range(1, 21):
        journal.append(events(number, number + 1), fence)
    assert journal.statistics().kept_from == START
    journal.put_snapshot(Position(1, 5), OTHER, [b"x"], fence)
    journal.put_snapshot(Position(1, 21), OTHER, [b"x"], fence)
    before = journal.statistics().used_bytes
    journal.append([], fence)
    assert journal.statistics().kept_from == Position(1, 5)
    journal.put_snapshot(Position(1, 21), OTHER, [b"x"], fence)
    journal.append([], fence)
    assert journal.statistics().kept_from == Position(1, 21)
    assert journal.statistics().used_bytes == 2  # the snapshots
    assert before > 20 * ENTRY_BYTES
    assert server.command("LLEN", "{maze}:marks") == b":0\r\n"


def test_retention_keeps_to_a_size_and_removes_a_bounded_part_with_each_append(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maze.journal.redis.MAX_REMOVED_SECTIONS", 3)
    seconds = count()
    journal = RedisJournal(
        server.address, START, retention=Retention(10**9, 500), clock=lambda: next(seconds)
    )
    fence = journal.lease()
    for number in range(1, 21):
        journal.append(events(number, number + 1), fence)
    for _ in range(2):
        journal.put_snapshot(Position(1, 21), OTHER, [], fence)
    kept_from = [journal.statistics().kept_from.next]
    for _ in range(8):
        journal.append([], fence)
        kept_from.append(journal.statistics().kept_from.next)
    assert max(b - a for a, b in pairwise(kept_from)) == 3
    assert kept_from[-1] == kept_from[-2]
    statistics = journal.statistics()
    assert 400 < statistics.used_bytes <= 500
    assert statistics.events == 21 - kept_from[-1]


def test_a_section_ends_at_a_size_too(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maze.journal.redis.SECTION_BYTES", 100)
    journal = RedisJournal(server.address, START, retention=Retention(1, 1), clock=lambda: 5.0)
    fence = journal.lease()
    for number in range(1, 11):
        journal.append(events(number, number + 1), fence)
    # One for the first append of the second, then one for each four of some 30 bytes.
    assert server.command("LLEN", "{maze}:marks") == b":3\r\n"


# A snapshot by a child process


def test_a_child_process_makes_a_snapshot_of_a_journal_in_redis(server: RedisServer) -> None:
    server.command("ACL", "SETUSER", "maze", "reset", "on", ">secret", "~*", "+@all")
    address = RedisAddress.parse(f"unix://maze:secret@{server.path}")
    journal = RedisJournal(address, START)
    fence = journal.lease()
    marks = Marks(1, 3, b"").encode()
    journal.append([Batch(1, 1, 3, b"1|F|1|2\n2|F|3|2\n", BOUNDS), Batch(1, 3, 3, b"")], fence)
    journal.append([Batch(1, 3, 4, b"3|B\n", None, marks)], fence)

    def submit(work: Work, on_done: Done) -> None:
        work()
        on_done(None)

    place = RedisPlace(address)
    taker = SnapshotTaker(place, journal, fence, submit=submit, report=pytest.fail)
    assert "secret" not in " ".join(taker._command)
    assert taker.run() is None
    assert taker.position == Position(1, 3)
    snapshot = journal.get_snapshot(pytest.fail)
    assert snapshot
    graph = FollowGraph()
    GraphState(graph, START).load(snapshot)
    assert (graph.users, graph.follows, snapshot.bounds) == (2, 2, BOUNDS)


@pytest.mark.parametrize(
    ("url", "sentinels"), [("redis://u:p@h:1/2", ""), ("unix:///s", ""), ("redis://m", "a,b:2")]
)
def test_a_place_is_handed_on_as_it_is(url: str, sentinels: str) -> None:
    place = RedisPlace(RedisAddress.parse(url, sentinels=sentinels), "other")
    again = RedisPlace.decode(place.encode())
    assert vars(again) == vars(place)


# Waiting


def test_a_reader_that_waits_gets_what_is_appended(
    journal: RedisJournal, server: RedisServer
) -> None:
    fence = journal.lease()
    reader = RedisReader(server.address)
    waiting = gevent.spawn(reader.wait, START, 30.0)
    until(lambda: b"cmd=xread" in server.command("CLIENT", "LIST"), "the reader to wait")
    journal.append(events(1, 3), fence)
    found = waiting.get(timeout=30.0)
    assert found
    assert found == events(1, 3)[: len(found)]
    assert reader.wait(Position(1, 3), 0.001) == []
    assert reader.wait(Position(1, 3), 0.0) == []
    assert reader.wait(Position(1, 2), 0.0) == events(2, 3)


def test_a_reader_that_waits_notices_what_the_stream_does_not_say(journal: RedisJournal) -> None:
    """XREAD passes over batches that were trimmed, and waits for ever behind the end."""
    fence = journal.lease()
    journal.append([Batch(1, 1, 5, b"")], fence)
    assert journal.wait(Position(1, 3), 30.0) == [Batch(1, 1, 5, b"")]
    with pytest.raises(AheadError):
        journal.wait(Position(1, 9), 0.001)
    with pytest.raises(OtherEpochError):
        journal.wait(Position(2, 1), 0.001)
    reset = Batch(2, 1, 1, b"")
    journal.append([reset], fence)
    assert journal.wait(Position(1, 5), 30.0) == [reset]
    with pytest.raises(OtherEpochError):  # of an end that Redis has lost
        journal.wait(Position(1, 9), 30.0)
    journal.append([Batch(2, 1, 2, b"")], fence)
    journal.trim(Position(2, 1), fence)
    with pytest.raises(TrimmedError):
        journal.wait(Position(1, 5), 30.0)


# Threads


def test_any_thread_and_any_greenlet_may_call(journal: RedisJournal, server: RedisServer) -> None:
    """A socket of gevent belongs to the thread of its hub."""
    fence = run_in_thread(journal.lease)
    for number in range(1, 20, 2):
        journal.append(events(number, number + 1), fence)
        run_in_thread(journal.append, events(number + 1, number + 2), fence)
    greenlets = [gevent.spawn(journal.read, START) for _ in range(5)]
    gevent.joinall(greenlets, timeout=30.0, raise_error=True)
    assert all(each.value == events(1, 21) for each in greenlets)
    assert run_in_thread(journal.read, START) == events(1, 21)


def test_connections_are_closed_in_the_end(server: RedisServer) -> None:
    before = connections(server)
    journal = RedisJournal(server.address, START)
    run_in_thread(journal.lease)
    assert connections(server) > before
    journal.close()
    until(lambda: connections(server) == before, "connections to be closed")
    assert journal.position() == START  # on a new one
    journal.close()


def connections(server: RedisServer) -> int:
    return server.command("CLIENT", "LIST").count(b"\nid=")
