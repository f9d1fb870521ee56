"""Connections to Redis: redis-py's, over gevent's sockets where there is an event loop.

In a thread with gevent's hub, waiting for Redis lets other greenlets run. In a native thread, such
as that of ``GroupCommit``, it blocks the thread. Nothing is patched. redis-py's own retries are
off, because they sleep with ``time.sleep``; so are health checks, maintenance notifications and
CLIENT SETINFO, which need permissions or round trips and are of no use here.
"""

import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import gevent.socket
import gevent.ssl
from gevent._hub_local import get_hub_if_exists
from redis.backoff import NoBackoff
from redis.connection import Connection
from redis.exceptions import (
    AuthenticationError,
    ConnectionError,
    NoScriptError,
    RedisError,
)
from redis.retry import Retry

from maze.journal.redis_address import Endpoint, RedisAddress, shown
from maze.journal.redis_errors import journal_error
from maze.journal.redis_scripts import Script
from maze.journal.redis_tls import tls_of

MIN_SENTINEL_SECONDS = 0.2
"""Minimum time for which a Sentinel may be silent before the next one is asked."""

Argument = bytes | str | int


def has_event_loop() -> bool:
    """Return whether gevent's hub runs in this thread, so that waiting must not block it."""
    return get_hub_if_exists() is not None


