"""The other end of a connection: its address, and how the log names it."""

from __future__ import annotations

import itertools

Address = tuple[str, int] | tuple[str, int, int, int]

_connections = itertools.count(1)


class Peer(str):
    """A connection as the log names it: ``host:port``, and the number it was given.

    The number tells one connection from all others of this process, even where a client
    came again from the same port; every log line that names the peer shows it (``log_lines``).
    """

    __slots__ = ("connection",)

    connection: int

    def __new__(cls, address: Address) -> Peer:
        """The next connection, from that address."""
        peer = super().__new__(cls, peer_name(address))
        peer.connection = next(_connections)
        return peer


def peer_name(address: Address) -> str:
    """``host:port``, the host in brackets if it is IPv6."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
