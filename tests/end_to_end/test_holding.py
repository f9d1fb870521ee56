"""A few clients that are slow but make progress are logged and disconnected; the others are not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import gevent
import pytest
from structlog.testing import LogCapture

from maze.core.holding import MIN_CHECKS

from .peers import Client, Source, broadcasts, joined, until
from .running import Maze, shrink_buffers

pytestmark = pytest.mark.realtime

BUFFER = 32 * 1024
HOLD_TIMEOUT = 0.3
STALL_TIMEOUT = 3600.0
FILLING = 2_000
"""Lines of 500 bytes that exceed what both kernels and the server hold for a client."""


@pytest.fixture(autouse=True)
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_buffers(monkeypatch)


@pytest.fixture
def reading() -> Iterator[list[gevent.Greenlet[..., None]]]:
    """Greenlets that end with the test."""
    greenlets: list[gevent.Greenlet[..., None]] = []
    yield greenlets
    gevent.killall(greenlets)


def private(first: int, users: int) -> bytes:
    """Return FILLING messages for each of the users 1 to ``users``, numbered from ``first``."""
    numbers = range(first, first + FILLING * users)
    return joined(b"%0480d|P|9|%d\n" % (number, 1 + number % users) for number in numbers)


def read_slowly(client: Client) -> None:
    """Read a little at a time, so that the client is slow but never stalled."""
    while client._receive(100):
        gevent.sleep(0.01)


def connected(maze: Maze, users: range) -> list[Client]:
    """Connect clients as ``Maze.clients`` does, but wait only once for all sessions."""
    clients = [maze.stranger(small_buffers=True) for _ in users]
    for user, client in zip(users, clients, strict=True):
        client.send(b"%d\n" % user)
    maze.await_sessions(len(users))
    return clients


def ended(log: LogCapture) -> list[dict[str, object]]:
    """Return the log lines that say why sessions ended."""
    return [dict(entry) for entry in log.entries if entry["event"] == "session_closed"]


@pytest.mark.parametrize(
    ("wire", "slow", "count"),
    [("plain", 1, 2), ("tls", 1, 2), ("plain", 1, 100), ("plain", 10, 1_000)],
    indirect=["wire"],
)
def test_few_slow_clients_are_logged_and_disconnected_and_the_others_get_every_byte(
    start: Callable[..., Maze],
    log: LogCapture,
    reading: list[gevent.Greenlet[..., None]],
    slow: int,
    count: int,
) -> None:
    maze = start(client_buffer=BUFFER, hold_timeout=HOLD_TIMEOUT, stall_timeout=STALL_TIMEOUT)
    clients = connected(maze, range(1, count + 1))
    reading += [gevent.spawn(read_slowly, client) for client in clients[:slow]]
    inboxes = [client.read_in_background() for client in clients[slow:]]
    end = 11 + FILLING * slow
    told = joined([*broadcasts(1, 11), *broadcasts(end, end + 10)])
    stream = joined(broadcasts(1, 11)) + private(11, slow) + joined(broadcasts(end, end + 10))
    maze.source(small_buffers=True).send_in_background(stream)
    until(
        lambda: min(inbox.size for inbox in inboxes) >= len(told),
        "the others to receive everything",
    )
    assert all(inbox.so_far() == told for inbox in inboxes)
    assert dict(maze.server.sessions.closed) == {"holding": slow}
    lines = ended(log)
    assert {line["user"] for line in lines} == set(range(1, slow + 1))
    assert {line["log_level"] for line in lines} == {"warning"}
    check = HOLD_TIMEOUT / MIN_CHECKS  # a check may come as late as the next one
    for line in lines:
        waited = line["waited_seconds"]
        assert isinstance(waited, float)
        assert HOLD_TIMEOUT <= waited <= HOLD_TIMEOUT + 2 * check + 0.001
    named = [entry for entry in log.entries if entry["event"] == "clients_holding"]
    assert named
    assert named[0]["log_level"] == "warning"
    assert {int(user) for user in named[0]["users"].split(", ")} <= set(range(1, slow + 1))
    assert named[0]["waited_seconds"] < HOLD_TIMEOUT


@pytest.mark.parametrize("bound", ["client_buffer", "total_buffer"])
def test_slow_client_is_disconnected_whichever_bound_it_exceeds(
    start: Callable[..., Maze], reading: list[gevent.Greenlet[..., None]], bound: str
) -> None:
    buffers = {"client_buffer": 1 << 30, "total_buffer": 1 << 30} | {bound: BUFFER}
    maze = start(hold_timeout=HOLD_TIMEOUT, stall_timeout=STALL_TIMEOUT, **buffers)
    slow, *others = connected(maze, range(1, 4))
    reading.append(gevent.spawn(read_slowly, slow))
    last = b"%d|B\n" % (1 + FILLING)
    maze.source(small_buffers=True).send_in_background(private(1, 1) + last)
    for other in others:
        other.expect(last)
    assert dict(maze.server.sessions.closed) == {"holding": 1}


def fill(maze: Maze, source: Source, *users: int) -> None:
    """Queue a thousand lines for each user in turn; block the sessions, so that none is sent."""
    for user in users:
        maze.session(user).writing = True
    pairs = enumerate(users * 1_000, start=1)
    source.send(joined(b"%018d|P|9|%d\n" % pair for pair in pairs))


def test_no_more_clients_are_disconnected_than_the_bound_requires(
    start: Callable[..., Maze],
) -> None:
    """Two sessions hold the same, and the others have waited for both."""
    total = 30_000
    maze = start(total_buffer=total, hold_timeout=HOLD_TIMEOUT, stall_timeout=STALL_TIMEOUT)
    (*_, other, _) = maze.clients(1, 2, 3, 4)
    source = maze.source()
    fill(maze, source, 1, 2)
    source.send(b"2001|P|9|3\n")
    other.expect(b"2001|P|9|3\n")
    assert len(maze.sessions) == 3
    assert 0 < maze.server.router.queued_memory.bytes <= total
    assert dict(maze.server.sessions.closed) == {"holding": 1}


@pytest.mark.parametrize("read_bytes", [0, 1 << 17])
def test_nobody_is_disconnected_if_all_are_slow(
    start: Callable[..., Maze], log: LogCapture, read_bytes: int
) -> None:
    """All clients stop, at once or after a little: the router waits for five hold timeouts."""
    maze = start(client_buffer=BUFFER, hold_timeout=0.1, stall_timeout=STALL_TIMEOUT)
    clients = connected(maze, range(1, 5))
    stream = joined(b"%0480d|B\n" % number for number in range(1, 2 * FILLING))
    maze.source(small_buffers=True).send_in_background(stream)
    for client in clients:
        client.expect(stream[:read_bytes])
    until(lambda: maze.server.router.stats.waited_seconds > 0.5, "the router to wait for them")
    assert len(maze.sessions) == 4
    assert "clients_holding" not in [entry["event"] for entry in log.entries]


def test_nobody_is_disconnected_if_all_have_stopped_but_only_one_queue_is_full(
    start: Callable[..., Maze], log: LogCapture
) -> None:
    """For most clients the kernels buffer everything: nothing is queued, yet they are not idle."""
    maze = start(client_buffer=BUFFER, hold_timeout=0.1, stall_timeout=STALL_TIMEOUT)
    connected(maze, range(1, 5))
    users = [2, 3, 4] * 700 + [1] * FILLING
    stream = joined(b"%0480d|P|9|%d\n" % pair for pair in enumerate(users, start=1))
    maze.source(small_buffers=True).send_in_background(stream)
    until(lambda: maze.server.router.stats.waited_seconds > 0.5, "the router to wait for user 1")
    assert [bool(maze.session(user).queued_bytes) for user in range(1, 5)] == [True, *[False] * 3]
    assert "clients_holding" not in [entry["event"] for entry in log.entries]


def test_the_hold_timeout_does_not_apply_to_a_drain(start: Callable[..., Maze]) -> None:
    maze = start(client_buffer=1_000, hold_timeout=0.1, drain_timeout=1)
    maze.clients(1, 2)
    fill(maze, maze.source(), 1)
    until(lambda: maze.server.router.slow_clients.router_waits, "the router to wait")
    waited = maze.server.router.stats.waited_seconds
    maze.server.drain()
    assert maze.server.router.stats.waited_seconds - waited > 0.2
    assert dict(maze.server.sessions.closed) == {"stopped": 1, "finished": 1}
