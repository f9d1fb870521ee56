"""Rejected handshakes: one list of reasons for both ports, counted and logged."""

from collections import Counter
from enum import StrEnum

import structlog

from maze.log.text import escaped
from maze.net.peer import Peer

log = structlog.get_logger()


class HandshakeReason(StrEnum):
    """Why a client's or a source's handshake was rejected."""

    BAD_USER = "bad_user"
    """The line is not a user id."""
    TOO_LONG = "too_long"
    """The line is longer than the limit."""
    HTTP = "http"
    """The line is an HTTP request line."""
    TIMEOUT = "timeout"
    """The TLS handshake and the line were not complete in time."""
    LEFT = "left"
    """The peer closed the connection before the TLS handshake and its line were complete."""
    ADDRESS = "address"
    """The peer's address is in none of the allowed ranges."""
    PROXY_HEADER = "proxy_header"
    """The peer is a proxy, but its connection does not begin with a valid PROXY header."""
    PROXY_UNEXPECTED = "proxy_unexpected"
    """The connection begins with a PROXY header, but the peer is not one of the proxies."""
    BUSY = "busy"
    """The maximum of sources is already in the handshake."""
    PLAIN_TEXT = "plain_text"
    """The port speaks TLS, the peer does not."""
    TLS_FAILED = "tls_failed"
    """The peer's TLS version, ciphers or certificate were not accepted."""
    OTHER_USER = "other_user"
    """The client's certificate does not name the user whose id it sent."""
    NOT_A_SOURCE = "not_a_source"
    """The certificate is valid but does not name a source."""
    FAILED = "failed"
    """An exception in the server, whose traceback is in the log."""


class HandshakeError(Exception):
    """Raised to reject a handshake, with a reason, the bytes received and a detail to log."""

    def __init__(self, reason: HandshakeReason, received: bytes = b"", detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.received = received
        self.detail = detail


class HandshakeRejects:
    """Counts and logs the rejected handshakes of one port."""

    def __init__(self, port: str) -> None:
        self.counts: Counter[HandshakeReason] = Counter()
        self._port = port

    def record(self, error: HandshakeError, peer: Peer) -> None:
        """Count and log one rejected handshake."""
        self.counts[error.reason] += 1
        details: dict[str, object] = {"reason": error.reason.value, self._port: peer}
        if error.detail:
            details["detail"] = error.detail
        else:
            details["received"] = escaped(error.received)
        write = log.debug if error.reason is HandshakeReason.LEFT else log.warning
        write("handshake_rejected", **details)

    def fail(self, peer: Peer) -> None:
        """Count a failed handshake, and log the exception that is being handled."""
        self.counts[HandshakeReason.FAILED] += 1
        log.exception("handshake_failed", **{self._port: peer})
