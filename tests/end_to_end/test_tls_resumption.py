"""TLS 1.2 sessions that clients offer to resume: each gets a full handshake instead."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta

import pytest
from gevent import ssl
from gevent.socket import create_connection

from .certificates import Authority, Certificate, Wire
from .peers import SERVER_NAME, patience, until
from .running import Maze
from .tls_ports import await_rejected

KINDS = ["ticket", "session id"]
"""What a TLS 1.2 client can present to resume an earlier session."""


@pytest.fixture
def wire(authority: Authority) -> Wire:
    """Use TLS on both ports."""
    return Wire(authority)


@contextmanager
def agreed(
    maze: Maze, context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> Iterator[ssl.SSLSocket]:
    """Connect to the client port, and perform the TLS handshake."""
    with patience("the TLS handshake"), closing(create_connection(maze.client_address)) as sock:
        yield context.wrap_socket(sock, server_hostname=SERVER_NAME, session=session)


def offering(authority: Authority, kind: str, certificate: Certificate) -> ssl.SSLContext:
    """Return the context of a client that offers to resume by a ticket or a session id."""
    context = authority.context(certificate, ssl.TLSVersion.TLSv1_2)
    if kind == "session id":
        context.options |= ssl.OP_NO_TICKET
    return context


@pytest.mark.parametrize("kind", KINDS)
def test_an_offered_session_is_not_resumed(
    start: Callable[..., Maze], authority: Authority, kind: str
) -> None:
    maze = start(client_tls_ca=authority.cert)
    context = offering(authority, kind, authority.issue("7"))
    with agreed(maze, context) as first:
        session = first.session
        for _ in range(3):
            with agreed(maze, context, session) as sock:
                assert not sock.session_reused
                session = sock.session


def test_a_connection_opened_earlier_cannot_resume_a_later_session(
    maze: Maze, authority: Authority
) -> None:
    context = offering(authority, "session id", authority.issue("7"))
    with closing(create_connection(maze.client_address)) as silent:
        until(
            lambda: maze.server.clients.limits.handshakes == 1,
            "the server to wait for the silent client",
        )
        with agreed(maze, context) as first, patience("the server to close the connection"):
            late = context.wrap_socket(silent, server_hostname=SERVER_NAME, session=first.session)
            assert late.session_reused
            with suppress(OSError):  # already closed
                late.sendall(b"7\n")
                assert not late.recv(1)
            await_rejected(maze, "client", "tls_failed")
    assert not maze.server.sessions.closed


def test_sessions_do_not_pile_up(start: Callable[..., Maze], authority: Authority) -> None:
    maze = start()
    context = offering(authority, "session id", authority.issue("7"))
    for _ in range(5):
        _session(maze, context)
        maze.await_sessions(0)
    server = maze.server.clients.access.context
    assert server
    assert server.remembered_sessions <= 1


def test_a_certificate_that_has_expired_since_is_refused(
    start: Callable[..., Maze], authority: Authority
) -> None:
    maze = start(client_tls_ca=authority.cert)
    sessions, expiry = _sessions_of_a_short_life(maze, authority)
    rejected = maze.server.clients.access.rejects.counts
    rejected.clear()
    # OpenSSL's clock advances with the kernel's ticks, so it may be behind this one.
    until(lambda: time.time() >= expiry + 0.5, "the certificate to expire")
    for count, (context, session) in enumerate(sessions, start=1):
        with pytest.raises(OSError, match="certificate expired"):  # noqa: SIM117
            with agreed(maze, context, session):
                pass
        await_rejected(maze, "client", "tls_failed", count)
    assert not maze.sessions


def _sessions_of_a_short_life(
    maze: Maze, authority: Authority
) -> tuple[list[tuple[ssl.SSLContext, ssl.SSLSession]], float]:
    """Return a session of each kind, and when their certificate expires."""
    for seconds in (2, 4, 8, 16):  # the first suffices, unless the machine is very slow
        certificate = authority.issue("7", lifetime=timedelta(seconds=seconds))
        contexts = [offering(authority, kind, certificate) for kind in KINDS]
        try:
            sessions = [_session(maze, context) for context in contexts]
        except OSError:
            continue
        return sessions, certificate.x509.not_valid_after_utc.timestamp()
    raise AssertionError("no certificate lived long enough")


def _session(maze: Maze, context: ssl.SSLContext) -> tuple[ssl.SSLContext, ssl.SSLSession]:
    """Return a session that ended in order, so that the server may remember it."""
    with agreed(maze, context) as sock:
        assert sock.session
        sock.sendall(b"7\n")
        maze.await_sessions(1)
        maze.session(7).close_when_sent()
        assert not sock.recv(1)
        return context, sock.session
