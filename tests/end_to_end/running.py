"""Two ways to run a server: in the test's hub, and as a child process."""

from __future__ import annotations

import json
import os
import signal
import socket as system
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import blocking
from gevent import ssl
from gevent.socket import socket

from maze.core import Reason
from maze.pipeline.client_port import ClientPort
from maze.pipeline.session import Session
from maze.pipeline.source import SourcePort
from maze.server import MazeServer
from maze.settings.options import Settings

from .certificates import Wire
from .peers import SMALL_BUFFER, Address, Client, Peer, Source, until

ROOT = Path(__file__).parents[2]


class Maze:
    """A server in this process, and its peers."""

    def __init__(self, tls: Wire | None = None, **settings: Any) -> None:
        self.tls = tls
        if tls:
            settings = tls.settings() | settings
        self.server = MazeServer(Settings(source_port=0, client_port=0, **settings))
        self.server.start()
        self.source_address = _address(self.server.source_address)
        self.client_address = _address(self.server.client_address)
        self._peers: list[Peer] = []

    @property
    def sessions(self) -> list[Session]:
        return list(self.server.sessions)

    def source(self, *, small_buffers: bool = False) -> Source:
        """Connect a source. If the server refuses it, the test finds out later."""
        tls = self.tls.source() if self.tls else None
        source = Source(self.source_address, small_buffers=small_buffers, tls=tls)
        self._peers.append(source)
        return source

    def client(
        self,
        user: int | bytes,
        *,
        small_buffers: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> Client:
        """Connect a client, and wait until its session has begun."""
        before = len(self.sessions)
        client = self.stranger(small_buffers=small_buffers, tls=tls)
        client.send(b"%d\n" % user if isinstance(user, int) else user)
        until(lambda: len(self.sessions) > before, f"the session of user {user!r} to begin")
        return client

    def clients(self, *users: int) -> list[Client]:
        return [self.client(user) for user in users]

    def stranger(self, *, small_buffers: bool = False, tls: ssl.SSLContext | None = None) -> Client:
        """Connect to the client port without sending an id line."""
        if tls is None and self.tls:
            tls = self.tls.client()
        client = Client(self.client_address, small_buffers=small_buffers, tls=tls)
        self._peers.append(client)
        return client

    def session(self, user: int) -> Session:
        (session,) = (session for session in self.sessions if session.user == user)
        return session

    def rejects(self) -> dict[str, int]:
        """Return the number of rejects by reason, without zeros."""
        counts = self.server.rejects.counts
        return {Reason(reason).value: count for reason, count in counts.items() if count}

    def await_sessions(self, count: int) -> None:
        until(lambda: len(self.sessions) == count, f"{count} sessions")

    def await_sources(self, count: int) -> None:
        until(lambda: len(self.server.source.sources) == count, f"{count} sources")

    def await_routed(self, count: int) -> None:
        until(lambda: self.server.router.stats.routed_events >= count, f"{count} routed events")

    def close(self) -> None:
        """Stop the server, and assert that nothing is left of any session."""
        self.server.stop()
        for peer in self._peers:
            peer.close()
        self.expect_all_freed()
        # Otherwise a source's last log line might be captured by the next test.
        until(lambda: not self.server.source.serving.greenlets, "every source's greenlet to end")

    def expect_all_freed(self) -> None:
        until(
            lambda: not self.sessions and not self.server.router.queued_memory.bytes,
            "every session and every queued byte to be freed",
        )


def _address(address: tuple[Any, ...]) -> Address:
    return str(address[0]), int(address[1])


def shrink_buffers(monkeypatch: Any) -> None:
    """Make the kernel's buffers small on the server's side of each connection."""
    sizes = ((ClientPort, system.SO_SNDBUF), (SourcePort, system.SO_RCVBUF))
    for port, buffer in sizes:
        monkeypatch.setattr(port, "handle", _shrinking(port.handle, buffer))


def _shrinking(handle: Callable[..., None], buffer: int) -> Callable[..., None]:
    def shrunk(self: Any, sock: socket, address: Any) -> None:
        sock.setsockopt(system.SOL_SOCKET, buffer, SMALL_BUFFER)
        handle(self, sock, address)

    return shrunk


class Child:
    """A server in a child process. By default its stderr goes to a file."""

    def __init__(
        self,
        *arguments: str,
        ports: tuple[int, int] = (0, 0),
        stderr: int | None = None,
        environment: dict[str, str] | None = None,
        program: Sequence[str] = ("-m", "blocking" if blocking.ENABLED else "maze.serve"),
        descriptors: Sequence[int] = (),
    ) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        command = [sys.executable, *program, "--log-format", "json"]
        command += ["--source-port", str(ports[0]), "--client-port", str(ports[1])]
        command += ["--admin-port", "0"]
        self.process = subprocess.Popen(
            [*command, *arguments],
            cwd=ROOT,
            env=_clean_environment() | {"PYTHONPATH": str(ROOT / "tests")} | (environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._log if stderr is None else stderr,
            pass_fds=descriptors,
        )
        self._peers: list[Peer] = []
        self.source_address = self.client_address = ("127.0.0.1", 0)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        for peer in self._peers:
            peer.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        blocked = [line["what"] for line in self.logged("hub_blocked")]
        self._log.close()
        if blocked and not error:
            raise blocking.HubBlockedError("; ".join(blocked))

    def ready(self) -> Child:
        """Wait until the server listens; if it has several processes, until all are ready."""

        def lines() -> list[dict[str, Any]]:
            return [line for line in self.logged("ready") if "process" not in line]

        until(lambda: lines() or self.process.poll() is not None, "the server to be ready")
        assert lines(), f"the process has ended: {self.stderr()}"
        self.listens(lines()[0])
        return self

    def listens(self, ready: dict[str, Any]) -> None:
        """Take the server's addresses from its ``ready`` line; a role may lack one of the ports."""
        if "source_host" in ready:
            self.source_address = (ready["source_host"], ready["source_port"])
        if "client_host" in ready:
            self.client_address = (ready["client_host"], ready["client_port"])

    def source(self, *, tls: ssl.SSLContext | None = None) -> Source:
        source = Source(self.source_address, tls=tls)
        self._peers.append(source)
        return source

    def client(
        self, user: int, *, small_buffers: bool = False, tls: ssl.SSLContext | None = None
    ) -> Client:
        """Connect a client and send its id. ``await_logged`` can wait for its session."""
        client = Client(self.client_address, small_buffers=small_buffers, tls=tls)
        self._peers.append(client)
        client.send(b"%d\n" % user)
        return client

    def clients(self, users: Iterable[int]) -> list[Client]:
        """Connect clients; wait until their sessions have begun. Needs ``--log-level debug``."""
        opened = len(self.logged("session_opened"))
        clients = [self.client(user) for user in users]
        self.await_logged("session_opened", opened + len(clients))
        return clients

    def await_first_broadcast(self, client: Client, source: Source, first: int = 1) -> None:
        """Send broadcasts until the client receives one, which shows that its session has begun.

        The first has the number ``first``; there are at most a thousand.
        """
        client.sock.settimeout(0.01)
        for sequence in range(first, first + 1_000):
            source.send(b"%d|B\n" % sequence)
            with suppress(TimeoutError):
                assert client.sock.recv(1)
                return
        raise AssertionError("no session has begun")

    def stderr(self) -> str:
        return os.pread(self._log.fileno(), 1 << 24, 0).decode()

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Return the log lines of an event."""
        whole_lines = self.stderr().rpartition("\n")[0].splitlines()
        lines = [json.loads(line) for line in whole_lines if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def await_logged(self, event: str, count: int = 1) -> None:
        def has_come() -> bool:
            return len(self.logged(event)) >= count or self.process.poll() is not None

        until(has_come, f"{count} lines of {event!r} in the log")
        assert len(self.logged(event)) >= count, f"the process has ended: {self.stderr()}"

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def status(self) -> int:
        """Wait for the process to end; return its exit status."""
        until(lambda: self.process.poll() is not None, "the process to end")
        assert self.process.returncode is not None
        return self.process.returncode


def _clean_environment() -> dict[str, str]:
    """Return this process's environment without the server's options."""
    return {
        name: value
        for name, value in os.environ.items()
        if name != "LOG_LEVEL" and not name.startswith("MAZE_")
    }
