"""Access control of a port: who is let in, by address, by TLS, and as which user.

It must never know what a connection is for.
"""

import time
from ipaddress import IPv6Address, ip_address

from gevent.socket import socket

from maze.core import parse_number
from maze.listener.refusals import HandshakeError, HandshakeReason, HandshakeRejects
from maze.listener.registration_wait import Registration
from maze.listener.tls import HandshakeSlices, TlsConnection
from maze.listener.tls_context import Context
from maze.net.connection import Connection
from maze.net.peer import Address
from maze.settings.option_types import ANY_NAME
from maze.settings.options import Settings
from maze.settings.port import PortSettings

USER_URI = "maze:user:"
"""prefix of a URI that names a user in a certificate; the user id follows"""

SOURCE_URI = "maze:source"
"""the URI that names an event source in its certificate"""


class Access:
    """Lets connections in on one port, or says why not.

    ``context`` may be replaced at any time; it concerns connections from then on.
    TLS connections tell ``registration`` when an id may have arrived.
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
        self._ranges = port.allow
        self._timeout = settings.handshake_timeout
        self._slices = HandshakeSlices()
        self._by_certificate = port.name == "client" and settings.client_identity == "certificate"
        self._by_role = (
            port.name == "source" and port.tls_ca is not None and settings.source_names != ANY_NAME
        )
        self._source_names = set(settings.source_names)

    def deadline(self) -> float:
        """When a handshake that begins now has to be over, by the monotonic clock."""
        return time.monotonic() + self._timeout

    def authorize(
        self, sock: socket, address: Address, deadline: float
    ) -> tuple[Connection, float]:
        """The connection on which to go on, TLS agreed on if the port speaks it, and its deadline.

        That is later by what the peer had to wait for the server, where many
        came at once. Raises HandshakeError, at the deadline at the latest.
        """
        if not self._allows(address):
            raise HandshakeError(HandshakeReason.ADDRESS, detail="not in the ranges let in")
        if self.context is None:
            return Connection(sock), deadline
        connection = TlsConnection(sock, self.context, self._slices, self._registration)
        connection.handshake(deadline)
        return connection, deadline + connection.waited_seconds

    def check_user(self, connection: Connection, user: int) -> None:
        """Raise HandshakeError if the client's certificate has to name the user, and does not."""
        if not self._by_certificate:
            return
        common_names, uris = connection.peer_names()
        users = [uri.removeprefix(USER_URI) for uri in uris if uri.startswith(USER_URI)]
        names = common_names + users
        if user not in [parse_number(name.encode()) for name in names]:
            raise HandshakeError(
                HandshakeReason.OTHER_USER,
                detail=f"says {user}, its certificate {_listed(names)}"[:200],
            )

    def check_source(self, connection: Connection) -> None:
        """Raise HandshakeError if the certificate has to name a source, and does not."""
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
        if not self._ranges:
            return True
        peer = ip_address(address[0])
        if isinstance(peer, IPv6Address) and peer.ipv4_mapped:
            peer = peer.ipv4_mapped
        return any(peer in each for each in self._ranges)


def _listed(names: list[str]) -> str:
    return ", ".join(dict.fromkeys(names)) or "nothing"  # without duplicates
