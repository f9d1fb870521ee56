"""Resumes: a session is connected exactly where its replay ends, while events are routed."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest
from end_to_end.peers import PATIENCE, until
from structlog.testing import capture_logs

from maze.core import Decoder, FollowGraph, Payload, Position, Recent
from maze.journal.journal import Batch, TrimmedError, UnavailableError
from maze.journal.marks import Marks
from maze.journal.memory import MemoryJournal
from maze.net.time_slice import yield_to_event_loop
from maze.pipeline import resumes
from maze.pipeline.implementation import QueuedMemory
from maze.pipeline.journal_blocks import JournalBlocks
from maze.pipeline.resumes import ResumeOutcome, Resumes
from maze.settings.options import Settings

EPOCH = 7
MISSED = 20


class Client:
    """A session that comes back; it takes everything at once."""

    user = 1
    peer = "127.0.0.1:1"
    held_bytes = pushed_bytes = 0

    def __init__(self, position: Position) -> None:
        self.position = position
        self.got = b""

    def push(self, payload: Payload) -> None:
        self.got += b"".join(payload.parts)
        self.pushed_bytes += payload.size

    def on_error(self, error: Exception) -> None:
        raise error


class World:
    """Broadcasts are routed whenever the resumes let go of control, ``MISSED`` before they begin.

    With ``kept`` events in memory; the journal has all.
    """

    def __init__(self, kept: int) -> None:
        self.journal = MemoryJournal(Position(EPOCH, 1))
        self.fence = self.journal.lease()
        self.recent = Recent(kept, 2**20)
        self.recent.begin(1)
        self.connected: list[Client] = []
        self.missed: list[Client] = []
        self.epoch = EPOCH
        for _ in range(MISSED):
            self.route()
        self.resumes = Resumes(
            Settings(),
            self.recent,
            FollowGraph(10, 10, 10),
            QueuedMemory(),
            present=lambda: Position(self.epoch, self.recent.end),
            connect=self.connect,
            flush=lambda _: self.route(),
            pause=self.route,
        )
        self.resumes.blocks = JournalBlocks(self.journal, self.marks, self.recent, 2**20)

    def marks(self) -> list[Marks]:
        return [Marks(1, self.recent.end, b"")]

    def route(self) -> None:
        number = self.recent.end
        line = b"%d|B\n" % number
        self.journal.append([Batch(EPOCH, number, number + 1, line)], self.fence)
        runs, _ = Decoder(1_024).feed(line)
        self.recent.add(runs, number + 1)
        for client in self.connected:
            client.got += line

    def connect(self, session: Any, has_missed: bool) -> None:
        (self.missed if has_missed else self.connected).append(session)


@pytest.mark.parametrize("kept", [1_000, 5, 0])
def test_nothing_is_left_out_and_nothing_comes_twice_while_events_are_routed(kept: int) -> None:
    world = World(kept)
    client = Client(Position(EPOCH, 3))
    world.resumes.begin(cast("Any", client))
    until(lambda: world.connected, "the session to be connected")
    world.route()
    reached, *lines = client.got.splitlines(keepends=True)
    assert b"%d-3" % EPOCH in reached
    assert lines == [b"%d|B\n" % number for number in range(3, world.recent.end)]
    assert world.resumes.outcomes == {ResumeOutcome.RESUMED: 1}


def test_a_client_that_knows_the_new_epoch_before_its_turn_is_not_sent_to_the_beginning() -> None:
    world = World(kept=10)
    early, late = Client(Position(EPOCH, 3)), Client(Position(EPOCH + 1, 2))
    for client in (early, late):
        world.resumes.begin(cast("Any", client))
    world.epoch = EPOCH + 1
    world.resumes.begin_epoch()
    assert world.missed == [early]
    assert len(world.resumes) == 1  # the other one waits for its turn


def test_a_resume_waits_while_the_journal_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumes, "RETRY_SECONDS", 0.001)
    world = World(kept=0)
    tries: list[Position] = []
    read = world.journal.read

    def fail_twice(after: Position, max_bytes: int) -> list[Batch]:
        tries.append(after)
        if len(tries) <= 2:
            raise UnavailableError("it is away")
        return read(after, max_bytes)

    monkeypatch.setattr(world.journal, "read", fail_twice)
    client = Client(Position(EPOCH, 3))
    with capture_logs() as logged:
        world.resumes.begin(cast("Any", client))
        until(lambda: world.connected, "the session to be connected")
    assert client.got.startswith(b"=|7-3\n3|B\n4|B\n")
    assert [line["event"] for line in logged].count("resume_delayed") == 2


def test_a_withdrawn_client_is_left_alone_by_what_is_read_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may begin again, and then succeeds, although the former read fails."""
    world = World(kept=0)
    read, may_fail = world.journal.read, threading.Event()
    tries: list[Position] = []

    def fail_late(after: Position, max_bytes: int) -> list[Batch]:
        tries.append(after)
        if len(tries) == 1:
            assert may_fail.wait(PATIENCE)
            raise TrimmedError("it is gone")
        return read(after, max_bytes)

    monkeypatch.setattr(world.journal, "read", fail_late)
    client = cast("Any", Client(Position(EPOCH, 3)))
    world.resumes.begin(client)
    until(lambda: tries, "the first read")
    assert world.resumes.withdraw() == [client]
    assert len(world.resumes) == 0
    world.resumes.begin(client)
    may_fail.set()
    until(lambda: world.connected, "the session to be connected")
    assert client.got.startswith(b"=|7-3\n3|B\n4|B\n")
    assert world.resumes.outcomes == {ResumeOutcome.RESUMED: 1}
    assert not world.missed


def test_a_client_that_was_sent_something_has_missed_the_rest_when_it_is_withdrawn() -> None:
    world = World(kept=1_000)
    client = cast("Any", Client(Position(EPOCH, 3)))
    world.resumes.begin(client)
    client.pushed_bytes = 1
    assert world.resumes.withdraw() == []
    assert world.resumes.outcomes == {ResumeOutcome.MISSED: 1}
    for _ in range(10):
        yield_to_event_loop()
    assert not client.got
    assert not world.connected


@pytest.mark.parametrize("is_full", [False, True])
def test_a_client_that_was_withdrawn_and_comes_back_is_served_once(is_full: bool) -> None:
    world = World(kept=0)
    errors: list[Exception] = []
    client = cast("Any", Client(Position(EPOCH, 3)))
    client.on_error = errors.append
    turns = world.resumes.turns
    world.resumes.begin(client)
    if is_full:
        client.held_bytes = 2**40
        until(lambda: turns.full, "the session to wait until its client has taken something")
    assert world.resumes.withdraw() == [client]
    client.held_bytes = 0
    world.resumes.begin(client)
    world.resumes.on_progress(client)
    until(lambda: world.connected or errors, "the session to be connected")
    assert not errors
    assert world.connected == [client]
    assert turns.is_empty
