"""A server with a fault built in: ``python -m tests.faults.broken FAULT OPTIONS...``."""

from __future__ import annotations

import errno
import functools
import gc
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any
from unittest.mock import patch

import gevent
from gevent.server import StreamServer

from maze import serve
from maze.core import Decoder, Fanout, FollowGraph, IdLine, Position, parse_id_line
from maze.journal.journal import Batch
from maze.journal.sqlite import SQLiteJournal
from maze.listener import id_line
from maze.log.configure import configure
from maze.log.reject_file import RejectFileWriter
from maze.net.connection import Connection
from maze.pipeline import journaling, router, source
from maze.pipeline.registry import Sessions
from maze.pipeline.session import Session

UNLUCKY = 666
"""User id or sequence number that triggers the fault."""

SLOW_SECONDS = 0.03
"""Delay of each append to a slow journal."""


class Provoked(Exception):  # noqa: N818
    """The exception that a fault raises."""


def break_decoder() -> None:
    class Broken(Decoder):
        def feed(self, data: bytes) -> Any:
            if b"%d|" % UNLUCKY in data:
                raise Provoked
            return super().feed(data)

    vars(source)["Decoder"] = Broken


def break_router() -> None:
    class Broken(Fanout):
        def route(self, runs: Any, *bounds: int) -> Any:
            if any(run.first <= UNLUCKY < run.end for run in runs):
                raise Provoked
            return super().route(runs, *bounds)

    vars(router)["Fanout"] = Broken


def break_graph(name: str) -> None:
    class Broken(FollowGraph):
        pass

    original = getattr(FollowGraph, name)

    def method(self: FollowGraph, recipient: Any) -> None:
        if recipient.user == UNLUCKY:
            raise Provoked
        original(self, recipient)

    setattr(Broken, name, method)
    vars(router)["FollowGraph"] = Broken


def break_handshake() -> None:
    def broken(line: bytes) -> IdLine | None:
        parsed = parse_id_line(line)
        if parsed is not None and parsed.user == UNLUCKY:
            raise Provoked
        return parsed

    vars(id_line)["parse_id_line"] = broken


def break_session(name: str) -> None:
    original: Callable[[Session], None] = getattr(Session, name)

    def broken(self: Session) -> None:
        if self.user == UNLUCKY:
            raise Provoked
        original(self)

    setattr(Session, name, broken)


def break_discard() -> None:
    original = Session.read

    def read(self: Session) -> None:
        broken = self.user == UNLUCKY
        with patch.object(Connection, "discard", side_effect=Provoked) if broken else nullcontext():
            original(self)

    Session.read = read  # type: ignore[method-assign]


def break_port() -> None:
    """Make accepting the third connection of a port fail."""
    original = StreamServer.do_read

    def broken(self: Any) -> Any:
        accepted = original(self)
        self.accepted = getattr(self, "accepted", 0) + bool(accepted)
        if self.accepted == 3:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return accepted

    StreamServer.do_read = broken  # type: ignore[method-assign]


def break_elsewhere() -> None:
    """Raise an uncaught exception in a greenlet, a native thread and a destructor."""

    class Destroyed:
        def __del__(self) -> None:
            raise Provoked

    def fail() -> None:
        raise Provoked

    def fail_everywhere() -> None:
        gevent.spawn(fail)
        threading.Thread(target=fail, name="unlucky").start()
        Destroyed()
        gc.collect()

    gevent.spawn_later(0.01, fail_everywhere)


def shorten_log_queue() -> None:
    vars(serve)["configure_log"] = functools.partial(configure, limit=20)


def limit_files() -> None:
    """Limit files to 1 MiB, which looks like a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))


def slow_journal() -> None:
    """Let each append begin late, so that a kill finds events that are not yet in the journal."""

    class Slow(SQLiteJournal):
        def append(self, batches: Sequence[Batch], fence: int) -> Position:
            time.sleep(SLOW_SECONDS)
            return super().append(batches, fence)

    vars(journaling)["SQLiteJournal"] = Slow


def hang(*_: object) -> None:
    """Never return, as a call to a disk that does not answer."""
    threading.Event().wait()


def hang_journal(name: str) -> None:
    """Hang in a method of the journal; an append only for an unlucky event."""
    original = getattr(SQLiteJournal, name)

    def hanging(self: SQLiteJournal, *arguments: Any) -> Any:
        if name == "close" or any(batch.first <= UNLUCKY < batch.end for batch in arguments[0]):
            hang()
        return original(self, *arguments)

    setattr(SQLiteJournal, name, hanging)


def hang_rejects() -> None:
    RejectFileWriter._write = hang  # type: ignore[assignment,method-assign]


def hang_event_loop() -> None:
    """Block the event loop when the sessions are closed."""
    Sessions.close = hang  # type: ignore[assignment,method-assign]


FAULTS: dict[str, Callable[[], None]] = {
    "none": lambda: None,
    "decoder": break_decoder,
    "router": break_router,
    "graph_connect": lambda: break_graph("connect"),
    "graph_disconnect": lambda: break_graph("disconnect"),
    "handshake": break_handshake,
    "writer": lambda: break_session("_write"),
    "discard": break_discard,
    "port": break_port,
    "elsewhere": break_elsewhere,
    "short_log_queue": shorten_log_queue,
    "small_files": limit_files,
    "slow_journal": slow_journal,
    "hanging_append": lambda: hang_journal("append"),
    "hanging_close": lambda: hang_journal("close"),
    "hanging_rejects": hang_rejects,
    "hanging_event_loop": hang_event_loop,
}

if __name__ == "__main__":
    FAULTS[sys.argv[1]]()
    serve.run(sys.argv[2:])