class RedisConnection(Connection):
    """redis-py's connection with a socket that suits the thread.

    It has nothing but the ``timeout``, for each step of connecting, sending and receiving.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        timeout: float,
        *,
        tls: ssl.SSLContext | None = None,
        database: int = 0,
        user: str | None = None,
        password: str | None = None,
    ) -> None:
        host, port = (endpoint, 0) if isinstance(endpoint, str) else endpoint
        super().__init__(
            host=host,
            port=port,
            db=database,
            username=user,
            password=password,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
            protocol=2,
            driver_info=None,
            maint_notifications_config=None,
        )
        self._endpoint = endpoint
        self._tls = tls

    def _connect(self) -> socket.socket:
        timeout = self.socket_connect_timeout
        if not has_event_loop():
            return self._open(socket, timeout)
        with gevent.Timeout(timeout, TimeoutError()):  # bounds the look-up of the name, too
            return self._open(gevent.socket, timeout)

    def _open(self, sockets: Any, timeout: float | None) -> socket.socket:
        sock: socket.socket
        if isinstance(self._endpoint, str):
            sock = sockets.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        else:
            sock = sockets.create_connection(self._endpoint, timeout)
        try:
            sock.settimeout(timeout)
            if isinstance(self._endpoint, str):
                sock.connect(self._endpoint)
            else:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self._tls:
                sock = self._tls.wrap_socket(sock, server_hostname=self.host)
        except BaseException:
            sock.close()
            raise
        return sock


class RedisClient:
    """Sends commands to a Redis server, one connection for each call that is under way.

    All methods raise UnavailableError after ``timeout`` seconds without an answer, or
    JournalServerError. They may be called in any thread and any greenlet.
    """

    def __init__(self, address: RedisAddress, timeout: float) -> None:
        self.address = address
        self.timeout = timeout
        # A socket of gevent belongs to the hub in which it was created; the others to no thread.
        self._idle: WeakKeyDictionary[Any, list[RedisConnection]] = WeakKeyDictionary()
        self._idle_in_threads: list[RedisConnection] = []
        self._lock = Lock()  # for the sentinels alone; lists and their pop() need none
        self._sentinels = list(address.sentinels)
        self._generation = 0
        self._tls = tls_of(address)

    def close(self) -> None:
        """Close the idle connections that this thread may close, and forget the others."""
        self._forget_idle()

    def call(self, *command: Argument) -> Any:
        """Send a command and return the answer."""
        with self._connected() as connection:
            connection.send_command(*command)
            return connection.read_response()

    def pipeline(self, *commands: Sequence[Argument]) -> list[Any]:
        """Send commands together and return their answers; others may come in between.

        A transaction would be refused while Redis' memory is full, even if it only reads.
        """
        with self._connected() as connection:
            connection.send_packed_command(connection.pack_commands(commands))
            return [connection.read_response() for _ in commands]

    def run(self, script: Script, keys: Sequence[str], *arguments: Argument) -> list[Any]:
        """Run a Lua script, which Redis learns if it does not know it, and return its answer."""
        rest = (len(keys), *keys, *arguments)
        with self._connected() as connection:
            try:
                connection.send_command("EVALSHA", script.sha, *rest)
                answer: list[Any] = connection.read_response()
            except NoScriptError:
                connection.send_command("EVAL", script.text, *rest)
                answer = connection.read_response()
        return answer

    @contextmanager
    def _connected(self) -> Iterator[RedisConnection]:
        """Lend a connection; close it unless all that was sent has been answered in order."""
        generation = self._generation
        try:
            connection = self._take_idle() or self._connect()
            try:
                yield connection
            except BaseException:
                connection.disconnect()
                raise
        except (RedisError, OSError) as error:
            # The others lead to the same server, which may have become a replica.
            self._forget_idle()
            raise journal_error(error, self.address) from None
        if generation == self._generation:
            self._idle_here().append(connection)
        else:
            connection.disconnect()

    def _idle_here(self) -> list[RedisConnection]:
        hub = get_hub_if_exists()
        return self._idle_in_threads if hub is None else self._idle.setdefault(hub, [])

    def _take_idle(self) -> RedisConnection | None:
        """Return an idle connection that the server has not closed."""
        idle = self._idle_here()
        while idle:
            try:
                connection = idle.pop()
            except IndexError:  # another thread was faster
                return None
            try:
                if not connection.can_read():
                    return connection
            except (RedisError, OSError):
                pass
            connection.disconnect()
        return None

    def _forget_idle(self) -> None:
        self._generation += 1
        for idle in (self._idle_here(), self._idle_in_threads):
            while idle:
                try:
                    idle.pop().disconnect()
                except IndexError:
                    break

    def _connect(self) -> RedisConnection:
        address = self.address
        endpoint = self._ask_sentinels() if address.sentinels else address.endpoint
        connection = RedisConnection(
            endpoint,
            self.timeout,
            tls=self._context(),
            database=address.database,
            user=address.user,
            password=address.password,
        )
        connection.connect()
        return connection

    def _ask_sentinels(self) -> Endpoint:
        """Return the master's address from the first Sentinel that knows it."""
        timeout = max(MIN_SENTINEL_SECONDS, self.timeout / len(self._sentinels))
        reason: object = f"no Sentinel knows the master {self.address.master}"
        for sentinel in list(self._sentinels):
            try:
                answer = self._ask(sentinel, timeout)
            except (RedisError, OSError) as error:
                reason = journal_error(error, f"the Sentinel {shown(sentinel)}")
                continue
            if answer:
                with self._lock:  # ask the one that has answered first from now on
                    self._sentinels.remove(sentinel)
                    self._sentinels.insert(0, sentinel)
                host, port = answer
                return host.decode(), int(port)
        raise ConnectionError(str(reason))

    def _ask(self, sentinel: tuple[str, int], timeout: float) -> list[bytes] | None:
        """Ask a Sentinel; only if it wants a password, it gets that of the servers."""
        address = self.address
        try:
            return self._ask_as(sentinel, timeout, None, None)
        except AuthenticationError:
            if not address.password:
                raise
        return self._ask_as(sentinel, timeout, address.user, address.password)

    def _ask_as(
        self, sentinel: Endpoint, timeout: float, user: str | None, password: str | None
    ) -> list[bytes] | None:
        connection = RedisConnection(
            sentinel, timeout, tls=self._context(), user=user, password=password
        )
        try:
            connection.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.address.master)
            answer: list[bytes] | None = connection.read_response()
        finally:
            connection.disconnect()
        return answer

    def _context(self) -> ssl.SSLContext | None:
        module = gevent.ssl if has_event_loop() else ssl
        return self._tls.context(module) if self._tls else None
