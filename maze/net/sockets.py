"""What both ports need to know of sockets and greenlets."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import socket
import struct
import termios
from typing import Any, cast

import gevent
from gevent import Greenlet
from gevent.socket import socket as GeventSocket  # noqa: N812

_ESTABLISHED, _CLOSE = 1, 7  # TCP_... in <netinet/tcp.h>; tcp_info starts with the state

VANISHED = {
    errno.ETIMEDOUT,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EHOSTDOWN,
    errno.ENETDOWN,
}


def current_greenlet() -> Greenlet[..., Any]:
    """The greenlet that runs; every connection has one."""
    return cast("Greenlet[..., Any]", gevent.getcurrent())


def send_at_once(sock: GeventSocket) -> None:
    """Turn off Nagle's algorithm: the system sends small segments without waiting for ACKs."""
    with contextlib.suppress(OSError):  # reset meanwhile; the next read or write reports it
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def peer_has_closed(sock: GeventSocket) -> bool:
    """True if the peer has closed its side, even where that was not read yet.

    Where the system does not tell (it is Linux that does), the answer is False.
    """
    return _state(sock) != _ESTABLISHED


def is_broken(sock: GeventSocket) -> bool:
    """Whether the connection was reset or has timed out, even if that was not read yet.

    Only Linux tells; elsewhere the answer is False.
    """
    return _state(sock) == _CLOSE


def peek(sock: GeventSocket, size: int) -> bytes:
    """Return at most ``size`` bytes that have come and leave them there; never waits."""
    timeout = sock.gettimeout()
    sock.settimeout(0.0)
    try:
        return bytes(sock.recv(size, socket.MSG_PEEK))
    except OSError:
        return b""
    finally:
        sock.settimeout(timeout)


def _state(sock: GeventSocket) -> int:
    """Return a connection's TCP state; established where the system does not tell."""
    if not hasattr(socket, "TCP_INFO"):
        return _ESTABLISHED
    try:
        return int(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0])
    except OSError:  # it is closed on this side
        return _CLOSE


def has_vanished(error: OSError) -> bool:
    """Whether a connection broke because the peer, or the way to it, is not there any more."""
    return error.errno in VANISHED


def unacknowledged_bytes(descriptor: int) -> int:
    """Bytes sent on a TCP connection that the peer's system has not acknowledged.

    Source: SIOCOUTQ in tcp(7), the same number as TIOCOUTQ. Where the system does not
    tell (it is Linux that does), the answer is 0.
    """
    if not hasattr(socket, "TCP_INFO"):
        return 0
    return int(struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)))[0])
