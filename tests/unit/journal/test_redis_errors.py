"""What a Redis server refuses, how long it may be silent, and what it has to be."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import cast

import gevent
import pytest
from end_to_end.certificates import Authority
from end_to_end.peers import PATIENCE, until
from redis_server import RedisServer, free_port, running

from maze.core import Position
from maze.journal.journal import Batch, Bounds, JournalError, JournalServerError, UnavailableError
from maze.journal.redis import RedisJournal
from maze.journal.redis_address import RedisAddress
from maze.journal.redis_checks import check_server, safe_seconds
from maze.journal.redis_connection import RedisClient
from maze.journal.redis_errors import COMMANDS
from maze.journal.redis_reader import RedisReader
from maze.journal.retention import Retention
from maze.net.native_thread import run_in_thread

from .files import START, events

SECONDS = 0.2
"""How long Redis may be silent in these tests."""


@pytest.fixture
def configured(server: RedisServer) -> Iterator[RedisServer]:
    """The module's server; settings that a test changes are set back."""
    names = ("maxmemory", "min-replicas-to-write", "maxmemory-policy", "appendonly")
    before = {name: server.command("CONFIG", "GET", name).split(b"\r\n")[-2] for name in names}
    yield server
    server.command("REPLICAOF", "NO", "ONE")
    for name, value in before.items():
        assert server.command("CONFIG", "SET", name, value.decode()) == b"+OK\r\n"


def as_user(server: RedisServer, *rules: str) -> RedisAddress:
    """Return the address for a user that has some permissions."""
    set_user = ("ACL", "SETUSER", "user", "reset", "on", ">secret", "~{maze}:*", *rules)
    assert server.command(*set_user) == b"+OK\r\n"
    return RedisAddress.parse(f"unix://user:secret@{server.path}")


def said(error: pytest.ExceptionInfo[JournalError]) -> str:
    """Return the message, which is one line and has no password."""
    text = str(error.value)
    assert len(text.splitlines()) == 1
    assert "secret" not in text
    return text


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("CONFIG", "SET", "maxmemory", "1"), "OOM command not allowed"),
        (("CONFIG", "SET", "min-replicas-to-write", "1"), "NOREPLICAS Not enough good replicas"),
        (("REPLICAOF", "127.0.0.1", "1"), "READONLY You can't write against a read only replica"),
    ],
)
def test_what_may_pass_is_an_unavailable_journal(
    configured: RedisServer, command: tuple[str, ...], message: str
) -> None:
    journal = RedisJournal(configured.address, START)
    fence = journal.lease()
    assert configured.command(*command) == b"+OK\r\n"
    with pytest.raises(UnavailableError) as error:
        journal.append(events(1, 2), fence)
    assert said(error).startswith(f"unix://{configured.path} refuses at present: {message}")
    assert "script" not in said(error)
    with pytest.raises(UnavailableError, match=message):
        journal.append([], fence)  # else a tail would be dropped that Redis may still lose
    if command[0] == "CONFIG":
        configured.command("CONFIG", "SET", command[2], "0")
    else:
        configured.command("REPLICAOF", "NO", "ONE")
    assert journal.append(events(1, 2), fence) == Position(1, 2)


