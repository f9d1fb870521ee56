"""The admin port of a child process: its parent asks over a socket, and shows what all answer.

A question is a frame with a name and arguments, as JSON; the answer is a frame with the value, as
JSON, or with the metrics.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import gevent
import structlog
from gevent.socket import socket

from maze.admin.metrics import TEXT
from maze.admin.monitor import Monitor
from maze.admin.view import ServerView
from maze.net.frames import FrameError, encode_frame, read_frames

if TYPE_CHECKING:
    from maze.log.line_writer import LineWriter
    from maze.server import Server

log = structlog.get_logger()

QUESTION, ANSWER, METRICS = b"q", b"a", b"m"
"""Kinds of frames."""


class Relay:
    """Answers the parent's questions about one server, on a socket."""

    def __init__(self, server: Server, writer: LineWriter, descriptor: int) -> None:
        self.monitor = Monitor(server, writer)
        self._view = ServerView(server, self.monitor)
        self._socket = socket(fileno=descriptor)
        self._greenlet = gevent.Greenlet(self._run)

    def start(self) -> None:
        """Begin to answer."""
        self.monitor.start()
        self._greenlet.start()

    def announce(self) -> None:
        """Log nothing: the parent has the port."""

    def stop(self) -> None:
        """Answer no more."""
        self.monitor.stop()
        self._greenlet.kill(block=False)

    def _run(self) -> None:
        try:
            with self._socket.makefile("rb") as questions:
                for _, content in read_frames(questions):
                    self._socket.sendall(self._answer(*json.loads(content)))
        except (OSError, FrameError) as error:  # the parent has ended, and this process will
            log.debug("relay_ended", error=str(error))

    def _answer(self, name: str, *arguments: Any) -> bytes:
        if name == "metrics":
            return encode_frame(METRICS, self._view.metrics(TEXT))
        value: object
        if name == "page":
            value = {**self._view.page_status(), "unready_reason": self._view.unready_reason()}
        elif name == "clients":
            value = self._view.clients(*arguments)
        elif name == "disconnect":
            value = self._view.disconnect(*arguments)
        else:
            value = self._view.disconnect_user(*arguments)
        return encode_frame(ANSWER, json.dumps(value).encode())
