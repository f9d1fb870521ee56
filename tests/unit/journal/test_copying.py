"""A journal's file, copied to Redis: everything is there as it was."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from redis_server import RedisServer

from maze.core import FollowGraph, Position
from maze.journal import copying
from maze.journal.__main__ import main
from maze.journal.journal import Batch, Bounds, NoSnapshotError, UnavailableError
from maze.journal.reader import SQLiteReader
from maze.journal.redis import RedisJournal
from maze.journal.redis_reader import RedisReader
from maze.journal.sqlite import SQLiteJournal
from maze.journal.state import GraphState, graph_chunks

from .files import START, events, filled

BOUNDS = Bounds(100, 1_000, 100)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "journal")


@pytest.fixture
def url(server: RedisServer) -> str:
    server.command("CONFIG", "SET", "appendfsync", "always")  # nothing to wait for in the end
    return f"unix://{server.path}"


@pytest.fixture
def copied(server: RedisServer) -> Iterator[RedisReader]:
    with closing(RedisReader(server.address)) as reader:
        yield reader


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command; return its exit status, its output and what it says on stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return run


def batches_of(reader: SQLiteReader | RedisReader) -> list[Batch]:
    found: list[Batch] = []
    after = reader.kept_from()
    while batches := reader.read(after, 2**20):
        found += batches
        after = batches[-1].position
    return found


def written(path: str, seed: int) -> None:
    """Write a file as a server does: with epochs, gaps, bounds, marks, snapshots and trimming."""
    chooser = random.Random(seed)
    position, snapshots = START, 0
    graph = FollowGraph()
    state = GraphState(graph, START)
    with closing(SQLiteJournal(path, START, synchronous="OFF")) as journal:
        fence = journal.lease()
        for _ in range(chooser.randrange(1, 40)):
            epoch, first = position
            if chooser.random() < 0.1:
                batch = Batch(epoch + 1, first := chooser.randrange(3), first, b"")
            else:
                end = first + chooser.randrange(1, 30)
                numbers = [number for number in range(first, end) if chooser.random() < 0.9]
                body = b"".join(
                    b"%d|%c|%d|%d\n"
                    % (number, chooser.choice(b"FFU"), *chooser.sample(range(9), 2))
                    for number in numbers
                )
                bounds = chooser.choice([None, None, BOUNDS])
                batch = Batch(epoch, first, end, body, bounds, chooser.choice([b"", b"marks"]))
            position = journal.append([batch], fence)
            state.apply(batch)
            if chooser.random() < 0.2:
                journal.put_snapshot(position, state.bounds, graph_chunks(graph), fence)
                snapshots += 1
                if snapshots > 1 and chooser.random() < 0.7:
                    journal.trim(position, fence)


def trimmed(path: str) -> None:
    """Write a file that begins at a snapshot and has another one."""
    with closing(SQLiteJournal(path, START)) as journal:
        fence = journal.lease()
        journal.append(events(1, 10), fence)
        for end in (3, 5):
            journal.put_snapshot(Position(1, end), BOUNDS, [b"one", b"two"], fence)
        journal.trim(Position(1, 3), fence)


@pytest.mark.parametrize("seed", range(30))
def test_a_copy_has_everything(
    path: str, url: str, run: Run, copied: RedisReader, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "READ_BYTES", 1_000)
    written(path, seed)
    status, out, errors = run("copy", path, url)
    assert (status, errors) == (0, "")
    with closing(SQLiteReader(path)) as original:
        assert copied.kept_from() == original.kept_from()
        assert copied.position() == original.position()
        assert batches_of(copied) == batches_of(original)
        assert copied.get_snapshot(pytest.fail) == original.get_snapshot(pytest.fail)
    assert "{}-{}".format(*copied.position()) in out
    assert run("check", url)[0] == 0


def test_a_copy_without_its_snapshot_does_not_begin_with_an_empty_graph(
    path: str, url: str, run: Run, server: RedisServer, copied: RedisReader
) -> None:
    trimmed(path)
    assert run("copy", path, url)[0] == 0
    server.command("DEL", "{maze}:snapshots")
    with pytest.raises(NoSnapshotError):
        copied.get_snapshot(pytest.fail)


def test_a_copy_that_was_cut_off_is_completed_when_it_is_repeated(
    path: str, url: str, run: Run, copied: RedisReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    trimmed(path)
    monkeypatch.setattr(copying, "READ_BYTES", 1)
    calls = []

    def append(self: RedisJournal, batches: list[Batch], fence: int) -> Position:
        calls.append(batches)
        if len(calls) == 5:
            raise UnavailableError("it was cut off")
        return whole(self, batches, fence)

    whole = RedisJournal.append
    with monkeypatch.context() as patched:
        patched.setattr(RedisJournal, "append", append)
        status, _, errors = run("copy", path, url)
    assert status == 1
    assert errors == (
        "maze.journal: it was cut off; the copy is not complete: repeat the command before a "
        "server uses it\n"
    )
    for _ in range(2):
        assert run("copy", path, url)[0] == 0
    with closing(SQLiteReader(path)) as original:
        assert batches_of(copied) == batches_of(original)
        assert copied.get_snapshot(pytest.fail) == original.get_snapshot(pytest.fail)
    assert len(copied.overview().snapshots) == 1


def test_another_journal_is_never_continued(
    path: str, url: str, run: Run, server: RedisServer, tmp_path: Path
) -> None:
    filled(path)
    for epoch, count in ((1, 4), (2, 0)):  # ahead of the file, or of another time
        server.command("FLUSHALL")
        with closing(RedisJournal(server.address, Position(epoch, 1))) as journal:
            journal.append(events(1, count + 1), journal.lease())
        said = f"maze.journal: the journal 'maze' in {url} is not a copy of this file: "
        status, _, errors = run("copy", path, url)
        assert status == 1
        assert errors.startswith(said)
    assert run("copy", path, url, "--name", "new")[0] == 0


def test_nothing_is_copied_while_a_server_writes(
    path: str, url: str, run: Run, server: RedisServer
) -> None:
    filled(path)
    with closing(SQLiteJournal(path, START)):
        status, _, errors = run("copy", path, url)
        assert (status, errors) == (1, f"maze.journal: {path}: another process has it open\n")
    with closing(RedisJournal(server.address, START)) as journal:
        fence = journal.try_lease("server", 60.0)
        assert fence
        status, _, errors = run("copy", path, url)
        assert (status, errors.count("\n")) == (1, 1)
        assert "another process writes it" in errors
        journal.renew_lease(fence, 60.0)  # it is not fenced


def test_a_server_may_take_the_lease_at_once(
    path: str, url: str, run: Run, server: RedisServer
) -> None:
    filled(path)
    assert run("copy", path, url)[0] == 0
    with closing(RedisJournal(server.address, START)) as journal:
        assert journal.try_lease("server", 60.0)


def test_events_that_redis_has_lost_meanwhile_are_noticed(
    path: str, url: str, run: Run, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(path)

    def lose(seconds: float) -> None:
        server.command("XDEL", "{maze}:batches", "1-4")
        server.command("XSETID", "{maze}:batches", "1-2")

    server.command("CONFIG", "SET", "appendfsync", "everysec")
    monkeypatch.setattr(copying, "sleep", lose)
    status, _, errors = run("copy", path, url)
    assert status == 1
    assert "repeat the command" in errors


@pytest.mark.parametrize("place", ["other", "redis://"])
def test_the_copy_is_in_redis(path: str, run: Run, place: str) -> None:
    filled(path)
    with pytest.raises(SystemExit) as ended:
        run("copy", path, place)
    assert ended.value.code == 2


def test_a_file_that_is_not_there_is_one_line(path: str, url: str, run: Run) -> None:
    status, _, errors = run("copy", path, url)
    assert (status, errors.count("\n")) == (1, 1)
    assert path in errors
    assert not Path(f"{path}.lock").exists()
