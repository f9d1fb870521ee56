"""Queries and options of sockets that both ports use."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import select
import socket
import struct
import termios
from typing import Any, cast

import gevent
from gevent import Greenlet
from gevent.socket import socket as GeventSocket  # noqa: N812

_ESTABLISHED, _CLOSE = 1, 7
"""TCP states, the first byte of ``tcp_info`` (TCP_ESTABLISHED, TCP_CLOSE in <netinet/tcp.h>)."""

VANISHED = {
    errno.ETIMEDOUT,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EHOSTDOWN,
    errno.ENETDOWN,
}
"""Errors that mean that the peer, or the network to it, does not answer any more."""


def current_greenlet() -> Greenlet[..., Any]:
    """Return the running greenlet; each connection has its own."""
    return cast("Greenlet[..., Any]", gevent.getcurrent())


def send_at_once(sock: GeventSocket) -> None:
    """Turn off Nagle's algorithm: the kernel sends small segments without waiting for ACKs."""
    with contextlib.suppress(OSError):  # reset meanwhile; the next read or write reports it
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def peer_has_closed(sock: GeventSocket) -> bool:
    """Return whether the peer has closed its sending half, even if bytes are still unread.

    Only Linux reports this; elsewhere the result is False.
    """
    if sock.family == socket.AF_UNIX:
        return _has_event(sock, getattr(select, "POLLRDHUP", 0))
    return _state(sock) != _ESTABLISHED


def is_broken(sock: GeventSocket) -> bool:
    """Return whether the connection was reset or has timed out, even if no read reported it yet.

    Only Linux reports this; elsewhere the result is False.
    """
    if sock.family == socket.AF_UNIX:
        return _has_event(sock, select.POLLERR)
    return _state(sock) == _CLOSE


def peek(sock: GeventSocket, size: int) -> bytes:
    """Return at most ``size`` received bytes and leave them unread. Never waits."""
    timeout = sock.gettimeout()
    sock.settimeout(0.0)
    try:
        return bytes(sock.recv(size, socket.MSG_PEEK))
    except OSError:
        return b""
    finally:
        sock.settimeout(timeout)


def _has_event(sock: GeventSocket, event: int) -> bool:
    """Return whether poll(2) reports an event now; also if the socket is closed on this side."""
    if sock.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(sock.fileno(), event)
    return any(events & event for _, events in poll.poll(0))


def _state(sock: GeventSocket) -> int:
    """Return a connection's TCP state; ``_ESTABLISHED`` if the system does not report it."""
    if not hasattr(socket, "TCP_INFO"):
        return _ESTABLISHED
    try:
        return int(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0])
    except OSError:  # closed on this side
        return _CLOSE


def has_vanished(error: OSError) -> bool:
    """Return whether the error means that the peer, or the network to it, does not answer."""
    return error.errno in VANISHED


def unacknowledged_bytes(descriptor: int) -> int:
    """Return the number of bytes sent that the peer's kernel has not acknowledged.

    Only Linux reports this, by SIOCOUTQ (tcp(7)), the same number as TIOCOUTQ. Elsewhere the
    result is 0.
    """
    if not hasattr(socket, "TCP_INFO"):
        return 0
    return int(struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)))[0])
