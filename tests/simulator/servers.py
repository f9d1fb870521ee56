"""A correct server in a thread, simple enough to trust, and a place to put faults into it.

It waits for all clients it was told of before it reads from the source, so that nothing here
depends on timing.
"""

import contextlib
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Self

from brute_force import Model

PATIENCE = 30.0
"""seconds after which a socket or a thread here gives up"""

Tamper = Callable[[int, int, bytes], bytes | None]
"""What a user gets for its n-th line; None closes the connection instead"""


def honest(_user: int, _nth: int, line: bytes) -> bytes:
    return line


class Server:
    """Serves `clients` users and one source, once."""

    def __init__(
        self,
        clients: int,
        tamper: Tamper = honest,
        *,
        last: int | None = None,
        dismiss: bool = False,
        answer: bytes = b"",
        source_bytes: int | None = None,
        chunk: int = 65536,
        reset: bool = False,
        close_at_handshake: bool = False,
        stay: bool = False,
        crash: bool = False,
        refuse_source: bool = False,
        doors_closed: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._clients = clients
        self._tamper = tamper
        # After this event those are disconnected who did not get what they should, so that nobody
        # waits for what never comes; None: all may stay.
        self._last = last
        self._dismiss = dismiss  # everybody is
        self._answer = answer  # is written to the source
        self._wronged: set[int] = set()
        self._source_bytes = source_bytes  # after so many the source's connection is closed
        self._chunk = chunk  # bytes read from the source at a time, at most
        self._reset = reset  # close with RST instead of FIN
        self._close_at_handshake = close_at_handshake
        # The clients stay connected until the simulator goes, whatever became of the source;
        # unless all is over when it is closed.
        self._stay = stay or (source_bytes is not None and not crash)
        self._refuse_source = refuse_source  # before anybody else is let in
        self._doors_closed = doors_closed  # once all clients are there nobody else is let in
        self._tls = tls
        self._source_listener = self._listen()
        self._client_listener = self._listen()
        self.source_port: int = self._source_listener.getsockname()[1]
        self.client_port: int = self._client_listener.getsockname()[1]
        self.sessions: dict[int, socket.socket] = {}
        self._nth: Counter[int] = Counter()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Wakes an accept that nobody is going to answer.
        for listener in (self._source_listener, self._client_listener):
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    @staticmethod
    def _listen() -> socket.socket:
        listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        listener.settimeout(PATIENCE)
        return listener

    def _run(self) -> None:
        with contextlib.suppress(OSError), self._source_listener, self._client_listener:
            with self._accept(self._source_listener) as source:
                if self._refuse_source:
                    self._close(source)
                for _ in range(self._clients):
                    self._accept_client()
                if self._doors_closed:
                    self._client_listener.close()
                source.sendall(self._answer)
                self._serve(source)
                self._close(source)
            if self._stay:
                for session in self.sessions.values():
                    session.recv(1)
        for session in self.sessions.values():
            session.close()

    def _accept(self, listener: socket.socket) -> socket.socket:
        connection, _ = listener.accept()
        connection.settimeout(PATIENCE)
        return self._tls.wrap_socket(connection, server_side=True) if self._tls else connection

    def _close(self, connection: socket.socket) -> None:
        if self._reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    def _accept_client(self) -> None:
        client = self._accept(self._client_listener)
        line = b""
        while not line.endswith(b"\n"):
            line += client.recv(1)
        if self._close_at_handshake:
            client.close()
        else:
            self.sessions[int(line)] = client

    def _serve(self, source: socket.socket) -> None:
        model = Model()
        waiting: dict[int, bytes] = {}
        following = 1
        taken = 0
        rest = b""
        while self._source_bytes is None or taken < self._source_bytes:
            data = source.recv(self._chunk)
            taken += len(data)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                waiting[int(line.partition(b"|")[0])] = line + b"\n"
            output: dict[int, bytearray] = {user: bytearray() for user in self.sessions}
            leaving = set()
            while (line := waiting.pop(following, b"")) != b"":
                following += 1
                for user in model.audience(line, self.sessions):
                    self._nth[user] += 1
                    sent = self._tamper(user, self._nth[user], line)
                    if sent != line:
                        self._wronged.add(user)
                    if sent is None:
                        leaving.add(user)
                    elif user not in leaving:
                        output[user] += sent
            for user, payload in output.items():
                # Who has left is nobody's fault.
                with contextlib.suppress(ConnectionError):
                    self.sessions[user].sendall(payload)
            if self._last is not None and following > self._last:
                leaving |= set(self.sessions) if self._dismiss else self._wronged & {*self.sessions}
            for user in leaving:
                self._close(self.sessions.pop(user))
