"""Connections to ports that speak TLS, and the handshakes that they reject."""

from __future__ import annotations

from typing import Any

from gevent import ssl
from structlog.testing import LogCapture

from .peers import Client, Peer, Source, until
from .running import Maze

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def rejected(log: LogCapture) -> list[Any]:
    return [entry for entry in log.entries if entry["event"] == "handshake_rejected"]


def await_rejected(maze: Maze, port: str, reason: str, count: int = 1) -> None:
    part = maze.server.clients if port == "client" else maze.server.source
    counts = part.access.rejects.counts
    until(lambda: dict(counts) == {reason: count}, f"{count} rejected as {reason}")


def connect(maze: Maze, port: str, tls: ssl.SSLContext | None) -> Peer:
    """Connect to a port. Over TLS 1.3, a client learns only later that it was refused."""
    address = maze.client_address if port == "client" else maze.source_address
    return (Client if port == "client" else Source)(address, tls=tls)
