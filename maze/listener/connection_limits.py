"""The places for clients: how many connections the client port takes, and from whom.

A connection takes a place when it is accepted, before a greenlet runs for it,
and frees it when it is closed. Where a bound leaves no
place the connection is closed at once, counted by the bound, and logged. It must
never know sessions.
"""

from collections import Counter
from enum import StrEnum

import structlog

from maze.net.peer import Address, Peer
from maze.settings.options import Settings

log = structlog.get_logger()

MAX_OPENING_SOURCES = 100
"""Sources that may be in TLS's handshake at a time; each takes a descriptor."""


class RefusalReason(StrEnum):
    """Why a client was refused: the option whose bound was reached."""

    MAX_CLIENTS = "max_clients"
    MAX_CLIENTS_PER_ADDRESS = "max_clients_per_address"
    MAX_CLIENTS_PER_USER = "max_clients_per_user"
    MAX_HANDSHAKES = "max_handshakes"


class ConnectionLimits:
    """Who has a place on the client port."""

    def __init__(self, settings: Settings) -> None:
        self.max_clients = settings.max_clients
        """lowered where the system allows fewer descriptors"""
        self._max_per_address = settings.max_clients_per_address
        self._max_per_user = settings.max_clients_per_user
        self._max_handshakes = settings.max_handshakes
        self._by_host: Counter[str] = Counter()
        self._pending: set[Address] = set()
        self.taken = 0
        """connections that have a place, whether they have said who they are or not"""
        self.refused: Counter[RefusalReason] = Counter()

    @property
    def handshakes(self) -> int:
        """Connections that have not said yet who they are."""
        return len(self._pending)

    def acquire(self, address: Address) -> bool:
        """Take a place; false, and the refusal counted, if there is none."""
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
        """Begin to wait for who it is; false, and the refusal counted, if too many are waited for.

        This is for its greenlet to call, not when it is accepted: of ten thousand
        clients that come at once, and have all said who they are, many are
        accepted before the first greenlet runs.
        """
        if self.handshakes >= self._max_handshakes:
            return self._refuse(RefusalReason.MAX_HANDSHAKES, self._max_handshakes, peer)
        self._pending.add(address)
        return True

    def has_room_for(self, user: int, sessions: int, peer: Peer) -> bool:
        """Whether a user with ``sessions`` may have another; if not, count and log a refusal."""
        if sessions >= self._max_per_user:
            reason = RefusalReason.MAX_CLIENTS_PER_USER
            return self._refuse(reason, self._max_per_user, peer, user=user)
        return True

    def end_handshake(self, address: Address) -> None:
        """The client has said who it is."""
        self._pending.discard(address)

    def release(self, address: Address) -> None:
        """The connection has been closed; its place is free."""
        host = address[0]
        self.taken -= 1
        self._by_host[host] -= 1
        if not self._by_host[host]:
            del self._by_host[host]
        self._pending.discard(address)

    def _refuse(self, reason: RefusalReason, limit: int, peer: Peer, **details: object) -> bool:
        self.refused[reason] += 1
        log.warning("client_refused", reason=reason.value, client=peer, limit=limit, **details)
        return False
