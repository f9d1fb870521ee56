"""What a reader of a journal in Redis notices, and how it waits."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from end_to_end.peers import until
from redis_server import RedisServer

from maze.core import Position
from maze.journal import redis_reader
from maze.journal.journal import (
    AheadError,
    Batch,
    Bounds,
    JournalServerError,
    OtherEpochError,
    TrimmedError,
    UnavailableError,
)
from maze.journal.redis import RedisJournal
from maze.journal.redis_entries import Entry, decode_entry, encode_entry
from maze.journal.redis_reader import RedisReader
from maze.net.native_thread import run_in_thread

from .files import START, append_apart, events

OTHER = Bounds(1, 2, 3)


def test_damage_is_told(journal: RedisJournal, server: RedisServer) -> None:
    fence = journal.lease()
    append_apart(journal, events(1, 4), fence)
    server.command("XDEL", "{maze}:batches", "1-3")
    with pytest.raises(JournalServerError, match=r"damaged: no batch after 1-2; the next is 1-3"):
        journal.read(START)
    with pytest.raises(JournalServerError, match=r"damaged: no batch after 1-2; the next is 1-3"):
        journal.read(Position(1, 2))
    assert journal.read(Position(1, 3)) == events(3, 4)
    server.command("XDEL", "{maze}:batches", "1-4")
    with pytest.raises(JournalServerError, match="no batch after 1-3; there is no other"):
        journal.read(Position(1, 3))
    server.command("XADD", "{maze}:batches", "1-5", "b", "something else")
    with pytest.raises(JournalServerError, match="the checksum of batch 1-5 is wrong"):
        journal.read(Position(1, 4))
    with pytest.raises(JournalServerError, match="it has an entry without a head"):
        journal.append(events(4, 5), fence)


def test_a_batch_that_is_missing_before_an_epoch_is_noticed(
    journal: RedisJournal, server: RedisServer
) -> None:
    """A batch that begins an epoch says itself what it follows."""
    fence = journal.lease()
    append_apart(journal, [*events(1, 3), Batch(2, 1, 1, b"")], fence)
    server.command("XDEL", "{maze}:batches", "1-3")
    with pytest.raises(JournalServerError, match="no batch after 1-2; the next is 2-1"):
        journal.read(START)
    with pytest.raises(JournalServerError, match="no batch after 1-2; the next is 2-1"):
        journal.wait(Position(1, 2), 30.0)


def test_an_entry_of_another_program_does_not_pass_for_the_end(
    journal: RedisJournal, server: RedisServer
) -> None:
    fence = journal.lease()
    journal.append(events(1, 2), fence)
    value = encode_entry(events(2, 3), Position(1, 2), 0, 0).decode("latin-1")
    server.command("XADD", "{maze}:batches", "1-9", "b", value)
    with pytest.raises(JournalServerError, match="the checksum of batch 1-9 is wrong"):
        journal.read(Position(1, 2))
    with pytest.raises(Exception, match="continues at 1-9"):
        journal.append(events(10, 11), fence)


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


def test_what_is_no_journal_is_refused(server: RedisServer) -> None:
    with pytest.raises(UnavailableError, match="does not exist"):
        RedisReader(server.address).position()
    server.command("SET", "{maze}:batches", "something")
    with pytest.raises(JournalServerError, match="WRONGTYPE"):
        RedisJournal(server.address, START)
    server.command("DEL", "{maze}:batches")
    server.command("XADD", "{maze}:batches", "1-1", "b", "")
    for opens in (
        lambda: RedisJournal(server.address, START),
        RedisReader(server.address).position,
    ):
        with pytest.raises(JournalServerError, match="damaged: it has batches, but no key"):
            opens()
    server.command("DEL", "{maze}:batches")
    RedisJournal(server.address, START)
    server.command("DEL", "{maze}:batches")
    for opens in (
        lambda: RedisJournal(server.address, START),
        RedisReader(server.address).position,
    ):
        with pytest.raises(JournalServerError, match="damaged: its batches are gone"):
            opens()
    server.command("DEL", "{maze}:origin")
    RedisJournal(server.address, START)
    server.command("SET", "{maze}:origin", "2 1-1")
    with pytest.raises(JournalServerError, match=r"has format 2; this server has 1"):
        RedisJournal(server.address, START)


def test_a_journal_that_was_created_in_part_is_completed(server: RedisServer) -> None:
    """The writer may end between the two steps."""
    RedisJournal(server.address, Position(5, 7))
    server.command("DEL", "{maze}:origin")
    journal = RedisJournal(server.address, START)
    assert journal.position() == journal.kept_from() == Position(5, 7)
    assert journal.get_snapshot(pytest.fail) is None


def test_figures_while_an_epoch_is_trimmed(
    journal: RedisJournal, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fence = journal.lease()
    journal.append(events(1, 5), fence)
    journal.append([Batch(2, 1, 1, b""), Batch(2, 1, 4, b"1|B\n2|B\n3|B\n")], fence)
    reader = RedisReader(server.address)
    assert reader.statistics().events == 4 + 3
    call = reader._client.call

    def trimming(*command: str | int) -> Any:
        if command[0] == "XREVRANGE":
            journal.trim(Position(1, 5), fence)
        return call(*command)

    monkeypatch.setattr(reader._client, "call", trimming)
    assert reader.statistics().events == 3


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
    assert found == events(1, 3)
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


def test_large_entries_after_small_ones_are_not_all_fetched_and_decoded(
    journal: RedisJournal, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fence = journal.lease()
    small, large = 40, 20
    for batch in events(1, 1 + small):
        journal.append([batch], fence)
    line = b"7|%s\n" % (b"0" * 300_000)
    for first in range(1 + small, 1 + small + large):
        journal.append([Batch(1, first, first + 1, line)], fence)
    reader = RedisReader(server.address)
    fetched: list[int] = []
    decoded: list[Entry] = []

    def decode(stored: Any) -> Entry:
        decoded.append(decode_entry(stored))
        return decoded[-1]

    call = reader._client.call

    def counting(*command: str | int) -> Any:
        fetched.append(int(command[command.index("COUNT") + 1]))
        return call(*command)

    monkeypatch.setattr(redis_reader, "decode_entry", decode)
    monkeypatch.setattr(reader._client, "call", counting)
    position, before = START, 8
    while position < Position(1, 1 + small + large):
        decoded.clear()
        batches = reader.wait(position, 5.0, 10**6)
        assert fetched[-1] <= min(2 * before, 16)
        assert len(decoded) <= len(batches) + 1
        position, before = batches[-1].position, len(decoded)
    assert max(fetched) == 16
    assert fetched[-1] < 6


def test_any_thread_and_any_greenlet_may_call(journal: RedisJournal, server: RedisServer) -> None:
    """A socket of gevent belongs to the thread of its hub."""
    fence = run_in_thread(journal.lease)
    for number in range(1, 16, 2):
        journal.append(events(number, number + 1), fence)
        run_in_thread(journal.append, events(number + 1, number + 2), fence)
    greenlets = [gevent.spawn(journal.read, START) for _ in range(5)]
    gevent.joinall(greenlets, timeout=30.0, raise_error=True)
    assert all(each.value == events(1, 17) for each in greenlets)
    assert run_in_thread(journal.read, START) == events(1, 17)


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
