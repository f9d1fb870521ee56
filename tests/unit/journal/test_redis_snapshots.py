"""Snapshots in Redis."""

from __future__ import annotations

import pytest
from redis_server import RedisServer

from maze.core import FollowGraph, Position
from maze.journal.group_commit import Done, Work
from maze.journal.journal import Batch, Bounds, FencedError, SnapshotReplacedError
from maze.journal.marks import Marks
from maze.journal.places import RedisPlace
from maze.journal.redis import RedisJournal
from maze.journal.redis_address import RedisAddress
from maze.journal.redis_reader import RedisReader
from maze.journal.snapshots import SnapshotTaker
from maze.journal.state import GraphState

from .files import START, events

OTHER = Bounds(1, 2, 3)
BOUNDS = Bounds(10, 20, 30)


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


def test_chunks_that_a_writer_left_are_removed(journal: RedisJournal, server: RedisServer) -> None:
    """It ended before its snapshot was finished, or before it removed those that were replaced."""
    fence = journal.lease()
    journal.put_snapshot(START, OTHER, [b"1"], fence)
    journal.begin_snapshot(START, OTHER, fence).add(b"2")
    server.command("RPUSH", "{maze}:snapshot:4", "what a crash has left")
    fence = journal.lease()
    journal.begin_snapshot(START, OTHER, fence).add(b"3")
    journal.begin_snapshot(START, OTHER, fence).add(b"4")
    keys = server.command("KEYS", "{maze}:snapshot:*").split(b"\r\n")[2::2]
    assert sorted(keys) == [b"{maze}:snapshot:1", b"{maze}:snapshot:4"]
    assert server.command("LLEN", "{maze}:snapshot:4") == b":1\r\n"


def test_a_writer_that_has_lost_the_lease_changes_no_snapshot(server: RedisServer) -> None:
    first, second = (RedisJournal(server.address, START) for _ in range(2))
    fence = first.lease()
    writer = first.begin_snapshot(START, OTHER, fence)
    writer.add(b"first's")
    taken = second.lease()
    with pytest.raises(FencedError):
        writer.add(b"more")
    with pytest.raises(FencedError):
        writer.finish()
    second.put_snapshot(START, OTHER, [b"second's"], taken)
    with pytest.raises(FencedError):
        writer.finish()
    with pytest.raises(FencedError):
        first.begin_snapshot(START, OTHER, fence)
    found = second.get_snapshot(pytest.fail)
    assert found
    assert found.chunks == [b"second's"]


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
