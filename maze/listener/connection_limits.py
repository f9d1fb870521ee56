"""Limits on the client port's connections: total, per address, per user, and in the handshake.

A connection counts against ``max-clients`` from accept, before its greenlet runs, until close.
A connection over a limit is closed at once and logged, and the refusal is counted. This module
must not depend on sessions.
"""

from collections import Counter
from collections.abc import Hashable
from enum import StrEnum

import structlog

from maze.listener.proxies import Proxies
from maze.net.peer import UNIX_PEER, Address, Peer
from maze.settings.options import Settings

log = structlog.get_logger()

MAX_SOURCE_HANDSHAKES = 100
"""Maximum sources in the handshake at a time, PROXY header included; each needs a descriptor."""


class RefusalReason(StrEnum):
    """Why a client was refused: the option whose limit was reached."""

    MAX_CLIENTS = "max_clients"
    MAX_CLIENTS_PER_ADDRESS = "max_clients_per_address"
    MAX_CLIENTS_PER_USER = "max_clients_per_user"
    MAX_HANDSHAKES = "max_handshakes"


class ConnectionLimits:
    """The connections that count against each limit of the client port.

    A connection is identified by any object of its own, such as its socket. Peers on a Unix socket
    do not count by address. A proxy's connection counts by address only once its PROXY header has
    been read.
    """

    def __init__(self, settings: Settings) -> None:
        self.max_clients = settings.max_clients
        """Maximum connections; the server reduces it if the system allows too few descriptors."""
        self._max_per_address = settings.max_clients_per_address
        self._max_per_user = settings.max_clients_per_user
        self._max_handshakes = settings.max_handshakes
        self._proxies = Proxies(settings.proxy_from)
        self._hosts: dict[Hashable, str | None] = {}
        """The host for which each connection counts, if it does for one."""
        self._by_host: Counter[str] = Counter()
        self._pending: set[Hashable] = set()
        self.refused: Counter[RefusalReason] = Counter()

    @property
    def taken(self) -> int:
        """Connections that count against ``max-clients``: accepted and not yet closed."""
        return len(self._hosts)

    @property
    def handshakes(self) -> int:
        """Connections that wait for their id line."""
        return len(self._pending)

    def acquire(self, connection: Hashable, address: Address) -> bool:
        """Count an accepted connection. If it is over a limit, count a refusal and return False."""
        if self.taken >= self.max_clients:
            return self._refuse(RefusalReason.MAX_CLIENTS, self.max_clients, Peer(address))
        self._hosts[connection] = None
        if address in self._proxies or self._count_host(connection, address):
            return True
        del self._hosts[connection]
        return self._refuse_host(Peer(address))

    def identify(self, connection: Hashable, address: Address, peer: Peer) -> bool:
        """Count a proxy's connection by the address that is in its PROXY header.

        If there are too many from there, count a refusal and return False.
        """
        return self._count_host(connection, address) or self._refuse_host(peer)

    def begin_handshake(self, connection: Hashable, peer: Peer) -> bool:
        """Count a pending handshake. If there are too many, count a refusal and return False.

        Called in the connection's greenlet, not at accept. When ten thousand clients connect at
        once, many are accepted before the first greenlet runs, though all have sent their id.
        """
        if self.handshakes >= self._max_handshakes:
            return self._refuse(RefusalReason.MAX_HANDSHAKES, self._max_handshakes, peer)
        self._pending.add(connection)
        return True

    def has_room_for(self, user: int, sessions: int, peer: Peer) -> bool:
        """Return whether a user with ``sessions`` may open one more; if not, count a refusal."""
        if sessions >= self._max_per_user:
            reason = RefusalReason.MAX_CLIENTS_PER_USER
            return self._refuse(reason, self._max_per_user, peer, user=user)
        return True

    def end_handshake(self, connection: Hashable) -> None:
        """Stop counting the connection as a pending handshake: its id line has been read."""
        self._pending.discard(connection)

    def release(self, connection: Hashable) -> None:
        """Stop counting a connection that has been closed."""
        host = self._hosts.pop(connection)
        if host is not None:
            self._by_host[host] -= 1
            if not self._by_host[host]:
                del self._by_host[host]
        self._pending.discard(connection)

    def _count_host(self, connection: Hashable, address: Address) -> bool:
        """Count a connection by its host; return False if the host has too many."""
        if address == UNIX_PEER:
            return True
        host = address[0]
        if self._by_host[host] >= self._max_per_address:
            return False
        self._by_host[host] += 1
        self._hosts[connection] = host
        return True

    def _refuse_host(self, peer: Peer) -> bool:
        return self._refuse(RefusalReason.MAX_CLIENTS_PER_ADDRESS, self._max_per_address, peer)

    def _refuse(self, reason: RefusalReason, limit: int, peer: Peer, **details: object) -> bool:
        """Count and log a refusal; return False."""
        self.refused[reason] += 1
        log.warning("client_refused", reason=reason.value, client=peer, limit=limit, **details)
        return False