def test_a_memory_that_is_full_does_not_keep_what_is_old(configured: RedisServer) -> None:
    """An append that is refused makes room for itself, as far as retention goes."""
    seconds = count()
    journal = RedisJournal(
        configured.address, START, retention=Retention(0, 10**9), clock=lambda: next(seconds)
    )
    fence = journal.lease()
    journal.append(events(1, 5), fence)
    for _ in range(2):
        journal.put_snapshot(Position(1, 5), Bounds(1, 1, 1), [], fence)
    configured.command("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(UnavailableError, match="OOM"):
        journal.append(events(5, 6), fence)
    assert journal.read(Position(1, 5)) == []
    assert journal.get_snapshot(pytest.fail)
    assert journal.statistics().kept_from == Position(1, 5)


def test_a_writer_can_begin_while_the_memory_is_full(configured: RedisServer) -> None:
    """Else nobody could make room after a restart."""
    before = RedisJournal(configured.address, START)
    fence = before.lease()
    before.append(events(1, 5), fence)
    for _ in range(2):
        before.put_snapshot(Position(1, 5), Bounds(1, 1, 1), [], fence)
    configured.command("CONFIG", "SET", "maxmemory", "1")
    journal = RedisJournal(configured.address, START, retention=Retention(-1, 10**9))
    taken = journal.try_lease("another", 60.0)
    assert taken
    journal.renew_lease(taken, 60.0)
    configured.command("DEL", "{maze}:lease")
    journal.renew_lease(taken, 60.0)
    with pytest.raises(UnavailableError, match="OOM"):
        journal.append(events(5, 6), taken)
    assert journal.kept_from() == Position(1, 5)
    journal.release_lease(taken)
    configured.command("CONFIG", "SET", "maxmemory", "0")


def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    for url, reason in (
        (f"unix://{tmp_path}/socket", "No such file or directory"),
        (f"redis://127.0.0.1:{free_port()}", "Connection refused"),
    ):
        with pytest.raises(UnavailableError) as error:
            RedisReader(RedisAddress.parse(url)).position()
        assert said(error) == f"cannot reach {url}: {reason}"


def test_a_server_that_ends_and_comes_back_is_found_again() -> None:
    with running() as server:
        journal = RedisJournal(server.address, START)
        fence = journal.lease()
        server.kill()
        with pytest.raises(UnavailableError, match="cannot reach"):
            journal.append(events(1, 2), fence)
        server.start()
        assert journal.append(events(1, 2), fence) == Position(1, 2)
        # An idle connection to a server that has restarted is no error.
        server.kill()
        server.start()
        assert journal.append(events(2, 3), fence) == Position(1, 3)


def test_a_wrong_password_is_told_and_not_shown(server: RedisServer) -> None:
    as_user(server, "+@all")
    for login in ("user:wrongsecret", "nobody:secret"):
        with pytest.raises(
            JournalServerError, match="refuses user or password: WRONGPASS"
        ) as error:
            RedisReader(RedisAddress.parse(f"unix://{login}@{server.path}")).position()
        said(error)


def test_a_password_that_is_missing_is_told(configured: RedisServer) -> None:
    configured.command("CONFIG", "SET", "requirepass", "secret")
    address = RedisAddress.parse(f"unix://:secret@{configured.path}")
    try:
        with pytest.raises(JournalServerError, match="refuses user or password: NOAUTH"):
            RedisReader(configured.address).position()
        assert RedisJournal(address, START).position() == START
    finally:
        RedisClient(address, 1.0).call("CONFIG", "SET", "requirepass", "")


def test_a_permission_that_is_missing_is_named(server: RedisServer) -> None:
    address = as_user(server, "+@all", "-info")
    with pytest.raises(JournalServerError, match="to run the 'info' command") as error:
        RedisJournal(address, START)
    said(error)
    address = as_user(server, "+@all", "-xadd")
    with pytest.raises(JournalServerError, match=f"The user needs these commands: {COMMANDS}"):
        RedisJournal(address, START)


def test_the_commands_that_are_named_are_enough_and_all_are_needed(server: RedisServer) -> None:
    names = COMMANDS.split()
    live(as_user(server, *(f"+{name}" for name in names)))
    for missing in names:
        server.command("FLUSHALL")
        server.command("SCRIPT", "FLUSH")
        address = as_user(server, *(f"+{name}" for name in names if name != missing))
        with pytest.raises(JournalServerError, match="lacks a permission"):
            live(address)


def live(address: RedisAddress) -> None:
    """Do with a journal all that can be done."""
    journal = RedisJournal(address, START, retention=Retention(-1, 10**9))
    journal.lease()
    fence = journal.try_lease("owner", 60.0)
    assert fence
    journal.renew_lease(fence, 60.0)
    RedisClient(address, 1.0)
    journal.append([*events(1, 5), Batch(2, 1, 1, b"")], fence)
    journal.begin_snapshot(START, Bounds(1, 1, 1), fence)
    for _ in range(3):
        journal.put_snapshot(Position(1, 5), Bounds(1, 1, 1), [b"chunk"], fence)
    journal.statistics()
    journal.overview()
    journal.epoch_begin()
    journal.read(START)
    journal.wait(Position(2, 1), 0.001)
    journal.get_snapshot(pytest.fail)
    journal.append([], fence)
    journal.trim(Position(1, 5), fence)
    journal.release_lease(fence)


# A server that stands still


@pytest.fixture
def stopped() -> Iterator[tuple[RedisServer, RedisJournal, int]]:
    """A server that is stopped while it has a journal, and a journal with little patience."""
    with running() as server:
        journal = RedisJournal(server.address, START)
        fence = journal.lease()
        journal.append([], fence)  # so that Redis knows the script
        journal.close()
        journal._client.timeout = SECONDS
        server.signal(signal.SIGSTOP)
        yield server, journal, fence
        server.signal(signal.SIGCONT)


def test_the_event_loop_runs_while_redis_does_not_answer(
    stopped: tuple[RedisServer, RedisJournal, int],
) -> None:
    server, journal, fence = stopped
    turns: list[int] = []

    def turn() -> None:
        while True:
            turns.append(1)
            gevent.sleep(0.001)

    others = gevent.spawn(turn)
    for call in (
        lambda: journal.append(events(1, 2), fence),
        lambda: journal.read(START),
        lambda: journal.wait(START, 60.0),
        journal.position,
    ):
        before = len(turns)
        with pytest.raises(UnavailableError, match="does not answer"):
            call()
        assert len(turns) > before + 1
    others.kill()
    server.signal(signal.SIGCONT)
    journal._client.timeout = PATIENCE
    # The append was received, and is done now: it is not done twice.
    until(lambda: journal.position() == Position(1, 2), "the append")
    assert journal.append(events(1, 2), fence) == Position(1, 2)


def test_a_native_thread_waits_no_longer_either(
    stopped: tuple[RedisServer, RedisJournal, int],
) -> None:
    _, journal, fence = stopped
    with pytest.raises(UnavailableError, match="does not answer"):
        run_in_thread(journal.append, events(1, 2), fence)
    errors: list[Exception] = []

    def call() -> None:
        try:
            journal.wait(START, 60.0)
        except UnavailableError as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join(30.0)
    assert len(errors) == 1


def test_a_greenlet_that_is_killed_while_it_waits_leaves_nothing_behind(
    server: RedisServer,
) -> None:
    journal = RedisJournal(server.address, START)
    waiting = gevent.spawn(journal.wait, START, 60.0)
    until(lambda: b"cmd=xread" in server.command("CLIENT", "LIST"), "the reader to wait")
    waiting.kill(timeout=30.0)
    assert waiting.dead
    until(lambda: b"cmd=xread" not in server.command("CLIENT", "LIST"), "the connection to end")
    assert journal.position() == START


# Checks


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([("appendonly", "no")], "keeps nothing on its disk: set appendonly to yes"),
        (
            [("maxmemory-policy", "allkeys-lru"), ("maxmemory", "1gb")],
            "removes keys when its memory is full (maxmemory-policy allkeys-lru): "
            "set maxmemory-policy to noeviction",
        ),
    ],
)
def test_a_server_that_would_lose_batches_is_refused(
    configured: RedisServer, settings: list[tuple[str, str]], message: str
) -> None:
    for name, value in settings:
        configured.command("CONFIG", "SET", name, value)
    with pytest.raises(JournalServerError) as error:
        RedisJournal(configured.address, START)
    assert said(error) == f"unix://{configured.path} {message}"
    assert configured.command("DBSIZE") == b":0\r\n"


