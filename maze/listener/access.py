"""Access control of one port: by address, by TLS, and by the names in the peer's certificate.

This module must not depend on what a connection is for.
"""

import time

from gevent.socket import socket

from maze.core import parse_number
from maze.listener.handshake_rejects import HandshakeError, HandshakeReason, HandshakeRejects
from maze.listener.proxies import (
    Proxies,
    is_within,
    receive_proxy_header,
    reject_proxy_header,
)
from maze.listener.registration_wait import Registration
from maze.listener.tls import HandshakeSlices, TlsConnection
from maze.listener.tls_context import Context
from maze.net.connection import Connection
from maze.net.peer import UNIX_PEER, Address
from maze.settings.option_types import ANY_NAME
from maze.settings.options import Settings
from maze.settings.port import PortSettings

USER_URI = "maze:user:"
"""Prefix of a URI in a certificate that names a user; the user id follows."""

SOURCE_URI = "maze:source"
"""URI in a certificate that names an event source."""


class Access:
    """Access control of one port: the checks that a connection must pass before it is served.

    ``context`` may be replaced at any time; new connections use the new one. ``registration``
    watches TLS connections that may carry a client's id.
    """

    def __init__(
        self,
        port: PortSettings,
        settings: Settings,
        context: Context,
        registration: Registration | None = None,
    ) -> None:
        self.context = context
        self._registration = registration
        self.rejects = HandshakeRejects(port.name)
        self._reads_proxy_header = port.name != "feed"
        self._proxies = Proxies(settings.proxy_from if self._reads_proxy_header else ())
        self._ranges = port.allow
        self._allow_option = f"--allow-{port.name}"
        self._timeout = settings.handshake_timeout
        self._slices = HandshakeSlices()
        self._by_certificate = port.name == "client" and settings.client_identity == "certificate"
        self._by_role = (
            port.name == "source" and port.tls_ca is not None and settings.source_names != ANY_NAME
        )
        self._source_names = set(settings.source_names)

    def deadline(self) -> float:
        """Return when a handshake that begins now has to be complete, by the monotonic clock."""
        return time.monotonic() + self._timeout

    def is_proxy(self, address: Address) -> bool:
        """Return whether the peer is a proxy, whose connection begins with a PROXY header."""
        return address in self._proxies

    def real_address(self, sock: socket, address: Address, deadline: float) -> Address:
        """Return the address for which a proxy has connected; its own if its header gives none.

        Receives the PROXY header. Raise HandshakeError if there is none before the deadline.
        """
        return receive_proxy_header(sock, deadline) or address

    def authorize(
        self, sock: socket, address: Address, deadline: float
    ) -> tuple[Connection, float]:
        """Check the address and complete TLS; return the connection and its handshake's deadline.

        The deadline (by the monotonic clock) is extended by the time for which the server kept the
        peer waiting, as it does when many peers connect at once. Raise HandshakeError if the peer
        is rejected or late.
        """
        if not self._allows(address):
            raise HandshakeError(
                HandshakeReason.ADDRESS, detail=f"the address is not in {self._allow_option}"
            )
        if self.context is None:
            return Connection(sock), deadline
        connection = TlsConnection(sock, self.context, self._slices, self._registration)
        try:
            connection.handshake(deadline)
        except HandshakeError as error:
            if self._reads_proxy_header:
                reject_proxy_header(error.received)
            raise
        return connection, deadline + connection.waited_seconds

    def check_user(self, connection: Connection, user: int) -> None:
        """Raise HandshakeError if the client's certificate must name the user but does not."""
        if not self._by_certificate:
            return
        common_names, uris = connection.peer_names()
        users = [uri.removeprefix(USER_URI) for uri in uris if uri.startswith(USER_URI)]
        names = common_names + users
        if user not in [parse_number(name.encode()) for name in names]:
            raise HandshakeError(
                HandshakeReason.OTHER_USER,
                detail=f"sent user id {user}, its certificate names {_listed(names)}"[:200],
            )

    def check_source(self, connection: Connection) -> None:
        """Raise HandshakeError if the source's certificate must name a source but does not."""
        if not self._by_role:
            return
        common_names, uris = connection.peer_names()
        if SOURCE_URI not in uris and not self._source_names.intersection(common_names):
            raise HandshakeError(
                HandshakeReason.NOT_A_SOURCE,
                detail=f"its certificate names {_listed(common_names + uris)[:100]}, "
                f"neither {SOURCE_URI} nor one of source-names",
            )

    def _allows(self, address: Address) -> bool:
        return not self._ranges or address == UNIX_PEER or is_within(address, self._ranges)


def _listed(names: list[str]) -> str:
    """Return the names without duplicates, separated by commas."""
    return ", ".join(dict.fromkeys(names)) or "nothing"
