"""Limits on the client port's connections: total, per address, per user, and in the handshake.

A connection counts against ``max-clients`` from accept, before its greenlet runs, until close.
A connection over a limit is closed at once and logged, and the refusal is counted. This module
must not depend on sessions.
"""

from collections import Counter
from enum import StrEnum

import structlog

from maze.net.peer import Address, Peer
from maze.settings.options import Settings

log = structlog.get_logger()

MAX_SOURCE_HANDSHAKES = 100
"""Maximum sources in the TLS handshake at a time; each needs a descriptor."""


class RefusalReason(StrEnum):
    """Why a client was refused: the option whose limit was reached."""

    MAX_CLIENTS = "max_clients"
    MAX_CLIENTS_PER_ADDRESS = "max_clients_per_address"
    MAX_CLIENTS_PER_USER = "max_clients_per_user"
    MAX_HANDSHAKES = "max_handshakes"


class ConnectionLimits:
    """The connections that count against each limit of the client port."""

    def __init__(self, settings: Settings) -> None:
        self.max_clients = settings.max_clients
        """Maximum connections; the server reduces it if the system allows too few descriptors."""
        self._max_per_address = settings.max_clients_per_address
        self._max_per_user = settings.max_clients_per_user
        self._max_handshakes = settings.max_handshakes
        self._by_host: Counter[str] = Counter()
        self._pending: set[Address] = set()
        self.taken = 0
        """Connections that count against ``max-clients``: accepted and not yet closed."""
        self.refused: Counter[RefusalReason] = Counter()

    @property
    def handshakes(self) -> int:
        """Connections that wait for their id line."""
        return len(self._pending)

    def acquire(self, address: Address) -> bool:
        """Count an accepted connection. If it is over a limit, count a refusal and return False."""
        host = address[0]
        if self.taken >= self.max_clients:
            return self._refuse(RefusalReason.MAX_CLIENTS, self.max_clients, Peer(address))
        if self._by_host[host] >= self._max_per_address:
            limit = self._max_per_address
            return self._refuse(RefusalReason.MAX_CLIENTS_PER_ADDRESS, limit, Peer(address))
        self.taken += 1
        self._by_host[host] += 1
        return True

    def begin_handshake(self, address: Address, peer: Peer) -> bool:
        """Count a pending handshake. If there are too many, count a refusal and return False.

        Called in the connection's greenlet, not at accept. When ten thousand clients connect at
        once, many are accepted before the first greenlet runs, though all have sent their id.
        """
        if self.handshakes >= self._max_handshakes:
            return self._refuse(RefusalReason.MAX_HANDSHAKES, self._max_handshakes, peer)
        self._pending.add(address)
        return True

    def has_room_for(self, user: int, sessions: int, peer: Peer) -> bool:
        """Return whether a user with ``sessions`` may open one more; if not, count a refusal."""
        if sessions >= self._max_per_user:
            reason = RefusalReason.MAX_CLIENTS_PER_USER
            return self._refuse(reason, self._max_per_user, peer, user=user)
        return True

    def end_handshake(self, address: Address) -> None:
        """Stop counting the connection as a pending handshake: its id line has been read."""
        self._pending.discard(address)

    def release(self, address: Address) -> None:
        """Stop counting a connection that has been closed."""
        host = address[0]
        self.taken -= 1
        self._by_host[host] -= 1
        if not self._by_host[host]:
            del self._by_host[host]
        self._pending.discard(address)

    def _refuse(self, reason: RefusalReason, limit: int, peer: Peer, **details: object) -> bool:
        """Count and log a refusal; return False."""
        self.refused[reason] += 1
        log.warning("client_refused", reason=reason.value, client=peer, limit=limit, **details)
        return False
