"""The proxies that say in a PROXY header for whom they connect, and how that header is received."""

import time
from collections.abc import Collection
from ipaddress import IPv6Address, ip_address
from socket import MSG_PEEK

from gevent.socket import socket

from maze.core import (
    MAX_PROXY_HEADER_BYTES,
    ProxyHeaderError,
    is_proxy_header,
    parse_proxy_header,
)
from maze.listener.handshake_rejects import HandshakeError, HandshakeReason
from maze.net.peer import UNIX_PEER, Address
from maze.settings.option_types import UNIX_PEERS, Network, PeerRange


class Proxies:
    """The peers that ``proxy-from`` names: their connections begin with a PROXY header."""

    def __init__(self, ranges: Collection[PeerRange]) -> None:
        self._networks = [each for each in ranges if not isinstance(each, str)]
        self._has_unix = UNIX_PEERS in ranges

    def __contains__(self, address: Address) -> bool:
        """Return whether the peer with this address is a proxy."""
        return self._has_unix if address == UNIX_PEER else is_within(address, self._networks)


def is_within(address: Address, networks: Collection[Network]) -> bool:
    """Return whether an IP address is within one of the networks."""
    if not networks:
        return False
    peer = ip_address(address[0])
    if isinstance(peer, IPv6Address) and peer.ipv4_mapped:
        peer = peer.ipv4_mapped
    return any(peer in network for network in networks)


def receive_proxy_header(sock: socket, deadline: float) -> Address | None:
    """Receive a PROXY header, and no byte of what follows it; return the address that it gives.

    Return None if it gives none. ``deadline`` is a time of the monotonic clock. Raise
    HandshakeError.
    """
    received = b""
    while True:
        # While the header is incomplete, everything that has come belongs to it. So bytes are
        # looked at first, and then only those of the header are taken.
        news = _await_bytes(sock, deadline)
        try:
            header = parse_proxy_header(received + news)
        except ProxyHeaderError as error:
            raise HandshakeError(HandshakeReason.PROXY_HEADER, detail=str(error)) from None
        size = header.size - len(received) if header else len(news)
        received += _take_bytes(sock, size)
        if header:
            return header.address


def _await_bytes(sock: socket, deadline: float) -> bytes:
    """Return what comes next, without taking it. Raise HandshakeError if nothing does in time."""
    sock.settimeout(max(0.0, deadline - time.monotonic()))
    try:
        news = bytes(sock.recv(MAX_PROXY_HEADER_BYTES, MSG_PEEK))
    except (TimeoutError, BlockingIOError):
        raise HandshakeError(
            HandshakeReason.TIMEOUT, detail="the PROXY header is not complete"
        ) from None
    except OSError:
        news = b""
    if not news:
        raise _left()
    return news


def _take_bytes(sock: socket, size: int) -> bytes:
    """Take bytes that have come. Raise HandshakeError if the peer has reset the connection."""
    try:
        return bytes(sock.recv(size))
    except OSError:
        raise _left() from None


def _left() -> HandshakeError:
    return HandshakeError(HandshakeReason.LEFT, detail="before the end of its PROXY header")


def reject_proxy_header(received: bytes) -> None:
    """Raise HandshakeError if the received bytes begin with a PROXY header.

    A header that was expected has already been taken: this one is not from the proxy.
    """
    if is_proxy_header(received):
        raise HandshakeError(
            HandshakeReason.PROXY_UNEXPECTED,
            detail="a PROXY header, but --proxy-from does not name the address that sent it",
        )