def test_eviction_without_a_limit_is_no_eviction(configured: RedisServer) -> None:
    configured.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    RedisJournal(configured.address, START)


def test_how_long_an_append_may_be_lost_depends_on_the_server() -> None:
    with running() as server:
        journal = RedisJournal(server.address, START)
        for policy, seconds in (("always", 0.0), ("everysec", 2.0), ("no", 60.0)):
            server.command("CONFIG", "SET", "appendfsync", policy)
            assert journal.safe_seconds() == seconds
        address = as_user(server, *(f"+{name}" for name in COMMANDS.split()))
        assert RedisJournal(address, START).safe_seconds() == 2.0
        server.command("CONFIG", "SET", "appendfsync", "always")
        server.command("CONFIG", "SET", "min-replicas-to-write", "1")
        server.command("CONFIG", "SET", "min-replicas-max-lag", "5")
        assert journal.safe_seconds() == 7.0
        server.command("CONFIG", "SET", "min-replicas-max-lag", "0")  # switches the check off
        assert journal.safe_seconds() == 0.0
        server.command("CONFIG", "SET", "min-replicas-max-lag", "10")
        assert RedisJournal(address, START).safe_seconds() == 12.0
        server.command("CONFIG", "SET", "min-replicas-to-write", "0")
        with running() as replica:
            port = free_port()
            server.command("CONFIG", "SET", "port", str(port))
            replica.command("REPLICAOF", "127.0.0.1", str(port))
            until(lambda: b"slave0:" in server.command("INFO", "replication"), "the replica")
            assert journal.safe_seconds() == 2.0


