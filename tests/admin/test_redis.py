"""What operators see of a journal in Redis: the lease, the standby, and the tail."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event
from typing import Any

import gevent
import pytest
from end_to_end.peers import until
from redis_server import RedisServer
from structlog.testing import LogCapture

from maze.journal.figures import Statistics
from maze.journal.journal import UnavailableError
from maze.journal.redis_reader import RedisReader
from maze.server import MazeServer
from maze.settings.option_types import FREE_PORT
from maze.settings.options import Settings

from .conftest import Start, Watch
from .test_metrics import sample_names, values
from .watching import Watched, Watcher

OTHER = "standby: another process writes the journal, and this one waits to take over"


def test_the_lease_and_the_tail_are_shown(redis_journaled: Watched) -> None:
    redis_journaled.source().send(b"1|B\n2|B\n")
    redis_journaled.await_routed(2)
    shown = redis_journaled.status()["journal"]
    assert shown["lease"]["is_held"]
    assert shown["lease"]["fence"] > 10**15
    assert 0 <= shown["lease"]["renewed_seconds"] < 25
    tail = shown["tail"]
    assert tail["limit_bytes"] == 64 * 2**20
    assert (tail["gaps"], tail["batches_again"]) == (0, 0)
    assert tail["batches"] >= 1
    assert tail["bytes"] > 8
    found = values(redis_journaled)
    assert found["maze_journal_lease_held", ""] == 1
    assert found["maze_journal_fence", ""] == shown["lease"]["fence"]
    assert found["maze_journal_lease_renewed_seconds", ""] >= 0
    assert found["maze_journal_tail_limit_bytes", ""] == 64 * 2**20
    assert {"maze_journal_tail_batches", "maze_journal_tail_bytes"} < sample_names(redis_journaled)


def test_events_that_were_appended_again_are_counted(redis_journaled: Watched) -> None:
    journaling = redis_journaled.server.intake.journaling
    assert journaling
    assert journaling.tailed
    journaling.tailed.gaps, journaling.tailed.batches_again = 2, 30
    found = values(redis_journaled)
    assert found["maze_journal_gaps_total", ""] == 2
    assert found["maze_journal_batches_appended_again_total", ""] == 30


def test_a_journal_in_a_file_has_no_lease(journaled: Watched) -> None:
    shown = journaled.status()["journal"]
    assert (shown["lease"], shown["tail"]) == (None, None)
    of_redis = (
        "maze_journal_lease",
        "maze_journal_fence",
        "maze_journal_tail",
        "maze_journal_gaps",
    )
    assert not [name for name in sample_names(journaled) if name.startswith(of_redis)]


@pytest.fixture
def standby(
    redis_journaled: Watched, redis: RedisServer, watch: Watch
) -> Iterator[tuple[MazeServer, Watcher]]:
    """A server that waits until ``redis_journaled`` is gone."""
    settings: Any = {"source_port": 0, "client_port": 0, "admin_port": FREE_PORT}
    server = MazeServer(Settings(journal=f"unix://{redis.path}", lease=0.1, **settings))
    watcher = watch(server)
    starting = gevent.spawn(server.start)
    until(lambda: server.is_standby, "the second server to wait")
    yield server, watcher
    starting.kill()
    server.stop()


def test_a_standby_says_so(redis_journaled: Watched, standby: tuple[MazeServer, Watcher]) -> None:
    _, watcher = standby
    answer = watcher.ask("/readyz")
    assert (answer.status, answer.json()["because"]) == (503, OTHER)
    assert watcher.ask("/healthz").status == 200
    shown = watcher.status()
    assert (shown["state"], shown["is_ready"]) == ("standby", False)
    lease = {"is_held": False, "fence": None, "renewed_seconds": None}
    assert shown["journal"]["lease"] == lease
    found = values(watcher)
    assert (found["maze_ready", ""], found["maze_journal_lease_held", ""]) == (0, 0)
    assert "maze_journal_fence" not in sample_names(watcher)
    before = values(redis_journaled)["maze_journal_fence", ""]
    redis_journaled.server.stop()  # it gives the lease back
    until(lambda: watcher.ask("/readyz").status == 200, "the standby to take over")
    assert watcher.status()["state"] == "ready"
    assert values(watcher)["maze_journal_fence", ""] > before
    assert values(redis_journaled)["maze_journal_lease_held", ""] == 0


def test_a_standby_waits_while_redis_is_away(
    redis_journaled: Watched,
    standby: tuple[MazeServer, Watcher],
    redis: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, watcher = standby
    journaling = server.intake.journaling
    assert journaling
    assert journaling.lease
    failed: list[UnavailableError] = []
    take = journaling.lease.take

    def noted() -> int | None:
        try:
            return take()
        except UnavailableError as error:
            failed.append(error)
            raise

    monkeypatch.setattr(journaling.lease, "take", noted)
    redis.kill()
    until(lambda: len(failed) > 1, "the standby to ask in vain")
    assert watcher.ask("/readyz").json()["because"] == OTHER
    redis.start()
    redis_journaled.source().send(b"1|B\n")
    redis_journaled.await_routed(1)
    redis_journaled.server.stop()
    until(lambda: watcher.ask("/readyz").status == 200, "the standby to take over")


def test_a_redis_that_is_away_is_noticed_while_nothing_is_written(
    start: Start, redis: RedisServer
) -> None:
    watched = start(journal=f"unix://{redis.path}", lease=0.1)
    assert watched.ask("/readyz").status == 200
    redis.kill()
    until(lambda: watched.ask("/readyz").status == 503, "Redis to be missed")
    assert "cannot reach" in watched.status()["journal"]["trouble"]
    assert values(watched)["maze_journal_trouble", ""] == 1
    redis.start()
    until(lambda: watched.ask("/readyz").status == 200, "Redis to be back")
    assert watched.status()["journal"]["trouble"] is None


def test_a_journal_that_was_removed_is_noticed_while_nothing_is_written(
    start: Start, redis: RedisServer, log: LogCapture
) -> None:
    watched = start(journal=f"unix://{redis.path}", lease=0.1)
    assert watched.ask("/readyz").status == 200
    redis.command("FLUSHALL")
    until(lambda: watched.ask("/readyz").status == 503, "the journal to be missed")
    assert "was removed while it was open" in watched.status()["journal"]["trouble"]
    assert values(watched)["maze_journal_trouble", ""] == 1
    watched.source().send(b"1|B\n")
    watched.server.stop()
    (gone,) = (entry for entry in log.entries if entry["event"] == "journal_gone")
    assert "was removed while it was open" in gone["error"]


def test_figures_that_take_long_hold_up_no_commit(
    start: Start, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The more epochs are kept, the longer they take."""
    asked, go_on = Event(), Event()
    ended: list[bool] = []

    def statistics(self: RedisReader) -> Statistics:
        asked.set()
        ended.append(go_on.wait(20.0))
        return original(self)

    original = RedisReader.statistics
    monkeypatch.setattr(RedisReader, "statistics", statistics)
    watched = start(journal=f"unix://{redis.path}")
    try:
        until(asked.is_set, "the figures to be read")
        watched.source().send(b"1|B\n")
        watched.await_routed(1)
        assert not ended
    finally:
        go_on.set()


def test_a_redis_that_refuses_writes_is_noticed_while_nothing_is_written(
    start: Start, redis: RedisServer
) -> None:
    watched = start(journal=f"unix://{redis.path}", lease=0.1)
    journaling = watched.server.intake.journaling
    assert journaling
    assert journaling.tailed
    tail = journaling.tailed.tail
    redis.command("CONFIG", "SET", "min-replicas-to-write", "1")
    until(lambda: watched.ask("/readyz").status == 503, "the refusal to be noticed")
    assert "NOREPLICAS" in watched.status()["journal"]["trouble"]
    redis.command("CONFIG", "SET", "appendfsync", "everysec", "min-replicas-to-write", "0")
    until(lambda: watched.ask("/readyz").status == 200, "Redis to take writes again")
    until(lambda: tail.safe_seconds == 2.0, "the changed setting to be noticed")
    redis.command("CONFIG", "SET", "appendfsync", "no")
