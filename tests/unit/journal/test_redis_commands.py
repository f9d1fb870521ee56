"""The commands of ``python -m maze.journal`` for a journal in Redis."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing

import pytest
from redis_server import RedisServer

from maze.core import Position
from maze.journal.__main__ import main
from maze.journal.journal import Batch, Bounds
from maze.journal.redis import RedisJournal

from .files import START, append_apart, events

Run = Callable[..., tuple[int, bytes, str]]


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Run a command; return its exit status, its output and what it says on stderr."""

    def run(*arguments: str) -> tuple[int, bytes, str]:
        status = main(arguments)
        captured = capfdbinary.readouterr()
        return status, captured.out, captured.err.decode()

    return run


@pytest.fixture
def url(server: RedisServer) -> str:
    """The URL of a server with a journal of two epochs and a snapshot."""
    with closing(RedisJournal(server.address, START, clock=lambda: 86_400.0)) as journal:
        fence = journal.lease()
        batches = [*events(1, 4), Batch(2, 7, 7, b""), Batch(2, 7, 9, b"7|B\n8|B\n")]
        append_apart(journal, batches, fence)
        journal.put_snapshot(Position(1, 3), Bounds(1, 1, 1), [b"one", b"two"], fence)
    return f"unix://{server.path}"


def test_info_shows_what_there_is(url: str, run: Run) -> None:
    status, out, errors = run("info", url)
    assert (status, errors) == (0, "")
    rows = dict(line.split(maxsplit=1) for line in out.decode().splitlines() if line[0] != " ")
    assert rows | {"bytes": ""} == {
        "format": "1",
        "epoch": "2",
        "first": "1-1",
        "position": "2-9",
        "batches": "5",
        "events": "5",
        "oldest": "1970-01-02 00:00:00 UTC",
        "newest": "1970-01-02 00:00:00 UTC",
        "bytes": "",
        "snapshots": "1",
    }
    assert rows["bytes"].startswith("about ")
    assert b"1-3, 1970-01-02 00:00:00 UTC, 6 bytes" in out


def test_check_finds_no_faults(url: str, run: Run) -> None:
    assert run(url, "check") == (0, b"no faults (batches: 5, snapshots: 1)\n", "")


def test_check_finds_every_fault(url: str, run: Run, server: RedisServer) -> None:
    server.command("XDEL", "{maze}:batches", "1-3")
    server.command("XADD", "{maze}:batches", "2-10", "b", "else")
    server.command("LSET", "{maze}:snapshot:1", "0", "else")
    server.command("RPUSH", "{maze}:snapshot:1", "more")
    server.command("HSET", "{maze}:snapshots", "9", "else")
    status, out, _ = run("check", url)
    assert status == 1
    assert out.decode().splitlines() == [
        "no batch after 1-2; the next is 1-3",
        "the checksum of batch 2-10 is wrong",
        "the checksum of snapshot number 9 is wrong",
        "the checksum of chunk 0 of snapshot 1-3 is wrong",
        "chunk 2 of snapshot 1-3 is one too many",
    ]
    server.command("LTRIM", "{maze}:snapshot:1", "1", "1")
    assert b"chunk 1 of snapshot 1-3 is missing" in run("check", url)[1]


def test_dump_writes_the_present_epoch(url: str, run: Run) -> None:
    assert run("dump", url) == (0, b"7|B\n8|B\n", "")
    assert run("dump", url, "--from", "8") == (0, b"8|B\n", "")
    status, out, errors = run("dump", url, "--from", "6")
    assert (status, out) == (1, b"")
    assert errors == "maze.journal: the present epoch is kept from number 7 on\n"


@pytest.mark.parametrize("command", ["compact", "reset", "import-follows"])
def test_other_commands_are_refused_in_one_line(url: str, run: Run, command: str) -> None:
    more = ["follows.csv"] if command == "import-follows" else []
    said = f"maze.journal: {command} is for a journal in a file, not in Redis\n"
    assert run(command, url, *more) == (1, b"", said)


def test_another_name_is_another_journal(url: str, run: Run) -> None:
    said = f"maze.journal: the journal 'other' in {url} does not exist\n"
    assert run("info", url, "--name", "other") == (1, b"", said)


def test_a_password_may_come_from_the_environment(
    url: str, run: Run, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.command(
        "ACL", "SETUSER", "reading", "on", ">secret", "~*", "+@read", "+eval", "+evalsha"
    )
    url = url.replace("unix://", "unix://reading@")
    assert run("dump", url)[0] == 1
    monkeypatch.setenv("MAZE_JOURNAL_PASSWORD", "secret")
    assert run("dump", url) == (0, b"7|B\n8|B\n", "")


def test_a_wrong_url_is_wrong_usage(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(["info", "redis://host/database"])
    assert error.value.code == 2
    assert "the database in a Redis URL is a number" in capfd.readouterr().err


def test_without_redis_py_one_line_says_so(
    url: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "maze.journal.redis_reader", None)
    status, out, errors = run("info", url)
    assert (status, out) == (1, b"")
    assert errors.count("\n") == 1
    assert "is not installed for" in errors
