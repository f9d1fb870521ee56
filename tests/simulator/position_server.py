"""A server that keeps every line, so that every client can resume; it can be given faults.

It runs in a thread, and reads from the source once all its users have been there, so that nothing
here depends on timing.
"""

import contextlib
import select
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from brute_force import Model
from servers import PATIENCE

_CHUNK = 256
"""bytes read from the source at a time, few enough that it is in mid-stream for a while"""
EPOCH = 1_764_100_000_000

Tamper = Callable[[int, int, int, bytes], bytes]
"""What a user gets for the n-th line of its n-th connection; both are counted from 1"""
Acknowledge = Callable[[int], bytes]
"""What the source is written when everything below a number is routed"""
Answer = Callable[[int, int, bytes], bytes]
"""What a user is answered at its n-th connection, in place of the right answer"""


def honest(_user: int, _connection: int, _nth: int, line: bytes) -> bytes:
    return line


def right(_user: int, _connection: int, answer: bytes) -> bytes:
    return answer


def acknowledge(after: int) -> bytes:
    return b"A|%d|%d\n" % (EPOCH, after)


class Session:
    """One connection of a client."""

    def __init__(self, sock: socket.socket, user: int, number: int, *, told: bool) -> None:
        self.sock = sock
        self.user = user
        self.number = number
        self.told = told  # whether the client asked for positions
        self.lines = 0
        self.output = bytearray()


class Routed(NamedTuple):
    number: int
    line: bytes
    audience: list[int]