def test_an_append_may_be_lost_where_sentinels_choose_the_master(server: RedisServer) -> None:
    """Even if no replica is connected at present."""
    client = RedisClient(server.address, 5.0)
    settings = {b"appendfsync": b"always"}
    assert safe_seconds(client, settings) == 0.0
    client.address = RedisAddress.parse("redis://maze", sentinels="a.example")
    assert safe_seconds(client, settings) == 2.0


class Pretending:
    """A server that says what a test wants it to say."""

    address = "redis://old"

    def __init__(self, version: str) -> None:
        self._version = version

    def call(self, *command: str) -> bytes:
        assert command == ("INFO",)
        return b"# Server\r\nredis_version:%s\r\n\r\naof_enabled:1\r\n" % self._version.encode()


@pytest.mark.parametrize(
    ("version", "is_refused"),
    [("5.0.7", True), ("6.2.14", True), ("7.0.0", False), ("7.0.15", False), ("10.0.1", False)],
)
def test_an_old_server_is_refused(version: str, is_refused: bool) -> None:
    client = cast(RedisClient, Pretending(version))
    if not is_refused:
        check_server(client)
        return
    with pytest.raises(JournalServerError, match=f"redis://old is Redis {version}: 7.0 or later"):
        check_server(client)


# TLS


def test_tls_with_certificates_of_both_ends(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, client = authority.issue(address="127.0.0.1"), authority.issue("client")
    port = free_port()
    files = ("--tls-cert-file", server.cert, "--tls-key-file", server.key)
    with running("--tls-port", str(port), *files, "--tls-ca-cert-file", authority.cert):
        url = f"rediss://127.0.0.1:{port}"
        own = {"certificate": client.cert, "key": client.key}
        journal = RedisJournal(RedisAddress.parse(url, ca=authority.cert, **own), START)
        journal.append(events(1, 3), run_in_thread(journal.lease))
        assert journal.read(START) == run_in_thread(journal.read, START) == events(1, 3)
        for others, message in (
            ({"ca": None, **own}, "has no valid certificate: "),
            ({"ca": authority.cert}, "cannot reach"),
        ):
            reader = RedisReader(RedisAddress.parse(url, **others))
            for call in (reader.position, lambda reader=reader: run_in_thread(reader.position)):
                with pytest.raises(JournalError, match=message) as error:
                    call()
                said(error)


def test_files_for_tls_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    address = RedisAddress.parse("rediss://h", ca=str(tmp_path / "ca"))
    with pytest.raises(JournalServerError, match=f"cannot use {tmp_path}/ca: No such file"):
        RedisReader(address)
    (tmp_path / "ca").write_text("nothing")
    with pytest.raises(JournalServerError, match=f"cannot use {tmp_path}/ca: "):
        RedisReader(address)
