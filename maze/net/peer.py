"""The peer of a connection: its address and its name in the log."""

from __future__ import annotations

import itertools

Address = tuple[str, int] | tuple[str, int, int, int]

UNIX = "unix:"
"""What an address on a Unix socket begins with; the path follows."""

UNIX_PEER: Address = ("unix", 0)
"""Address of every peer on a Unix socket."""

_connections = itertools.count(1)


class Peer(str):
    """The peer's name in the log, ``host:port`` or ``unix``, and the number of its connection.

    The number identifies the connection within this process, even if a client connects again from
    the same port. ``processors.number_connection`` adds it to each log line that names the peer.
    """

    __slots__ = ("connection",)

    connection: int

    def __new__(cls, address: Address) -> Peer:
        """Return the peer of a new connection, with the next number."""
        peer = super().__new__(cls, peer_name(address))
        peer.connection = next(_connections)
        return peer

    def at(self, address: Address) -> Peer:
        """Return the same connection's peer, which has turned out to be at another address."""
        peer = super().__new__(type(self), peer_name(address))
        peer.connection = self.connection
        return peer


def endpoint_of(address: Address | str) -> tuple[str, int]:
    """Return host and port of a listening socket; ``unix:PATH`` and 0 of a Unix socket.

    ``address`` is what ``getsockname`` returns; it may not be that of an abstract Unix socket.
    """
    return (UNIX + address, 0) if isinstance(address, str) else (address[0], address[1])


def endpoint_name(endpoint: tuple[str, int]) -> str:
    """Return an endpoint in words: ``HOST port PORT`` or ``unix:PATH``."""
    host, port = endpoint
    return host if host.startswith(UNIX) else f"{host} port {port}"


def peer_name(address: Address) -> str:
    """Return ``host:port``, with the host in brackets if it is IPv6; ``unix`` on a Unix socket."""
    if address == UNIX_PEER:
        return "unix"
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