class PositionServer:
    """Serves these users, any number of times, and one source."""

    def __init__(
        self,
        users: Sequence[int],
        tamper: Tamper = honest,
        answer: Answer = right,
        *,
        last: int | None = None,
        chatty: bool = False,
        doors_closed: bool = False,
        acks: Acknowledge | None = None,
        breaks: Sequence[int] = (),
        journal: Path | None = None,
        ports: tuple[int, int] = (0, 0),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._users = users
        self._tamper = tamper
        self._answer = answer
        # After this event whoever was wronged is disconnected, so that nobody waits in vain.
        self._last = last
        self._chatty = chatty  # positions are told after every batch
        self._doors_closed = doors_closed  # nobody who left is let in again
        self._acks = acks
        self._breaks = list(breaks)  # events after which the source's connection is closed
        self._journal = journal  # keeps the lines, for the next server
        self._tls = tls
        self._wronged: set[int] = set()
        self._connections: Counter[int] = Counter()
        self._sessions: dict[socket.socket, Session] = {}
        self._source: socket.socket | None = None
        self._rest = b""
        self._waiting: dict[int, bytes] = {}
        self._model = Model()
        self.routed: list[Routed] = []
        self._next = 1
        self.sources = 0  # that have come so far
        self._stopped, self._wake = socket.socketpair()
        if journal is not None and journal.exists():
            for line in journal.read_bytes().splitlines(keepends=True):
                self._route(line)
        source_port, client_port = ports
        self._source_listener = socket.create_server(("127.0.0.1", source_port), backlog=256)
        self._client_listener = socket.create_server(("127.0.0.1", client_port), backlog=256)
        self.source_port: int = self._source_listener.getsockname()[1]
        self.client_port: int = self._client_listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def connections(self) -> int:
        return sum(self._connections.values())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._wake.close()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        with self._stopped, self._source_listener, self._client_listener:
            while self._step():
                pass
        for session in self._sessions.values():
            session.sock.close()
        if self._source is not None:
            self._source.close()

    def _step(self) -> bool:
        """Serve whoever is ready; return whether to go on."""
        watched = [self._stopped, *self._sessions]
        if self._doors_closed and len(self._connections) == len(self._users):
            self._client_listener.close()
        else:
            watched.append(self._client_listener)
        if self._source is None:
            watched.append(self._source_listener)
        elif len(self._connections) == len(self._users):
            watched.append(self._source)
        ready = select.select(watched, [], [], PATIENCE)[0]
        if self._stopped in ready or not ready:
            return False
        # Clients first: who is connected when an event comes receives it.
        if self._client_listener in ready:
            self._accept_client()
        elif self._source_listener in ready:
            self._source = self._accept(self._source_listener)
            self.sources += 1
            self._rest = b""
            self._acknowledge()
        elif self._source in ready:
            self._read_source()
        else:
            for sock in ready:
                self._read_client(sock)
        return True

    def _accept(self, listener: socket.socket) -> socket.socket:
        connection, _ = listener.accept()
        connection.settimeout(PATIENCE)
        return self._tls.wrap_socket(connection, server_side=True) if self._tls else connection

    def _accept_client(self) -> None:
        sock = self._accept(self._client_listener)
        line = b""
        while not line.endswith(b"\n"):
            line += sock.recv(1)
        name, bar, position = line.strip().partition(b"|")
        user = int(name)
        self._connections[user] += 1
        session = Session(sock, user, self._connections[user], told=bool(bar))
        self._sessions[sock] = session
        if bar:
            now = b"%d-%d" % (EPOCH, self._next)
            asked = position or now
            first = int(asked.partition(b"-")[2])
            answer = b"=|%b\n" % asked if first <= self._next else b"!|%b\n" % now
            session.output += self._answer(user, session.number, answer)
            for event in self.routed:
                if event.number >= first and user in event.audience:
                    self._deliver(session, event.line)
        self._flush([session])

    def _read_client(self, sock: socket.socket) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            if sock.recv(4096):
                return
        self._drop(self._sessions[sock])

    def _drop(self, session: Session) -> None:
        self._sessions.pop(session.sock, None)
        session.sock.close()

    def _read_source(self) -> None:
        assert self._source is not None
        data = b""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            data = self._source.recv(_CHUNK)
        while data and isinstance(self._source, ssl.SSLSocket) and self._source.pending():
            data += self._source.recv(_CHUNK)
        if not data:
            for number in sorted(self._waiting):  # the numbers before it are given up
                self._next = number
                self._route(self._waiting.pop(number))
            self._flush(list(self._sessions.values()))
            self._close_source()
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._waiting.setdefault(int(line.partition(b"|")[0]), line + b"\n")
        events = []
        while event := self._waiting.pop(self._next, None):
            events.append(event)
            self._route(event)
        self._write_down(events)
        if self._chatty:
            for session in self._sessions.values():
                session.output += b"=|%d-%d\n" % (EPOCH, self._next) if session.told else b""
        self._flush(list(self._sessions.values()))
        if self._breaks and self._next > self._breaks[0]:
            del self._breaks[0]
            self._close_source()
        else:
            self._acknowledge()

    def _close_source(self) -> None:
        assert self._source is not None
        self._source.close()
        self._source = None

    def _acknowledge(self) -> None:
        if self._acks and self._source:
            with contextlib.suppress(OSError):
                self._source.sendall(self._acks(self._next))

    def _write_down(self, events: list[bytes]) -> None:
        if self._journal is not None:
            with self._journal.open("ab") as file:
                file.write(b"".join(events))

    def _route(self, line: bytes) -> None:
        audience = self._model.audience(line, self._users)
        self.routed.append(Routed(self._next, line, audience))
        self._next += 1
        for session in self._sessions.values():
            if session.user in audience:
                self._deliver(session, line)

    def _deliver(self, session: Session, line: bytes) -> None:
        session.lines += 1
        sent = self._tamper(session.user, session.number, session.lines, line)
        if sent != line:
            self._wronged.add(session.user)
        session.output += sent

    def _flush(self, sessions: list[Session]) -> None:
        over = self._last is not None and self._next > self._last
        for session in sessions:
            output, session.output = session.output, bytearray()
            try:
                session.sock.sendall(output)
            except OSError:  # who has left is nobody's fault
                self._drop(session)
            if over and session.user in self._wronged:
                self._drop(session)
